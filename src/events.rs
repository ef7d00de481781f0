//! Events as JSON lines, on the terminal or in a file. Used on one thread; a write blocks as long as the target does.
//!
//! Each line is one object and one write, and a line that does not fit on the disk is cut off again: there are complete
//! lines only. Field order is fixed and numbers are rounded to three decimals: equal runs give equal bytes.
//!
//! ```json
//! {"type":"start","id":1,"label":"wave","confidence":0.93,"t_start":12.3,"t":12.6,"frame":378,"latency_ms":41.2,"wall":"2026-11-20T12:34:56.789Z"}
//! {"type":"source","state":"lost","reason":"unplugged","t":13.1,"wall":"2026-11-20T12:34:57.289Z"}
//! {"type":"model","state":"swapped","name":"mannequin","t":20.4,"wall":"2026-11-20T12:35:04.590Z"}
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::decision::{Event, Kind};
use crate::{Error, ErrorKind, Result};

/// What a line says of an event besides the event itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Name of the event's label.
    pub label: &'a str,
    /// [`Frame::sequence`](crate::frame::Frame::sequence) of the frame that brought the event.
    pub frame: u64,
    /// From the capture of that frame until now; left out of runs that are not in real time.
    pub latency: Option<Duration>,
    /// The time of day; left out of runs that are not in real time.
    pub wall: Option<SystemTime>,
}

/// What became of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// It went away; the program tries to open it again.
    Lost,
    /// It delivers again.
    Back,
}

/// What became of a model that changed on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// It runs from now on.
    Swapped,
    /// It cannot run: the one before goes on.
    Kept,
}

/// Writes events to one target.
pub struct EventWriter {
    name: String,
    target: Box<dyn Write + Send>,
    /// The file that is written, if it is one, and the length of its complete lines.
    file: Option<(File, u64)>,
    line: Vec<u8>,
    closed: bool,
}

impl fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWriter").field("name", &self.name).field("closed", &self.closed).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct EventLine<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    id: u64,
    label: &'a str,
    confidence: f64,
    t_start: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_end: Option<f64>,
    t: f64,
    frame: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall: Option<Rfc3339>,
}

#[derive(Serialize)]
struct SourceLine<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    state: SourceState,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    t: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall: Option<Rfc3339>,
}

#[derive(Serialize)]
struct ModelLine<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    state: ModelState,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    t: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall: Option<Rfc3339>,
}

impl EventWriter {
    /// Opens `target`: `-` is standard output, anything else a file, which is replaced.
    ///
    /// # Errors
    /// `Output`, naming the file, when it cannot be created.
    pub fn open(target: &str) -> Result<Self> {
        if target == "-" {
            return Ok(Self::new("standard output", Box::new(io::stdout())));
        }
        let open = || {
            let file = File::create(target)?;
            let plain = file.metadata()?.is_file();
            Ok((plain.then(|| file.try_clone()).transpose()?, file))
        };
        let (plain, file) = open().map_err(|e| failed(target, &e))?;
        Ok(Self { file: plain.map(|file| (file, 0)), ..Self::new(target, Box::new(file)) })
    }

    fn new(name: &str, target: Box<dyn Write + Send>) -> Self {
        Self { name: name.into(), target, file: None, line: Vec::with_capacity(256), closed: false }
    }

    /// Writes the line of one event.
    ///
    /// # Errors
    /// `Output`, naming the target, when it cannot be written. A pipe whose reader has gone is not an error: see
    /// [`is_closed`](Self::is_closed).
    pub fn write(&mut self, event: &Event, context: &Context<'_>) -> Result<()> {
        self.put(&EventLine {
            kind: event.kind,
            id: event.id,
            label: context.label,
            confidence: rounded(event.confidence.into()),
            t_start: rounded(event.t_start.as_secs_f64()),
            t_end: event.t_end.map(|t| rounded(t.as_secs_f64())),
            t: rounded(event.t.as_secs_f64()),
            frame: context.frame,
            latency_ms: context.latency.map(|latency| rounded(latency.as_secs_f64() * 1e3)),
            wall: context.wall.map(Rfc3339),
        })
    }

