//! Hand-offs between threads: many push, one takes everything that waits, at once.
//!
//! - Taking swaps two vectors under the lock: its cost does not grow with what waits, and memory is reused.
//! - What was pushed before the queue was closed is still taken.

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

    /// Adds items as long as fewer than `limit` wait, and gives those to `overflow` that are too many.
    /// When the queue is closed, all are dropped.
    pub(crate) fn extend_within(
        &self,
        limit: usize,
        items: impl IntoIterator<Item = T>,
        mut overflow: impl FnMut(T),
    ) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        for item in items {
            match state.items.len() < limit {
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

    #[test]
    fn a_bound_leaves_out_what_is_too_much() {
        let queue = Queue::new();
        let mut left_out = Vec::new();
        queue.extend_within(2, [1, 2, 3, 4], |item| left_out.push(item));
        let mut batch = Vec::new();
        queue.take(&mut batch, None);
        assert_eq!((batch, left_out), (vec![1, 2], vec![3, 4]));
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
