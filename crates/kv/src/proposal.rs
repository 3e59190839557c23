//! A command with the one who asks for it: what an entry of the log holds.

use bytes::Bytes;

use crate::{Caller, Command, DecodeError, wire};

/// A command and on whose account it is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who asks. The right to it is checked when the command is applied.
    pub caller: Caller,
    /// What for.
    pub command: Command,
}

impl From<Command> for Proposal {
    /// The command of a caller that has not said who it is.
    fn from(command: Command) -> Self {
        let caller = Caller::Anonymous;
        Self { caller, command }
    }
}

impl Proposal {
    /// The bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::encode(&self.caller, &self.command)
    }

    /// Reads what [`Self::encode`] wrote. Keys and values share the memory of `bytes`.
    ///
    /// # Errors
    /// Any bytes that are not a proposal of a known format.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        wire::decode(bytes)
    }
}
