//! After warm-up a decision of the engine `native` allocates nothing, on windows and on streams, on one thread and on two.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use kinora::engine::{self, Choice, Options};
use kinora::model::Bundle;
use kinora::model::manifest::Mode;

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is handed on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// One test, as others on threads of their own would be counted, too.
#[test]
fn a_decision_allocates_nothing() {
    let bundle = Bundle::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin")).unwrap();
    let clip = bundle.golden().unwrap().clip;
    let plane: Vec<f32> = clip.index_axis(ndarray::Axis(2), 0).iter().copied().collect();
    let mut logits = vec![0.0; bundle.labels.len()];
    for mode in [Mode::Window, Mode::Stream] {
        for threads in [1, 2] {
            let options = Options { engine: Choice::Native, mode: Some(mode), threads, ..Options::default() };
            let mut session = engine::open(&bundle, &options).unwrap().session().unwrap();
            let mut decide = || match mode {
                Mode::Window => session.infer(clip.view(), &mut logits).unwrap(),
                Mode::Stream => drop(session.push(&plane, &mut logits).unwrap()),
            };
            decide();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (0..if mode == Mode::Window { 2 } else { 20 }).for_each(|_| decide());
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(allocations, 0, "{mode:?}, {threads} threads");
        }
    }
}
