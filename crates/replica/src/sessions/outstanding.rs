//! What the client of a session keeps: the numbers of its requests, and which of them it may repeat.
//!
//! - Numbers are given in order and never again.
//! - [`Outstanding::acknowledged_below`] is the first that may be repeated, so a request that was given
//!   up is refused from the moment that a later one with this watermark is applied.

use std::collections::BTreeSet;

use super::command::Seq;

/// The requests of one session.
#[derive(Clone, Debug)]
pub struct Outstanding {
    next: Seq,
    /// Those that may be repeated.
    open: BTreeSet<Seq>,
    window: u64,
}

impl Outstanding {
    /// No requests yet; none may be `window` or more ahead of the first that is not ended.
    #[must_use]
    pub fn new(window: u64) -> Self {
        Self {
            next: Seq(1),
            open: BTreeSet::new(),
            window,
        }
    }

    /// Begins a request; none when it would be too far ahead.
    pub fn begin(&mut self) -> Option<Seq> {
        let seq = self.next;
        if seq.0 - self.acknowledged_below().0 >= self.window {
            return None;
        }
        self.next = Seq(seq.0 + 1);
        self.open.insert(seq);
        Some(seq)
    }

    /// A request has its response, or was given up: it will not be repeated.
    pub fn end(&mut self, seq: Seq) {
        self.open.remove(&seq);
    }

    /// No request below this will be repeated.
    #[must_use]
    pub fn acknowledged_below(&self) -> Seq {
        self.open.first().copied().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_is_the_first_request_that_may_be_repeated() {
        let mut outstanding = Outstanding::new(3);
        assert_eq!(outstanding.acknowledged_below(), Seq(1));
        let [first, second, third] = [(); 3].map(|()| outstanding.begin().unwrap());
        assert_eq!((first, third), (Seq(1), Seq(3)));
        assert_eq!(outstanding.begin(), None, "the window is full");
        outstanding.end(second);
        assert_eq!(outstanding.acknowledged_below(), Seq(1));
        assert_eq!(outstanding.begin(), None, "the first still holds the window");
        outstanding.end(first);
        assert_eq!(outstanding.acknowledged_below(), Seq(3));
        assert_eq!(outstanding.begin(), Some(Seq(4)));
        outstanding.end(third);
        outstanding.end(Seq(4));
        assert_eq!(outstanding.acknowledged_below(), Seq(5));
    }
}