    /// Writes that the source was lost at source time `t`, and why, or that it is back.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_source(
        &mut self,
        state: SourceState,
        reason: Option<&str>,
        t: Duration,
        wall: Option<SystemTime>,
    ) -> Result<()> {
        let (t, wall) = (rounded(t.as_secs_f64()), wall.map(Rfc3339));
        self.put(&SourceLine { kind: "source", state, reason, t, wall })
    }

    /// Writes that the model `name` runs from source time `t` on, or that it goes on running, and why no other was taken.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_model(
        &mut self,
        state: ModelState,
        name: &str,
        reason: Option<&str>,
        t: Duration,
        wall: Option<SystemTime>,
    ) -> Result<()> {
        let (t, wall) = (rounded(t.as_secs_f64()), wall.map(Rfc3339));
        self.put(&ModelLine { kind: "model", state, name, reason, t, wall })
    }

    /// Whether the reader of the pipe that this writes to has gone. Nothing is written any more, and that is a clean
    /// end: a program whose only output this is ends as after Ctrl-C.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The target, as messages name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn put(&mut self, line: &impl Serialize) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)
            .map_err(|e| Error::new(ErrorKind::Internal, format_args!("an event line: {e}")))?;
        self.line.push(b'\n');
        let written = self.target.write_all(&self.line).and_then(|()| self.target.flush());
        if let Some((file, length)) = &mut self.file {
            match &written {
                Ok(()) => *length += self.line.len() as u64,
                // Half a line is no line. If it cannot be cut off, the error that follows is all there is to say.
                Err(_) => drop(file.set_len(*length)),
            }
        }
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            written => written.map_err(|e| failed(&self.name, &e))?,
        }
        Ok(())
    }
}

