//! Log files that are given another name when they are full: etcd's `--enable-log-rotation`.
//!
//! - An old file has the time at which it was full in its name, as etcd has it: `a-2026-01-31T12-30-00.000.log`.
//! - Only files with such a name are ever removed.
//! - A file that cannot be given another name goes on: no line is lost for it.

use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When a file is full, and which of the old ones are kept. The names are those of etcd's JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rotation {
    /// Megabytes of a full file; 0 is [`USUAL_MEGABYTES`].
    maxsize: u64,
    /// Days that an old file is kept; 0 is without end.
    maxage: u64,
    /// Old files that are kept; 0 is all.
    maxbackups: usize,
    localtime: bool,
    compress: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            maxsize: USUAL_MEGABYTES,
            maxage: 0,
            maxbackups: 0,
            localtime: false,
            compress: false,
        }
    }
}

impl FromStr for Rotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("it must be JSON of etcd's form: {error}"))
    }
}

impl Rotation {
    /// What of it is not done, for the log.
    pub(crate) fn note(&self) -> Option<&'static str> {
        (self.localtime || self.compress).then_some(
            "--log-rotation-config-json: old log files are not compressed, and the times in their names are UTC",
        )
    }

    fn bytes(&self) -> u64 {
        let megabytes = if self.maxsize == 0 {
            USUAL_MEGABYTES
        } else {
            self.maxsize
        };
        megabytes.saturating_mul(1 << 20)
    }

    /// How many of the `old` files, the oldest first, are not kept.
    fn forgotten(&self, old: &[String], now: SystemTime) -> usize {
        let beyond = match self.maxbackups {
            0 => 0,
            kept => old.len().saturating_sub(kept),
        };
        let age = Duration::from_secs(self.maxage.saturating_mul(SECONDS_OF_A_DAY));
        let before = now.checked_sub(age).filter(|_| self.maxage > 0).map(stamp);
        let aged = before.map_or(0, |before| {
            old.iter().filter(|time| time.as_str() < before.as_str()).count()
        });
        beyond.max(aged)
    }
}

/// A file for lines.
pub(super) struct Rotating {
    path: PathBuf,
    rotation: Rotation,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    bytes: u64,
    /// The time in the name of the file before it: those of later ones are later, whatever the clock says.
    before: SystemTime,
}

impl Rotating {
    /// Opens a file to add to it.
    ///
    /// # Errors
    ///
    /// If it cannot be.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        Ok(Self {
            open: Mutex::new(Open::at(path, UNIX_EPOCH)?),
            path: path.to_owned(),
            rotation,
        })
    }

    /// Adds a line, to a new file if it would be too much for this one.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn write_all(&self, line: &[u8]) -> io::Result<()> {
        // A line that was cut short by a panic is followed by the next.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let after = open.bytes.saturating_add(line.len() as u64);
        if open.bytes > 0 && after > self.rotation.bytes() {
            // If that cannot be, the file goes on.
            if let Ok(next) = self.begin_next(SystemTime::now().max(open.before + MOMENT)) {
                *open = next;
            }
        }
        open.file.write_all(line)?;
        open.bytes += line.len() as u64;
        Ok(())
    }

    fn begin_next(&self, mut time: SystemTime) -> io::Result<Open> {
        while self.old(&stamp(time)).exists() {
            time += MOMENT;
        }
        let full = self.old(&stamp(time));
        fs::rename(&self.path, &full)?;
        let next = Open::at(&self.path, time);
        if next.is_err() {
            // The lines go on into the full file: under its name, so that this is tried again.
            let _ = fs::rename(&full, &self.path);
            return next;
        }
        // What cannot be listed or removed is tried again the next time.
        let old = self.all_old().unwrap_or_default();
        for time in &old[..self.rotation.forgotten(&old, time)] {
            let _ = fs::remove_file(self.old(time));
        }
        next
    }

    /// The old file of a time.
    fn old(&self, time: &str) -> PathBuf {
        let (before, after) = self.name();
        self.path.with_file_name(format!("{before}{time}{after}"))
    }

    /// The times of all old files, sorted.
    fn all_old(&self) -> io::Result<Vec<String>> {
        let (before, after) = self.name();
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut times = Vec::new();
        for entry in fs::read_dir(directory.unwrap_or(Path::new(".")))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let time = name
                .strip_prefix(&before)
                .and_then(|rest| rest.strip_suffix(&after));
            times.extend(time.filter(|time| is_stamp(time)).map(str::to_owned));
        }
        times.sort();
        Ok(times)
    }

    /// What is before the time in the name of an old file, and what is after it.
    fn name(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let after = match self.path.extension() {
            None => String::new(),
            some => format!(".{}", part(some)),
        };
        (format!("{}-", part(self.path.file_stem())), after)
    }
}

