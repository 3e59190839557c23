//! Passwords: hashed before they are proposed, checked in time that tells nothing.
//!
//! - Hashing is work for a pool of threads that may block, and for few of them at once: whoever floods a
//!   member with logins slows down logins.
//! - A user that is not there takes as long as one whose password is wrong.

use std::thread::available_parallelism;

use quorate_etcd_api::EtcdError;
use quorate_kv::PasswordHash;
use tokio::sync::{OnceCell, Semaphore};
use tonic::Status;

use super::config::BcryptCost;

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    cost: BcryptCost,
    hashing: Semaphore,
    waiting: Semaphore,
    /// The hash of no password.
    nobody: OnceCell<String>,
}

impl Passwords {
    /// With hashes of this cost.
    pub(crate) fn new(cost: BcryptCost) -> Passwords {
        let cores = available_parallelism().map_or(1, usize::from);
        Passwords {
            cost,
            hashing: Semaphore::new((cores / 2).max(1)),
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
        if password.len() > MAX_BYTES {
            let problem = "quorate: a password has at most 72 bytes";
            return Err(Status::invalid_argument(problem));
        }
        let cost = self.cost.get();
        let hash = self.work(move || bcrypt::hash(password, cost)).await?;
        hash.map(PasswordHash::new)
            .map_err(|error| Status::internal(format!("quorate: the password cannot be hashed: {error}")))
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
        self.hash(super::token::hex(&random))
            .await
            .map(|hash| hash.expose().to_owned())
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let too_many = |_| Status::from(EtcdError::RequestTooManyRequests);
        let _waiting = self.waiting.try_acquire().map_err(too_many)?;
        let stopped = |_| Status::from(EtcdError::Stopped);
        let _hashing = self.hashing.acquire().await.map_err(stopped)?;
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
        Passwords::new(BcryptCost::new(4).unwrap())
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

    /// etcd's hashes are Go's, which begin otherwise.
    #[tokio::test]
    async fn a_hash_of_gos_is_read() {
        let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let hash = Some(PasswordHash::new(hash));
        assert!(passwords().check("U*U".to_owned(), hash).await.unwrap());
    }
}
