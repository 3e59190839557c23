//! Between the wire's types and the keyspace's, in both directions. Nothing is decided here.
//!
//! - A request that contradicts itself has no counterpart in the keyspace: it ends here, with etcd's
//!   error.
//! - Keys and values are shared, never copied.

mod auth;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod request;
mod response;
mod version;

pub(crate) use auth::{permission, permission_response};
pub(crate) use error::{go_error, propose_failed, read_failed, reconfigure_failed, refused, transfer_failed};
pub(crate) use request::{delete_range, put, range, txn, watch};
pub(crate) use response::{
    alarm_name, alarms, delete_range_response, key_value, put_response, range_response, txn_response,
    watch_denied, watch_response,
};
pub(crate) use version::is_version;
