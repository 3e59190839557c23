//! Logins that fail: how many passwords a client may try.
//!
//! - After so many wrong passwords for a user from an address, one more is looked at in each [`PAUSE`], whatever it is.
//! - Address and user count together: nobody can keep a user from logging in elsewhere, or others from logging in where
//!   it is. Whether there is such a user makes no difference.
//! - An address has [`AT_ONCE`] logins that are looked at; more wait, and keep only its own waiting.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Extensions;
use parking_lot::Mutex;
use quorate_etcd_api::EtcdError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::addresses::{ClientAddress, owner};
use crate::seldom::Seldom;

/// The logins of all clients.
pub(crate) struct Attempts {
    /// So many wrong passwords have no consequence: people and scripts err.
    free: u32,
    queues: Mutex<HashMap<IpAddr, Queue>>,
    /// When all failures of an address and a user will be forgiven.
    failures: Mutex<HashMap<Pair, Instant>>,
    /// So that nobody chooses names which share a place.
    hasher: RandomState,
    told: Seldom,
}

/// An address, and what a user's name hashes to: names may be long.
type Pair = (IpAddr, u64);

/// The logins of an address.
struct Queue {
    waiting: usize,
    turns: Arc<Semaphore>,
}

impl Attempts {
    /// Of which so many may fail.
    pub(crate) fn new(free: u32) -> Attempts {
        Attempts {
            free,
            queues: Mutex::default(),
            failures: Mutex::default(),
            hasher: RandomState::new(),
            told: Seldom::new(),
        }
    }

    /// Waits until a login by a request with these extensions may be looked at.
    ///
    /// # Errors
    /// When too many wait already.
    pub(crate) async fn turn<'a>(&'a self, extensions: &Extensions) -> Result<Turn<'a>, Status> {
        let address = extensions.get::<ClientAddress>();
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |known| owner(known.0.ip()));
        let turns = self.enter(address)?;
        let mut turn = Turn {
            attempts: self,
            address,
            permit: None,
        };
        // It is never closed, so that there is always a permit in the end.
        turn.permit = turns.acquire_owned().await.ok();
        Ok(turn)
    }

    fn enter(&self, address: IpAddr) -> Result<Arc<Semaphore>, Status> {
        let mut queues = self.queues.lock();
        let queue = queues.entry(address).or_insert_with(|| Queue {
            waiting: 0,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        });
        if queue.waiting >= MAX_WAITING {
            return Err(EtcdError::RequestTooManyRequests.into());
        }
        queue.waiting += 1;
        Ok(Arc::clone(&queue.turns))
    }

    fn leave(&self, address: IpAddr) {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get_mut(&address) {
            queue.waiting -= 1;
            if queue.waiting == 0 {
                queues.remove(&address);
            }
        }
    }

    fn check(&self, address: IpAddr, user: &str, now: Instant) -> Result<(), Status> {
        let forgiven = self.failures.lock().get(&self.pair(address, user)).copied();
        let left = forgiven.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if left <= PAUSE.saturating_mul(self.free.saturating_sub(1)) {
            return Ok(());
        }
        if self.told.is_due(now) {
            let user: String = user.escape_debug().take(MAX_SHOWN).collect();
            tracing::warn!(%address, user, "logins are refused: too many failed (--max-failed-logins)");
        }
        Err(Status::resource_exhausted(
            "quorate: too many logins of this user failed from this address: wait a little",
        ))
    }

    fn fail(&self, address: IpAddr, user: &str, now: Instant) {
        let pair = self.pair(address, user);
        let mut failures = self.failures.lock();
        if failures.len() >= MAX_PAIRS {
            failures.retain(|_, forgiven| *forgiven > now);
        }
        if failures.len() >= MAX_PAIRS {
            // Each has cost somebody the time of a hash: to get here again takes hours.
            failures.clear();
        }
        let forgiven = failures.entry(pair).or_insert(now);
        *forgiven = (*forgiven).max(now) + PAUSE;
    }

    fn forget(&self, address: IpAddr, user: &str) {
        self.failures.lock().remove(&self.pair(address, user));
    }

    fn pair(&self, address: IpAddr, user: &str) -> Pair {
        (address, self.hasher.hash_one(user))
    }
}

/// A login that is looked at, for as long as this lives.
pub(crate) struct Turn<'a> {
    attempts: &'a Attempts,
    address: IpAddr,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn<'_> {
    /// Whether a password for a user will be looked at.
    ///
    /// # Errors
    /// When too many were wrong.
    pub(crate) fn check(&self, user: &str, now: Instant) -> Result<(), Status> {
        self.attempts.check(self.address, user, now)
    }

    /// The password was wrong.
    pub(crate) fn failed(self, user: &str, now: Instant) {
        self.attempts.fail(self.address, user, now);
    }

    /// The password was right.
    pub(crate) fn succeeded(self, user: &str) {
        self.attempts.forget(self.address, user);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.permit = None;
        self.attempts.leave(self.address);
    }
}

const PAUSE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 4;
const MAX_WAITING: usize = 1024;
const MAX_PAIRS: usize = 100_000;
const MAX_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: u32 = 10;

    fn from(last: u8) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(ClientAddress(([10, 0, 0, last], 1).into()));
        extensions
    }

    async fn may(attempts: &Attempts, from: &Extensions, user: &str, now: Instant) -> bool {
        attempts.turn(from).await.unwrap().check(user, now).is_ok()
    }

    async fn fail(attempts: &Attempts, from: &Extensions, user: &str, now: Instant) {
        attempts.turn(from).await.unwrap().failed(user, now);
    }

    #[tokio::test]
    async fn whoever_guesses_must_wait_and_nobody_else() {
        let (attempts, now) = (Attempts::new(FREE), Instant::now());
        let (here, elsewhere) = (from(1), from(2));
        for _ in 0..FREE {
            assert!(may(&attempts, &here, "alice", now).await);
            fail(&attempts, &here, "alice", now).await;
        }
        assert!(!may(&attempts, &here, "alice", now).await);
        assert!(may(&attempts, &here, "bob", now).await, "another user");
        assert!(may(&attempts, &elsewhere, "alice", now).await, "another address");

        assert!(!may(&attempts, &here, "alice", now + PAUSE / 2).await);
        let later = now + PAUSE;
        assert!(may(&attempts, &here, "alice", later).await, "one more");
        fail(&attempts, &here, "alice", later).await;
        assert!(!may(&attempts, &here, "alice", later).await);
        let forgiven = later + PAUSE * FREE;
        assert!(may(&attempts, &here, "alice", forgiven).await);
    }

    #[tokio::test]
    async fn a_login_that_succeeds_makes_up_for_those_that_failed() {
        let (attempts, now) = (Attempts::new(FREE), Instant::now());
        for _ in 0..3 * FREE {
            let turn = attempts.turn(&from(1)).await.unwrap();
            assert!(turn.check("alice", now).is_ok());
            turn.failed("alice", now);
            attempts.turn(&from(1)).await.unwrap().succeeded("alice");
        }
        assert!(attempts.failures.lock().is_empty());
    }

    #[tokio::test]
    async fn an_address_waits_for_its_own_logins_only() {
        let attempts = Attempts::new(FREE);
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(attempts.turn(&from(1)).await.unwrap());
        }
        let here = from(1);
        let mut waiting = Box::pin(attempts.turn(&here));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert!(attempts.turn(&from(2)).await.is_ok());
        held.pop();
        assert!(waiting.await.is_ok());
        held.clear();
        assert!(attempts.queues.lock().is_empty());
    }
}
