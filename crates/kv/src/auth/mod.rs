//! Users, roles and permissions, as part of the replicated state.
//!
//! - While authentication is off, everything is permitted to everybody. While it is on, what is not granted
//!   is refused.
//! - A right is checked by the state that it is used on: for a command, when it is applied; for a read, when
//!   it is answered. [`Credentials`] name the revision they were checked at, and count at no other.
//! - No password is ever here, only hashes that others have made; no token either, only digests.
//!
//! What a password's hash is, how a token looks and who a certificate names is left to the server.

mod command;
mod permit;
mod sessions;
mod store;
mod types;

pub use command::{AuthCommand, Login, SessionEvent};
pub use permit::Right;
pub use sessions::{Moment, Sessions};
pub use store::{AuthStatus, AuthStore};
pub use types::{
    Access, AuthRevision, AuthSwitch, Caller, Credentials, PasswordHash, Permission, RoleName, TokenDigest,
    UnixSeconds, UserName,
};

pub(crate) use store::User;