fn failed(name: &str, error: &io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "; create its folder first",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room or choose another place",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "; choose a place you may write to",
        io::ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    };
    Error::new(ErrorKind::Output, format_args!("events to {name}: {error}{remedy}"))
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A time of day as RFC 3339 in UTC, to the millisecond. A clock that is set before 1970 is taken to stand at 1970.
struct Rfc3339(SystemTime);

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let (days, in_day) = (millis / 86_400_000, millis % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Counts in eras of 400 years whose years
/// begin on 1 March, so that the leap day is the last of a year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_ERA: i64 = 146_097;
    let since_march_0000 = days + 719_468;
    let era = since_march_0000.div_euclid(DAYS_OF_ERA);
    let day_of_era = since_march_0000.rem_euclid(DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const EVENT: Event = Event {
        kind: Kind::Start,
        id: 1,
        label: 3,
        confidence: 0.93,
        t_start: Duration::from_millis(12_300),
        t_end: None,
        t: Duration::from_nanos(12_600_400_000),
    };

    fn context(label: &str) -> Context<'_> {
        Context { label, frame: 378, latency: None, wall: None }
    }

    fn time(unix: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(unix * 1000 + millis)
    }

    /// Takes `room` bytes more, as a disk that is nearly full does.
    struct NearlyFull {
        file: File,
        room: usize,
    }

    impl Write for NearlyFull {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            self.room -= fits;
            if fits == 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.file.write(&bytes[..fits]) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_cut_off_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut writer = EventWriter::open(path.to_str().unwrap()).unwrap();
        writer.write(&EVENT, &context("wave")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let file = writer.file.as_ref().unwrap().0.try_clone().unwrap();
        writer.target = Box::new(NearlyFull { file, room: whole.len() + 10 });
        writer.write(&EVENT, &context("wave")).unwrap();
        let error = writer.write(&EVENT, &context("wave")).unwrap_err();
        assert!(error.to_string().contains("make room"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), whole.repeat(2));
    }

    #[test]
    fn lines_have_fixed_fields_in_fixed_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut writer = EventWriter::open(path.to_str().unwrap()).unwrap();
        let full = Context {
            latency: Some(Duration::from_micros(41_200)),
            wall: Some(time(1_795_178_096, 789)),
            ..context("wave")
        };
        writer.write(&EVENT, &full).unwrap();
        writer.write(&Event { kind: Kind::End, ..EVENT }, &context("a \"b\"\n\u{4e2d}")).unwrap();
        writer.write_source(SourceState::Lost, Some("unplugged"), EVENT.t, Some(time(0, 0))).unwrap();
        writer.write_source(SourceState::Back, None, EVENT.t, None).unwrap();
        writer.write_model(ModelState::Swapped, "new", None, EVENT.t, Some(time(0, 0))).unwrap();
        writer.write_model(ModelState::Kept, "new", Some("no labels.txt"), EVENT.t, None).unwrap();
        // Read while the writer is open: every line is complete as soon as it is written.
        let expected = [
            r#"{"type":"start","id":1,"label":"wave","confidence":0.93,"t_start":12.3,"t":12.6,"frame":378,"latency_ms":41.2,"wall":"2026-11-20T12:34:56.789Z"}"#,
            r#"{"type":"end","id":1,"label":"a \"b\"\n中","confidence":0.93,"t_start":12.3,"t":12.6,"frame":378}"#,
            r#"{"type":"source","state":"lost","reason":"unplugged","t":12.6,"wall":"1970-01-01T00:00:00.000Z"}"#,
            r#"{"type":"source","state":"back","t":12.6}"#,
            r#"{"type":"model","state":"swapped","name":"new","t":12.6,"wall":"1970-01-01T00:00:00.000Z"}"#,
            r#"{"type":"model","state":"kept","name":"new","reason":"no labels.txt","t":12.6}"#,
        ];
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_full_disk_is_an_output_error_that_names_the_target() {
        let mut writer = EventWriter::open("/dev/full").unwrap();
        let error = writer.write(&EVENT, &context("wave")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output);
        assert!(error.to_string().contains("/dev/full") && error.to_string().contains("make room"), "{error}");
        assert!(!writer.is_closed());
    }

    #[test]
    fn a_file_that_cannot_be_created_is_an_output_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing").join("events.jsonl");
        for (path, remedy) in [(missing.as_path(), "create its folder"), (folder.path(), "name a file in it")] {
            let error = EventWriter::open(path.to_str().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Output);
            let message = error.to_string();
            assert!(message.contains(path.to_str().unwrap()) && message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_a_clean_end() {
        let (reader, pipe) = io::pipe().unwrap();
        let mut writer = EventWriter::new("pipe", Box::new(pipe));
        writer.write(&EVENT, &context("wave")).unwrap();
        assert!(!writer.is_closed());
        drop(reader);
        writer.write(&EVENT, &context("wave")).unwrap();
        assert!(writer.is_closed());
        writer.write(&EVENT, &context("wave")).unwrap();
    }

    #[test]
    fn known_dates_are_written_as_rfc_3339() {
        // Of GNU date: date -u -d @SECONDS +%FT%TZ
        let known = [
            (0, "1970-01-01T00:00:00.000Z"),
            (68_169_599, "1972-02-28T23:59:59.000Z"),
            (68_169_600, "1972-02-29T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (4_107_456_000, "2100-02-28T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ];
        for (unix, text) in known {
            assert_eq!(Rfc3339(time(unix, 0)).to_string(), text);
        }
        assert_eq!(Rfc3339(time(0, 7)).to_string(), "1970-01-01T00:00:00.007Z");
        assert_eq!(Rfc3339(UNIX_EPOCH - Duration::from_millis(1)).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil_from_days(-800_000);
        for days in -799_999..800_000 {
            let (year, month, day) = civil_from_days(days);
            let next = [(last.0, last.1, last.2 + 1), (last.0, last.1 + 1, 1), (last.0 + 1, 1, 1)];
            assert!(next.contains(&(year, month, day)), "{last:?} {days}");
            assert!((1..=12).contains(&month) && (1..=31).contains(&day));
            last = (year, month, day);
        }
    }
}