impl Open {
    fn at(path: &Path, before: SystemTime) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, before })
    }
}

/// A time as in names: it sorts as the time does.
fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (
        since.as_secs() / SECONDS_OF_A_DAY,
        since.as_secs() % SECONDS_OF_A_DAY,
    );
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}-{:02}-{:02}.{:03}",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

fn is_stamp(text: &str) -> bool {
    text.len() == PATTERN.len()
        && text
            .bytes()
            .zip(PATTERN.bytes())
            .all(|(byte, pattern)| match pattern {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
}

/// The year, month and day that is `days` after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let mut month = 1;
    for length in [31, days_of(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn days_of(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

/// As short as the times in names can tell.
const MOMENT: Duration = Duration::from_millis(1);
const USUAL_MEGABYTES: u64 = 100;
const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;
const PATTERN: &str = "0000-00-00T00-00-00.000";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn times_are_as_in_the_calendar_and_sort_as_they_pass() {
        for (seconds, text) in [
            (0, "1970-01-01T00-00-00.000"),
            (951_782_400, "2000-02-29T00-00-00.000"),
            (1_709_251_199, "2024-02-29T23-59-59.000"),
            (1_767_225_599, "2025-12-31T23-59-59.000"),
            (4_107_542_400, "2100-03-01T00-00-00.000"),
        ] {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert!(is_stamp(text));
        }
        assert!(!is_stamp("2024-02-29T23-59-59.00x") && !is_stamp("backup"));
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        fs::write(directory.path().join("a-mine.log"), "kept").unwrap();
        let rotation: Rotation = r#"{"maxsize": 1, "maxbackups": 2}"#.parse().unwrap();
        let file = Rotating::open(&path, rotation).unwrap();
        let line = vec![b'x'; 700 << 10];
        for number in 0..5_u8 {
            file.write_all(&[number]).unwrap();
            file.write_all(&line).unwrap();
        }
        let names = names(directory.path());
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"a-mine.log".to_owned()) && names.contains(&"a.log".to_owned()));
        let last = fs::read(&path).unwrap();
        assert_eq!(last.len(), line.len());
        let newest = fs::read(directory.path().join(&names[1])).unwrap();
        assert_eq!(newest.last(), Some(&4));
    }

    #[test]
    fn what_was_in_the_file_before_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        let file = Rotating::open(&path, "{\"maxsize\":1}".parse().unwrap()).unwrap();
        file.write_all(b"line\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"line\n");
        assert!(names(directory.path())[1].starts_with("log-2"));
    }

    #[test]
    fn old_files_are_kept_for_their_days() {
        let day = |day: u64| UNIX_EPOCH + Duration::from_secs(day * SECONDS_OF_A_DAY);
        let old: Vec<String> = [1, 5, 9].map(|number| stamp(day(number))).into();
        let kept_for = |days: u64| {
            let text = format!("{{\"maxage\": {days}}}");
            text.parse::<Rotation>().unwrap().forgotten(&old, day(10))
        };
        assert_eq!(
            (kept_for(0), kept_for(2), kept_for(5), kept_for(30)),
            (0, 2, 1, 0)
        );
    }

    #[test]
    fn the_json_is_etcds() {
        let text = r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;
        assert_eq!(text.parse(), Ok(Rotation::default()));
        assert_eq!("{}".parse(), Ok(Rotation::default()));
        assert_eq!(Rotation::default().note(), None);
        let compressed: Rotation = r#"{"compress": true}"#.parse().unwrap();
        assert!(compressed.note().is_some());
        assert!("{\"size\": 1}".parse::<Rotation>().unwrap_err().contains("size"));
    }
}
