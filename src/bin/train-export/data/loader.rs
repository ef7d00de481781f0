//! Batches, made ahead of the trainer by worker threads. The order and content of batches depend on the seed alone,
//! never on the number of workers. At most two batches a worker wait or are in the making; dropping the loader ends its
//! threads once each has finished the clip at hand.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use kinora::model::graph::Graph;
use tch::Tensor;

use super::{Dataset, Part, Sample, mix};

/// What batches are wanted.
#[derive(Debug, Clone)]
pub struct Batches {
    /// Clips in a batch, at least one.
    pub size: usize,
    /// Frames before each window: as many for all clips of a batch. Half of the batches have the most, which is what a
    /// stream sees nearly always; those of the others are drawn evenly.
    pub past: RangeInclusive<usize>,
    /// Threads that make them, at least one.
    pub workers: usize,
    /// Decides what is drawn by lot.
    pub seed: u64,
}

/// Several clips at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The clips, `[N, C, past + T, H, W]`.
    pub clips: Vec<f32>,
    /// What each of them shows: indices of classes.
    pub labels: Vec<Vec<usize>>,
    /// Of each of them [`Sample::moments`].
    pub moments: Vec<Vec<Option<usize>>>,
}

impl Batch {
    /// The clips for the net of `graph`, `[N, C, past + T, H, W]`.
    ///
    /// # Errors
    /// When they are not of its shape.
    pub fn tensor(&self, graph: &Graph) -> anyhow::Result<Tensor> {
        let mut shape: Vec<i64> = graph.input_shape().iter().map(|&n| n as i64).collect();
        (shape[0], shape[2]) = (self.labels.len() as i64, -1);
        Ok(Tensor::f_from_slice(&self.clips)?.f_reshape(&shape)?)
    }
}

/// An iterator of batches: endless for [`Part::Train`] (each pass over finite data in an order of its own), one pass in
/// order for the other parts. It ends after an error.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    plan: Plan,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The next batch that no worker has taken.
    next: u64,
    /// The next batch that the consumer gets.
    wanted: u64,
    ready: BTreeMap<u64, anyhow::Result<Batch>>,
    stop: bool,
}

struct Plan {
    dataset: Arc<dyn Dataset>,
    part: Part,
    wanted: Batches,
    /// Batches that may be taken before the consumer has got the first of them.
    ahead: u64,
    /// Number of batches, or none when there is no end.
    batches: Option<u64>,
}

impl Loader {
    /// Starts threads that make the batches `wanted` of clips of `part`.
    pub fn new(dataset: Arc<dyn Dataset>, part: Part, wanted: Batches) -> Self {
        let (size, workers) = (wanted.size.max(1), wanted.workers.max(1));
        let batches = match (part, dataset.len(part)) {
            (_, Some(0)) => Some(0),
            (Part::Train, _) | (_, None) => None,
            (_, Some(len)) => Some(len.div_ceil(size) as u64),
        };
        let wanted = Batches { size, workers, ..wanted };
        let plan = Plan { dataset, part, wanted, ahead: 2 * workers as u64, batches };
        let state = State { next: 0, wanted: 0, ready: BTreeMap::new(), stop: false };
        let shared = Arc::new(Shared { plan, state: Mutex::new(state), changed: Condvar::new() });
        let workers = (0..workers)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || shared.work())
            })
            .collect();
        Self { shared, workers }
    }
}

