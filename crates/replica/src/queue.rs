//! Hand-offs between threads: many push, one takes everything that waits, at once.
//!
//! - Taking swaps two vectors under the lock: its cost does not grow with what waits, and memory is reused.
//! - What was pushed before the queue was closed is still taken.
//! - What may be left out is bounded, in number and in bytes, for each kind of it: a flood of one kind
//!   leaves room for the other.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    closed: bool,
    held: [Held; KINDS],
}

/// What waits of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    items: usize,
    bytes: u64,
}

/// What is counted by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Of a client.
    Request,
    /// Of a peer.
    Message,
}

/// How much may wait of one kind. The first is always let in, however large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) items: usize,
    pub(crate) bytes: u64,
}

/// What taking came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There may be more later. There may have been nothing, when the deadline passed.
    Open,
    /// There is nothing, and never will be.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                items: Vec::new(),
                closed: false,
                held: [Held::default(); KINDS],
            }),
            filled: Condvar::new(),
        }
    }

    /// Adds an item.
    ///
    /// # Errors
    /// Gives it back when the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        self.push_quietly(item)?;
        self.filled.notify_one();
        Ok(())
    }

    /// Adds an item that need not be taken before something else is, or a deadline passes.
    pub(crate) fn push_quietly(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push(item);
        Ok(())
    }

    /// Adds items, each with its bytes, as long as `kind` is within `bound`, and gives those to
    /// `overflow` that are too many. When the queue is closed, all are dropped.
    pub(crate) fn extend_within(
        &self,
        kind: Kind,
        bound: Bound,
        items: impl IntoIterator<Item = (T, u64)>,
        mut overflow: impl FnMut(T),
    ) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        for (item, bytes) in items {
            match state.held[kind as usize].admit(bytes, bound) {
                true => state.items.push(item),
                false => overflow(item),
            }
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits for items until `deadline`, and swaps all there are into `batch`, which must be empty.
    pub(crate) fn take(&self, batch: &mut Vec<T>, deadline: Option<Instant>) -> Taken {
        debug_assert!(batch.is_empty(), "a batch is worked off before the next is taken");
        let mut state = self.state.lock();
        while state.items.is_empty() && !state.closed {
            match deadline {
                None => self.filled.wait(&mut state),
                Some(deadline) => {
                    if self.filled.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        std::mem::swap(&mut state.items, batch);
        state.held = [Held::default(); KINDS];
        match state.closed && batch.is_empty() {
            true => Taken::Closed,
            false => Taken::Open,
        }
    }

    /// Lets nothing more in.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }

    /// Lets nothing more in, and drops what waits.
    pub(crate) fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.state.lock().items);
        // Outside the lock: dropping a request wakes whoever waits for it.
        drop(waiting);
    }
}

impl Held {
    /// Counts one more, if it may wait.
    fn admit(&mut self, bytes: u64, bound: Bound) -> bool {
        let fits = self.items < bound.items && self.bytes.saturating_add(bytes) <= bound.bytes;
        let admitted = fits || self.items == 0;
        if admitted {
            self.items += 1;
            self.bytes = self.bytes.saturating_add(bytes);
        }
        admitted
    }
}

const KINDS: usize = 2;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn everything_that_waits_is_taken_in_order() {
        let queue = Queue::new();
        for n in 0..3 {
            queue.push(n).unwrap();
        }
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch, None), Taken::Open);
        assert_eq!(batch, [0, 1, 2]);
    }

    #[test]
    fn what_waits_is_taken_after_closing_and_nothing_more_comes_in() {
        let queue = Queue::new();
        queue.push(1).unwrap();
        queue.close();
        assert_eq!(queue.push(2), Err(2));
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch, None), Taken::Open);
        assert_eq!(std::mem::take(&mut batch), [1]);
        assert_eq!(queue.take(&mut batch, None), Taken::Closed);
    }

    fn left_out(queue: &Queue<u64>, kind: Kind, items: &[u64]) -> Vec<u64> {
        let bound = Bound { items: 3, bytes: 10 };
        let mut left_out = Vec::new();
        let weighed = items.iter().map(|item| (*item, *item));
        queue.extend_within(kind, bound, weighed, |item| left_out.push(item));
        left_out
    }

    #[test]
    fn a_bound_leaves_out_what_is_too_much() {
        let queue = Queue::new();
        assert_eq!(left_out(&queue, Kind::Request, &[1, 2, 8, 3, 4]), [8, 4]);
        assert_eq!(left_out(&queue, Kind::Request, &[0]), [0]);
        let mut batch = Vec::new();
        queue.take(&mut batch, None);
        assert_eq!(batch, [1, 2, 3]);
        assert!(
            left_out(&queue, Kind::Request, &[4, 6]).is_empty(),
            "what was taken waits no more"
        );
    }

    #[test]
    fn a_flood_of_one_kind_leaves_room_for_the_other() {
        let queue = Queue::new();
        assert_eq!(left_out(&queue, Kind::Request, &[5; 9]), [5; 7]);
        assert_eq!(
            left_out(&queue, Kind::Message, &[99, 1]),
            [1],
            "the first is let in, however large"
        );
    }

    #[test]
    fn a_deadline_that_has_passed_brings_an_empty_batch() {
        let queue = Queue::<u8>::new();
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch, Some(Instant::now())), Taken::Open);
        assert!(batch.is_empty());
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let queue = Arc::new(Queue::new());
        let pushers: Vec<_> = (0..4_u64)
            .map(|n| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || (0..1000).for_each(|m| queue.push(n * 1000 + m).unwrap()))
            })
            .collect();
        let taker = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let (mut all, mut batch) = (Vec::new(), Vec::new());
                while queue.take(&mut batch, None) == Taken::Open {
                    all.append(&mut batch);
                }
                all
            })
        };
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        queue.close();
        let mut all = taker.join().unwrap();
        all.sort_unstable();
        assert_eq!(all, (0..4000).collect::<Vec<_>>());
    }
}
