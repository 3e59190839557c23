//! What clients asked and were told, in one order of moments.
//!
//! - Moments are counted, not timed: no two are equal, so "before" is never in doubt.
//! - An operation that was refused is not in the history: it never happened. One whose outcome is
//!   not known stays in it, without an end.

use std::fmt;

/// A place in the order of everything clients saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// One of the keys that clients work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u64);

/// A value: clients never write the same one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub u64);

/// What a client wants of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this, whatever was there.
    Write(Value),
    /// Say what is there.
    Read,
    /// Write `new` if `expected` is there; else say what is.
    Swap {
        /// What must be there; nothing if none.
        expected: Option<Value>,
        /// What is written then.
        new: Value,
    },
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value was written.
    Written,
    /// This is there.
    Found(Option<Value>),
    /// What was expected was there, and the new value was written.
    Swapped,
    /// Something else was there, and nothing was written.
    Kept(Option<Value>),
}

/// How an operation ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Answered {
        /// When.
        at: Moment,
        /// What it said.
        answer: Answer,
    },
    /// Without: it may have happened at any time since, may happen yet, or never.
    Unknown,
}

/// What one client did once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who.
    pub client: u64,
    /// To what.
    pub key: Key,
    /// What.
    pub action: Action,
    /// When it was asked for.
    pub invoked: Moment,
    /// How it ended.
    pub ending: Ending,
}

/// Everything clients did.
#[derive(Clone, Debug, Default)]
pub struct History {
    moments: u64,
    operations: Vec<Option<Operation>>,
}

/// Names an operation of a [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(usize);

impl History {
    /// A client asks.
    pub fn invoke(&mut self, client: u64, key: Key, action: Action) -> OperationId {
        let invoked = self.moment();
        self.operations.push(Some(Operation {
            client,
            key,
            action,
            invoked,
            ending: Ending::Unknown,
        }));
        OperationId(self.operations.len() - 1)
    }

    /// The client is answered.
    pub fn answer(&mut self, id: OperationId, answer: Answer) {
        let at = self.moment();
        let operation = self.operations[id.0]
            .as_mut()
            .expect("an operation that was refused is not answered");
        assert_eq!(
            operation.ending,
            Ending::Unknown,
            "the operation was answered before"
        );
        operation.ending = Ending::Answered { at, answer };
    }

    /// The operation did not happen and never will.
    pub fn refuse(&mut self, id: OperationId) {
        self.operations[id.0] = None;
    }

    /// What happened or may have.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().flatten()
    }

    fn moment(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} key {}: ", self.client, self.key.0)?;
        match self.action {
            Action::Write(value) => write!(f, "write {}", value.0)?,
            Action::Read => write!(f, "read")?,
            Action::Swap { expected, new } => write!(f, "swap {} for {}", shown(expected), new.0)?,
        }
        write!(f, " at #{}", self.invoked.0)?;
        match self.ending {
            Ending::Unknown => write!(f, ": unknown"),
            Ending::Answered { at, answer } => write!(f, ": {answer} at #{}", at.0),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written => write!(f, "written"),
            Self::Found(value) => write!(f, "found {}", shown(*value)),
            Self::Swapped => write!(f, "swapped"),
            Self::Kept(value) => write!(f, "kept {}", shown(*value)),
        }
    }
}

fn shown(value: Option<Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.0.to_string())
}
