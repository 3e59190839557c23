//! How a command of `quorate ctl` ends when it does not succeed: etcdctl's exit codes and texts.

use crate::output::ReaderGone;
use quorate_etcd_api::EtcdError;
use std::error::Error;
use std::fmt;
use tonic::{Code, Status};

/// Why a command did not succeed, with the exit code of the process.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be said on standard error.
    Said {
        /// The exit code.
        code: u8,
        /// What goes after `Error: `.
        message: String,
    },
    /// Everything was said already.
    Silent(u8),
    /// Nobody reads standard output any more: that ends the work quietly.
    ReaderGone,
}

/// The exit codes of etcdctl.
pub(super) mod code {
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const BAD_CONNECTION: u8 = 2;
    pub(crate) const INVALID_INPUT: u8 = 3;
    pub(crate) const BAD_FEATURE: u8 = 4;
    pub(crate) const INTERRUPTED: u8 = 5;
    pub(crate) const BAD_ARGUMENTS: u8 = 128;
}

/// What a request is said to have failed with when its time was up.
pub(super) const DEADLINE: &str = "context deadline exceeded";

impl Failure {
    pub(super) fn with(code: u8, message: impl Into<String>) -> Self {
        Self::Said {
            code,
            message: message.into(),
        }
    }

    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::with(code::ERROR, message)
    }

    pub(super) fn arguments(message: impl Into<String>) -> Self {
        Self::with(code::BAD_ARGUMENTS, message)
    }

    pub(super) fn deadline() -> Self {
        Self::error(DEADLINE)
    }

    /// The same failure with its text put into another.
    pub(super) fn within(self, wrap: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Said { code, message } => Self::with(code, wrap(&message)),
            Self::Silent(_) | Self::ReaderGone => self,
        }
    }

    /// The same failure with another exit code.
    pub(super) fn exits_with(self, code: u8) -> Self {
        match self {
            Self::Said { message, .. } => Self::with(code, message),
            Self::Silent(_) | Self::ReaderGone => self,
        }
    }

    /// What was said, or is to be said.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Said { message, .. } => message,
            Self::Silent(_) | Self::ReaderGone => "",
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::error(text(&status))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.is::<ReaderGone>() {
            true => Self::ReaderGone,
            false => Self::error(format!("{error:#}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// A status as etcd's Go client shows it: its own errors by their text alone.
pub(super) fn text(status: &Status) -> String {
    let message = status.message();
    let is_known = EtcdError::ALL.iter().any(|error| error.message() == message);
    let code = status.code();
    if is_known {
        message.to_string()
    } else if code == Code::DeadlineExceeded {
        DEADLINE.to_string()
    } else if is_of_connection(status) {
        format!(
            "rpc error: code = Unavailable desc = transport: {}",
            cause(status)
        )
    } else {
        format!("rpc error: code = {} desc = {message}", name(code))
    }
}

/// Whether it is not the server that says so: the connection broke, or never was one.
pub(super) fn is_of_connection(status: &Status) -> bool {
    status.source().is_some()
}

/// The last of an error's causes: what the system said.
pub(super) fn cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// A code as Go calls it.
fn name(code: Code) -> String {
    match code == Code::Cancelled {
        true => "Canceled".to_string(),
        false => format!("{code:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_as_etcds_client_shows_them() {
        let known = Status::invalid_argument("etcdserver: key is not provided");
        assert_eq!(text(&known), "etcdserver: key is not provided");
        let foreign = Status::cancelled("no");
        assert_eq!(text(&foreign), "rpc error: code = Canceled desc = no");
        assert_eq!(text(&Status::deadline_exceeded("x")), DEADLINE);
    }
}
