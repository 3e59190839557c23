//! What went wrong in a run, piece by piece, so that pieces can be left out when it is run again.
//!
//! - An incident is named by where its random numbers come from, not by its place among the others:
//!   leaving one out leaves the others what they were.
//! - What is left out has been drawn all the same. A run from which nothing is left out is the seed's own.

use std::collections::BTreeSet;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use quorate_raft::NodeId;

use crate::fault::Fault;

/// One thing that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incident {
    /// The strike of this number.
    Strike(u64),
    /// Whatever befell the packet of this number, among those from one node to another.
    Packet {
        /// Who sent it.
        from: NodeId,
        /// To whom.
        to: NodeId,
        /// How many they had sent that way before.
        nth: u64,
    },
    /// The breaking off of the snapshot transfer of this number.
    Transfer(u64),
}

/// Which incidents happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// All that are drawn.
    #[default]
    All,
    /// Of those that are drawn, these.
    Only(BTreeSet<Incident>),
}

/// What is left out of a seed's run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Faults that do not happen though they were drawn.
    pub without: BTreeSet<Fault>,
    /// The incidents that happen.
    pub kept: Kept,
    /// How many clients ask, if not as many as were drawn.
    pub clients: Option<u64>,
    /// After how many operations nobody begins another.
    pub operations: Option<u64>,
}

/// Decides which incidents happen, and remembers them.
#[derive(Clone, Debug)]
pub(crate) struct Incidents {
    kept: Kept,
    happened: Vec<Incident>,
}

impl Incidents {
    pub(crate) fn new(kept: Kept) -> Self {
        Self {
            kept,
            happened: Vec::new(),
        }
    }

    /// Whether this incident, which was drawn, happens.
    pub(crate) fn happens(&mut self, incident: Incident) -> bool {
        let happens = match &self.kept {
            Kept::All => true,
            Kept::Only(kept) => kept.contains(&incident),
        };
        if happens {
            self.happened.push(incident);
        }
        happens
    }

    pub(crate) fn happened(&self) -> &[Incident] {
        &self.happened
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strike(nth) => write!(f, "s{nth}"),
            Self::Packet { from, to, nth } => write!(f, "p{}-{}-{nth}", from.0, to.0),
            Self::Transfer(nth) => write!(f, "t{nth}"),
        }
    }
}

/// What is no name of an incident.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no incident: write s3 for a strike, p1-2-55 for a packet, t4 for a transfer")]
pub struct NoIncident(String);

impl FromStr for Incident {
    type Err = NoIncident;

    fn from_str(text: &str) -> Result<Self, NoIncident> {
        parse(text)
            .ok()
            .flatten()
            .ok_or_else(|| NoIncident(text.to_owned()))
    }
}

fn parse(text: &str) -> Result<Option<Incident>, ParseIntError> {
    if let Some(nth) = text.strip_prefix('s') {
        return Ok(Some(Incident::Strike(nth.parse()?)));
    }
    if let Some(nth) = text.strip_prefix('t') {
        return Ok(Some(Incident::Transfer(nth.parse()?)));
    }
    let mut parts = text.strip_prefix('p').unwrap_or_default().splitn(3, '-');
    let (Some(from), Some(to), Some(nth)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    Ok(Some(Incident::Packet {
        from: NodeId(from.parse()?),
        to: NodeId(to.parse()?),
        nth: nth.parse()?,
    }))
}

impl fmt::Display for Edits {
    /// As flags of the command line, each with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without.is_empty() {
            write!(f, " --without {}", joined(&self.without))?;
        }
        match &self.kept {
            Kept::All => {}
            Kept::Only(kept) if kept.is_empty() => write!(f, " --only none")?,
            Kept::Only(kept) => write!(f, " --only {}", joined(kept))?,
        }
        if let Some(clients) = self.clients {
            write!(f, " --clients {clients}")?;
        }
        if let Some(operations) = self.operations {
            write!(f, " --operations {operations}")?;
        }
        Ok(())
    }
}

fn joined<T: fmt::Display>(items: &BTreeSet<T>) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: Incident = Incident::Packet {
        from: NodeId(1),
        to: NodeId(2),
        nth: 55,
    };

    #[test]
    fn incidents_are_known_by_their_names() {
        for incident in [Incident::Strike(3), PACKET, Incident::Transfer(4)] {
            assert_eq!(incident.to_string().parse(), Ok(incident));
        }
        for wrong in ["", "s", "x3", "p1-2", "p1-2-x", "3"] {
            assert!(wrong.parse::<Incident>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_kept_happens() {
        let mut incidents = Incidents::new(Kept::Only([PACKET].into()));
        assert!(!incidents.happens(Incident::Strike(1)));
        assert!(incidents.happens(PACKET));
        assert_eq!(incidents.happened(), [PACKET]);
    }

    #[test]
    fn edits_are_shown_as_flags() {
        let edits = Edits {
            without: [Fault::Drop, Fault::Crash].into(),
            kept: Kept::Only([Incident::Strike(3), PACKET].into()),
            clients: Some(1),
            operations: None,
        };
        assert_eq!(
            edits.to_string(),
            " --without drop,crash --only s3,p1-2-55 --clients 1"
        );
        assert_eq!(Edits::default().to_string(), "");
    }
}
