//! What happened in a run: a hash over all of it, and the last lines of it for people.

use std::collections::VecDeque;
use std::fmt;

use crate::digest::Digest;
use crate::schedule::Time;

/// What happened, in order.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    events: u64,
    hash: Digest,
    lines: VecDeque<String>,
    most_lines: usize,
}

impl Trace {
    /// Nothing yet. Keeps the last `most_lines` lines.
    pub(crate) fn new(most_lines: usize) -> Self {
        Self {
            events: 0,
            hash: Digest::EMPTY,
            lines: VecDeque::new(),
            most_lines,
        }
    }

    /// Something happened: `digest` stands for all of it, `line` says it to people if any are listening.
    pub(crate) fn add<D: fmt::Display>(&mut self, at: Time, digest: Digest, line: impl FnOnce() -> D) {
        self.events += 1;
        self.hash = self.hash.number(at.0).number(digest.value());
        if self.most_lines == 0 {
            return;
        }
        if self.lines.len() == self.most_lines {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{at} {}", line()));
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The hash over every event, in order, with its time.
    pub(crate) fn hash(&self) -> Digest {
        self.hash
    }

    /// The last lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_what_the_lines_no_longer_show() {
        let trace = |first: u64| {
            let mut trace = Trace::new(2);
            for n in [first, 2, 3] {
                trace.add(Time(n), Digest::EMPTY.number(n), || format!("event {n}"));
            }
            trace
        };
        assert_eq!(
            trace(1).lines().collect::<Vec<_>>(),
            ["0.000002s event 2", "0.000003s event 3"]
        );
        assert_eq!(trace(1).hash(), trace(1).hash());
        assert_ne!(trace(0).hash(), trace(1).hash());
        assert_eq!(trace(0).events(), 3);
    }
}
