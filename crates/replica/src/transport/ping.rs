//! How long the way to a peer and back takes, by pings on the stream of messages to it.
//!
//! - One ping at a time is on its way: a peer that does not answer is not asked more often for that.
//! - A ping is behind what was sent before it, as a heartbeat would be.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Connection, ConnectionError};
use crate::codec::Frame;

/// The pings on one stream. A peer whose protocol has none is sent none.
pub(super) struct Pings {
    /// None if there will never be one.
    due: Option<Instant>,
    number: u64,
    /// When the last one was sent, until it is answered.
    sent: Option<Instant>,
}

impl Pings {
    /// The first one is due at once.
    pub(super) fn on(connection: &Connection) -> Self {
        Self {
            due: connection.has_pings().then(Instant::now),
            number: 0,
            sent: None,
        }
    }

    /// Waits until it is time to think of a ping. Loses nothing when dropped.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// The ping to send now; none while the one before is not answered.
    pub(super) fn next(&mut self, now: Instant) -> Option<Frame> {
        self.due = Some(now + EVERY);
        if self.sent.is_some() {
            return None;
        }
        self.number += 1;
        self.sent = Some(now);
        let number = self.number;
        Some(Frame::Ping { number })
    }

    /// How long the round trip took that ends by this frame.
    pub(super) fn answered(&mut self, frame: &Frame, now: Instant) -> Result<Duration, ConnectionError> {
        match (frame, self.sent.take()) {
            (Frame::Pong { number }, Some(sent)) if *number == self.number => Ok(now - sent),
            (other, _) => Err(ConnectionError::Unexpected(other.name())),
        }
    }
}

/// As often as etcd asks.
const EVERY: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_waits_for_the_answer_to_the_one_before() {
        let start = Instant::now();
        let mut pings = Pings {
            due: Some(start),
            number: 0,
            sent: None,
        };
        let ping = |number| Some(Frame::Ping { number });
        let pong = |number| Frame::Pong { number };
        assert_eq!(pings.next(start), ping(1));
        assert_eq!(pings.due, Some(start + EVERY));
        assert_eq!(pings.next(start + EVERY), None);
        let answered = pings.answered(&pong(1), start + EVERY * 3 / 2);
        assert_eq!(answered.unwrap(), EVERY * 3 / 2);
        assert_eq!(pings.next(start + EVERY * 2), ping(2));
    }

    #[test]
    fn what_answers_no_ping_is_unexpected() {
        let now = Instant::now();
        for (asked, answer) in [
            (false, Frame::Pong { number: 0 }),
            (true, Frame::Pong { number: 2 }),
            (true, Frame::SnapshotDone),
        ] {
            let mut pings = Pings {
                due: Some(now),
                number: 0,
                sent: None,
            };
            if asked {
                pings.next(now);
            }
            let refused = pings.answered(&answer, now);
            assert!(
                matches!(refused, Err(ConnectionError::Unexpected(_))),
                "{refused:?}"
            );
        }
    }
}
