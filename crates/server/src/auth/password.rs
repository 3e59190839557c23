//! Passwords: hashed before they are proposed, checked in time that tells nothing.
//!
//! - Hashing is work for a pool of threads that may block, and for few of them at once: whoever floods a
//!   member with logins slows down logins.
//! - A user that is not there takes as long as one whose password is wrong.

use std::sync::Arc;
use std::thread::available_parallelism;

use quorate_etcd_api::EtcdError;
use quorate_kv::PasswordHash;
use tokio::sync::{OnceCell, Semaphore};
use tonic::Status;

use super::config::BcryptCost;

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    cost: BcryptCost,
    min_bytes: usize,
    hashing: Arc<Semaphore>,
    waiting: Semaphore,
    /// The hash of no password.
    nobody: OnceCell<String>,
}

impl Passwords {
    /// With hashes of this cost, of passwords of this length and longer.
    pub(crate) fn new(cost: BcryptCost, min_bytes: usize) -> Passwords {
        let cores = available_parallelism().map_or(1, usize::from);
        Passwords {
            cost,
            min_bytes,
            hashing: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Semaphore::new(MAX_WAITING),
            nobody: OnceCell::new(),
        }
    }

    /// The hash of a password that is to be kept.
    pub(crate) async fn hash(&self, password: String) -> Result<PasswordHash, Status> {
        if password.is_empty() {
            let problem = "quorate: the password is empty; a user without one is added with no_password";
            return Err(Status::invalid_argument(problem));
        }
        if password.len() < self.min_bytes {
            return Err(Status::invalid_argument(format!(
                "quorate: a password has at least {} bytes (--min-password-bytes)",
                self.min_bytes
            )));
        }
        if password.len() > MAX_BYTES {
            let problem = "quorate: a password has at most 72 bytes";
            return Err(Status::invalid_argument(problem));
        }
        self.hash_any(password).await.map(PasswordHash::new)
    }

    async fn hash_any(&self, password: String) -> Result<String, Status> {
        let cost = self.cost.get();
        let hash = self.work(move || bcrypt::hash(password, cost)).await?;
        hash.map_err(|error| Status::internal(format!("quorate: the password cannot be hashed: {error}")))
    }

    /// Whether a password belongs to a hash; to none, it never does.
    pub(crate) async fn check(&self, password: String, hash: Option<PasswordHash>) -> Result<bool, Status> {
        // Made before the first check, so that it is never part of the time that one takes.
        let nobody = self.nobody.get_or_try_init(|| self.make_nobody()).await?;
        // bcrypt would compare the first bytes of a longer one.
        let is_possible = hash.is_some() && password.len() <= MAX_BYTES;
        let hash = hash.map_or_else(|| nobody.clone(), |hash| hash.expose().to_owned());
        let verify = move || bcrypt::verify(password, &hash).unwrap_or(false);
        Ok(self.work(verify).await? && is_possible)
    }

    async fn make_nobody(&self) -> Result<String, Status> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(no_randomness)?;
        self.hash_any(super::token::hex(&random)).await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let too_many = |_| Status::from(EtcdError::RequestTooManyRequests);
        let _waiting = self.waiting.try_acquire().map_err(too_many)?;
        let stopped = |_| Status::from(EtcdError::Stopped);
        let hashing = Arc::clone(&self.hashing).acquire_owned().await.map_err(stopped)?;
        let work = move || {
            // Held by the work: it goes on when its client has gone away.
            let _hashing = hashing;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
    }
}

/// No token and no salt can be made.
pub(crate) fn no_randomness(error: getrandom::Error) -> Status {
    Status::internal(format!("quorate: no randomness: {error}"))
}

/// bcrypt reads no further.
const MAX_BYTES: usize = 72;
const MAX_WAITING: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(BcryptCost::new(4).unwrap(), 1)
    }

    #[tokio::test]
    async fn a_password_is_known_by_its_hash() {
        let passwords = passwords();
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        assert!(!hash.expose().contains("secret"));
        let check = |password: &str, hash| passwords.check(password.to_owned(), hash);
        assert!(check("secret", Some(hash.clone())).await.unwrap());
        assert!(!check("Secret", Some(hash.clone())).await.unwrap());
        assert!(!check(&"secret".repeat(20), Some(hash)).await.unwrap());
        assert!(!check("secret", None).await.unwrap(), "nobody's");
        assert!(!check("secret", Some(PasswordHash::new("no hash"))).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_a_password_however_long_those_of_others_must_be() {
        let passwords = Passwords::new(BcryptCost::new(4).unwrap(), 64);
        let checked = passwords.check("x".repeat(64), None).await;
        assert!(!checked.unwrap());
    }

    #[tokio::test]
    async fn a_password_that_would_be_cut_or_is_none_is_refused() {
        let passwords = passwords();
        for password in [String::new(), "x".repeat(73)] {
            let status = passwords.hash(password).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
        }
        let longest = "x".repeat(72);
        let hash = passwords.hash(longest.clone()).await.unwrap();
        assert!(
            passwords
                .check(longest.clone(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(!passwords.check(longest + "x", Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn a_password_shorter_than_the_minimum_is_refused() {
        let passwords = Passwords::new(BcryptCost::new(4).unwrap(), 12);
        let status = passwords.hash("x".repeat(11)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("--min-password-bytes"), "{status}");
        let hash = passwords.hash("x".repeat(12)).await.unwrap();
        assert!(passwords.check("x".repeat(12), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn work_whose_client_has_gone_away_is_still_counted() {
        let passwords = passwords();
        let many = passwords.hashing.available_permits();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let work = passwords.work(move || wait.recv());
        let mut work = Box::pin(work);
        while passwords.hashing.available_permits() == many {
            assert!(futures::poll!(work.as_mut()).is_pending());
        }
        drop(work);
        assert_eq!(passwords.hashing.available_permits(), many - 1);
        drop(go_on);
        let all = u32::try_from(many).unwrap();
        assert!(passwords.hashing.acquire_many(all).await.is_ok());
    }

    /// etcd's hashes are Go's, which begin otherwise.
    #[tokio::test]
    async fn a_hash_of_gos_is_read() {
        let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let hash = Some(PasswordHash::new(hash));
        assert!(passwords().check("U*U".to_owned(), hash).await.unwrap());
    }
}
