//! Who calls: passwords, tokens, and the gate that every call passes.
//!
//! - What a caller may do is decided by the keyspace, at the state in which it is done. Here it is established
//!   who the caller is, and refused what no state could permit.
//! - A method without a declared demand does not exist: see [`crate::rpc::Demand`].
//! - Passwords and tokens are never logged, and never reach the log of commands: only hashes and digests do.

mod attempts;
mod audit;
mod config;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gate;
mod jwt;
mod password;
mod question;
mod ring_provider;
mod token;

pub use config::{AuthConfig, AuthTokenError, BcryptCost, JwtConfig, SignMethod, TokenKind};

pub(crate) use attempts::Attempts;
pub(crate) use audit::{About, Ended, Record, Who, audit_login, is_audited};
pub(crate) use gate::{Session, session};
pub(crate) use password::Passwords;
pub(crate) use question::{AuthAnswer, AuthQuestion, answer_auth};
pub(crate) use token::{Token, Tokens};