impl Iterator for Loader {
    type Item = anyhow::Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let shared = &self.shared;
        let mut state = shared.lock();
        let wanted = state.wanted;
        if state.stop || shared.plan.batches.is_some_and(|n| wanted >= n) {
            return None;
        }
        loop {
            if let Some(batch) = state.ready.remove(&wanted) {
                state.wanted += 1;
                state.stop |= batch.is_err();
                shared.changed.notify_all();
                return Some(batch);
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker hands its own panic over as an error.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(number) = self.take() {
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.make(number)));
            let batch = match made {
                Ok(Ok(Some(batch))) => Ok(batch),
                Ok(Ok(None)) => return,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(anyhow::anyhow!("loading batch {number}: a worker panicked")),
            };
            self.lock().ready.insert(number, batch);
            self.changed.notify_all();
        }
    }

    /// Waits for a batch to make; `None` when there is none left or the loader is dropped.
    fn take(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.stop || self.plan.batches.is_some_and(|n| state.next >= n) {
                return None;
            }
            if state.next < state.wanted + self.plan.ahead {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Batch `number`; `None` when the loader was dropped meanwhile.
    fn make(&self, number: u64) -> anyhow::Result<Option<Batch>> {
        let plan = &self.plan;
        let Batches { size, ref past, seed, .. } = plan.wanted;
        let past = drawn(past, mix(&[seed, number, 2]));
        let first = number * size as u64;
        let len = plan.dataset.len(plan.part).map(|n| n as u64);
        let end = match plan.part {
            Part::Train => first + size as u64,
            _ => len.map_or(u64::MAX, |n| n).min(first + size as u64),
        };
        let mut batch = Batch { clips: Vec::new(), labels: Vec::new(), moments: Vec::new() };
        let mut order = None;
        for position in first..end {
            if self.lock().stop {
                return Ok(None);
            }
            let index = match len {
                Some(len) if plan.part == Part::Train => shuffled(position, len, seed, &mut order),
                _ => position,
            };
            let Sample { planes, labels, moments } =
                plan.dataset.sample(plan.part, index, mix(&[seed, position]), past)?;
            if batch.clips.is_empty() {
                batch.clips.reserve_exact(planes.len() * (end - first) as usize);
            }
            batch.clips.extend_from_slice(&planes);
            batch.labels.push(labels);
            batch.moments.push(moments);
        }
        Ok(Some(batch))
    }
}

/// A batch's frames before each window; see [`Batches::past`].
fn drawn(past: &RangeInclusive<usize>, seed: u64) -> usize {
    let (least, most) = (*past.start(), *past.end());
    let mut rng = fastrand::Rng::with_seed(seed);
    if least >= most || rng.bool() { most } else { rng.usize(least..=most) }
}

/// Which of `len` clips comes at `position` when each pass has an order of its own. `order` keeps the pass's order.
fn shuffled(position: u64, len: u64, seed: u64, order: &mut Option<(u64, Vec<u64>)>) -> u64 {
    let pass = position / len;
    if order.as_ref().is_none_or(|(of, _)| *of != pass) {
        let mut all: Vec<u64> = (0..len).collect();
        fastrand::Rng::with_seed(mix(&[seed, pass, 1])).shuffle(&mut all);
        *order = Some((pass, all));
    }
    order.as_ref().map_or(position % len, |(_, all)| all[(position % len) as usize])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    struct Numbers {
        labels: Vec<String>,
        len: Option<usize>,
        fail_at: Option<u64>,
        made: AtomicUsize,
    }

    impl Numbers {
        fn shared(len: Option<usize>, fail_at: Option<u64>) -> Arc<Self> {
            Arc::new(Self { labels: vec!["a".into()], len, fail_at, made: AtomicUsize::new(0) })
        }
    }

    impl Dataset for Numbers {
        fn labels(&self) -> &[String] {
            &self.labels
        }
        fn len(&self, _: Part) -> Option<usize> {
            self.len
        }
        fn sample(&self, _: Part, index: u64, seed: u64, past: usize) -> anyhow::Result<Sample> {
            self.made.fetch_add(1, Ordering::SeqCst);
            anyhow::ensure!(Some(index) != self.fail_at, "clip {index} is broken");
            std::thread::sleep(Duration::from_micros(seed % 500));
            Ok(Sample::new(vec![index as f32, (seed % 1000) as f32, past as f32], vec![index as usize]))
        }
        fn shown(&self, _: Part, index: u64) -> Option<Vec<usize>> {
            Some(vec![index as usize])
        }
        fn describe(&self) -> String {
            "numbers".into()
        }
    }

    fn wanted(size: usize, workers: usize, seed: u64) -> Batches {
        Batches { size, past: 0..=0, workers, seed }
    }

    fn batches(workers: usize, seed: u64) -> Vec<Batch> {
        let loader = Loader::new(Numbers::shared(Some(10), None), Part::Train, wanted(4, workers, seed));
        loader.take(20).collect::<anyhow::Result<_>>().unwrap()
    }

    #[test]
    fn a_batch_has_one_past_and_half_of_them_the_longest() {
        let wanted = Batches { past: 0..=18, ..wanted(2, 2, 5) };
        let pasts: Vec<usize> = Loader::new(Numbers::shared(None, None), Part::Train, wanted)
            .take(200)
            .map(|batch| {
                let clips = batch.unwrap().clips;
                assert_eq!(clips[2], clips[5]);
                clips[2] as usize
            })
            .collect();
        let longest = pasts.iter().filter(|past| **past == 18).count();
        assert!(
            (85..130).contains(&longest) && pasts.contains(&0) && pasts.iter().all(|past| *past <= 18),
            "{pasts:?}"
        );
        assert_eq!(drawn(&(7..=7), 1), 7);
    }

    #[test]
    fn workers_do_not_change_what_comes() {
        let one = batches(1, 7);
        assert_eq!(one, batches(3, 7));
        assert_ne!(one, batches(3, 8));
        let mut pass: Vec<usize> = one.iter().flat_map(|b| b.labels.concat()).collect();
        for pass in pass.chunks_mut(10) {
            pass.sort();
            assert_eq!(pass, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_test_part_comes_once_and_in_order() {
        let loader = Loader::new(Numbers::shared(Some(10), None), Part::Test, wanted(4, 2, 0));
        let labels: Vec<Vec<usize>> = loader.map(|b| b.unwrap().labels.concat()).collect();
        assert_eq!(labels, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(Loader::new(Numbers::shared(Some(0), None), Part::Train, wanted(4, 2, 0)).count(), 0);
    }

    #[test]
    fn an_error_comes_in_its_place_and_ends_the_loader() {
        let all: Vec<_> = Loader::new(Numbers::shared(Some(10), Some(5)), Part::Test, wanted(2, 3, 0)).collect();
        assert_eq!(all.len(), 3);
        assert!(all[1].is_ok() && all[2].as_ref().is_err_and(|e| e.to_string().contains("clip 5")));
    }

    #[test]
    fn a_dropped_loader_has_made_little() {
        let data = Numbers::shared(None, None);
        let mut loader = Loader::new(data.clone(), Part::Train, wanted(2, 2, 0));
        assert!(loader.next().is_some());
        std::thread::sleep(Duration::from_millis(60));
        drop(loader);
        assert!(data.made.load(Ordering::SeqCst) <= 2 * (1 + 4));
        assert_eq!(Arc::strong_count(&data), 1);
    }

    /// Data and loader are given the same seed by the trainer: clips must differ all the same.
    #[test]
    fn endless_clips_never_repeat() {
        let input = crate::data::clip::tests::input(kinora::model::manifest::Colour::Motion);
        let data: Arc<dyn Dataset> =
            Arc::new(crate::data::synth::Synth::new(&input, kinora::synth::World::Studio, 1).unwrap());
        let clips: Vec<Vec<f32>> = Loader::new(data, Part::Train, wanted(19, 1, 1))
            .take(2)
            .flat_map(|batch| {
                let batch = batch.unwrap();
                let len = batch.clips.len() / batch.labels.len();
                batch.clips.chunks(len).map(<[f32]>::to_vec).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(clips.len(), 38);
        for (n, clip) in clips.iter().enumerate() {
            assert!(clips[..n].iter().all(|other| other != clip), "clip {n} was there before");
        }
    }
}
