//! What sessions put into the log, what comes back, and the bytes of both.
//!
//! ```text
//! command     version 1: 1 byte | kind: 1 byte | fields of 8 bytes each, little-endian | the machine's bytes
//! 1 Plain                                          command
//! 2 Open      time to live
//! 3 Apply     session, seq, acknowledged below     command
//! 4 KeepAlive session, acknowledged below
//! 5 Close     session
//! 6 Advance   from, by
//! 7 Configure max sessions, max unacknowledged, max session bytes, max bytes, max time to live
//! ```
//!
//! Times are milliseconds. Only [`Command::Plain`] and [`Command::Apply`] are followed by anything.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::table::{Refusal, SessionLimits, TimeToLive};

/// Names a session: the index of the entry that opened it (thesis §6.3), so no two are ever the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Names a request of a session. The client counts them from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A point in the time that sessions live by, in milliseconds. It passes through the log only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// A command of sessions around commands `C` of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<C> {
    /// Applies a command without a session: whoever repeats it has it applied again.
    Plain(C),
    /// Opens a session.
    Open {
        /// How long it lives without a sign of life; what is too long or too short is adjusted.
        ttl: TimeToLive,
    },
    /// Applies a command, unless the session has had it applied.
    Apply {
        /// Whose request.
        session: SessionId,
        /// Which request.
        seq: Seq,
        /// The client repeats no request below this one.
        acknowledged_below: Seq,
        /// The machine's command.
        command: C,
    },
    /// The session's client is still there.
    KeepAlive {
        /// Which session.
        session: SessionId,
        /// The client repeats no request below this one.
        acknowledged_below: Seq,
    },
    /// Ends a session.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Time passed on the leader. Does nothing unless the sessions' time is `from`.
    Advance {
        /// What the leader took the time for.
        from: Moment,
        /// How long passed.
        by: Duration,
    },
    /// From here on, these limits hold.
    Configure(SessionLimits),
}

/// What a [`Command`] gives back, around responses `R` of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<R> {
    /// The session was opened.
    Opened(SessionId),
    /// The command was applied, by this entry or an earlier one of the same request.
    Applied(R),
    /// What was to be done to sessions or their time is done, or is not wanted any more.
    Done,
    /// Nothing was applied by this entry.
    Refused(Refusal),
}

/// Why bytes are no command of sessions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// They end too soon.
    #[error("it is cut short")]
    Short,
    /// They go on behind their end.
    #[error("{0} bytes follow its end")]
    TooLong(usize),
    /// Another version wrote them.
    #[error("version {0} of the sessions' commands is unknown here; this process may be too old")]
    Version(u8),
    /// There is no such kind.
    #[error("there is no command of sessions of kind {0}")]
    Kind(u8),
}

impl Command<Bytes> {
    /// The bytes that the log keeps.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, fields, body) = self.parts();
        let length = 2 + fields.len() * FIELD_BYTES + body.len();
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_u8(VERSION);
        bytes.put_u8(kind);
        for field in fields {
            bytes.put_u64_le(field);
        }
        bytes.put_slice(body);
        bytes.freeze()
    }

    fn parts(&self) -> (u8, Vec<u64>, &[u8]) {
        match self {
            Self::Plain(command) => (PLAIN, Vec::new(), command),
            Self::Open { ttl } => (OPEN, vec![ttl.as_millis()], &[]),
            Self::Apply {
                session,
                seq,
                acknowledged_below,
                command,
            } => (APPLY, vec![session.0, seq.0, acknowledged_below.0], command),
            Self::KeepAlive {
                session,
                acknowledged_below,
            } => (KEEP_ALIVE, vec![session.0, acknowledged_below.0], &[]),
            Self::Close { session } => (CLOSE, vec![session.0], &[]),
            Self::Advance { from, by } => (ADVANCE, vec![from.0, millis(*by)], &[]),
            Self::Configure(limits) => (CONFIGURE, limits.to_fields().to_vec(), &[]),
        }
    }

    /// Reads what [`Self::encode`] wrote. The machine's bytes are a view of `bytes`, not a copy.
    ///
    /// # Errors
    /// When it is something else.
    pub fn decode(mut bytes: Bytes) -> Result<Self, CommandError> {
        let version = bytes.try_get_u8().map_err(|_| CommandError::Short)?;
        if version != VERSION {
            return Err(CommandError::Version(version));
        }
        let kind = bytes.try_get_u8().map_err(|_| CommandError::Short)?;
        let command = Self::decode_fields(kind, &mut bytes)?;
        match bytes.len() {
            0 => Ok(command),
            left => Err(CommandError::TooLong(left)),
        }
    }

    fn decode_fields(kind: u8, bytes: &mut Bytes) -> Result<Self, CommandError> {
        let mut field = || bytes.try_get_u64_le().map_err(|_| CommandError::Short);
        Ok(match kind {
            PLAIN => Self::Plain(std::mem::take(bytes)),
            OPEN => Self::Open {
                ttl: TimeToLive::from_millis(field()?),
            },
            APPLY => Self::Apply {
                session: SessionId(field()?),
                seq: Seq(field()?),
                acknowledged_below: Seq(field()?),
                command: std::mem::take(bytes),
            },
            KEEP_ALIVE => Self::KeepAlive {
                session: SessionId(field()?),
                acknowledged_below: Seq(field()?),
            },
            CLOSE => Self::Close {
                session: SessionId(field()?),
            },
            ADVANCE => Self::Advance {
                from: Moment(field()?),
                by: Duration::from_millis(field()?),
            },
            CONFIGURE => {
                let fields = [field()?, field()?, field()?, field()?, field()?];
                Self::Configure(SessionLimits::from_fields(fields))
            }
            kind => return Err(CommandError::Kind(kind)),
        })
    }
}

impl<C> Command<C> {
    /// The same with the machine's command replaced by what `encode` makes of it.
    pub(crate) fn try_map<D, E>(self, encode: impl FnOnce(C) -> Result<D, E>) -> Result<Command<D>, E> {
        Ok(match self {
            Self::Plain(command) => Command::Plain(encode(command)?),
            Self::Apply {
                session,
                seq,
                acknowledged_below,
                command,
            } => Command::Apply {
                session,
                seq,
                acknowledged_below,
                command: encode(command)?,
            },
            Self::Open { ttl } => Command::Open { ttl },
            Self::KeepAlive {
                session,
                acknowledged_below,
            } => Command::KeepAlive {
                session,
                acknowledged_below,
            },
            Self::Close { session } => Command::Close { session },
            Self::Advance { from, by } => Command::Advance { from, by },
            Self::Configure(limits) => Command::Configure(limits),
        })
    }
}

impl Moment {
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// Whole milliseconds, as far as they fit: half a billion years.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const VERSION: u8 = 1;
const FIELD_BYTES: usize = 8;
const PLAIN: u8 = 1;
const OPEN: u8 = 2;
const APPLY: u8 = 3;
const KEEP_ALIVE: u8 = 4;
const CLOSE: u8 = 5;
const ADVANCE: u8 = 6;
const CONFIGURE: u8 = 7;
