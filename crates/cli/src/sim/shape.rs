//! The flags that make another run of the same seed.

use clap::Args;
use quorate_sim::{Edits, Fault, Incident, Kept, Kind, NoIncident, Options as Simulation, Size, UnknownName};
use std::str::FromStr;
use std::time::Duration;

/// What makes another run of the same seed.
#[derive(Args, Clone)]
pub(super) struct Shape {
    /// Nodes in the cluster, 1 to 9; each seed draws its own number if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Seconds, in virtual time, during which faults happen, 1 to 86400
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    faults_for: u64,
    /// What runs are about: swarm, calm, lite, one-fault, partial, membership, disk, clock, performance;
    /// or all, which take turns
    #[arg(long, value_name = "P", default_value = "all")]
    profile: Choice,
    /// Faults that do not happen though the seed draws them, by name, with commas
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    without: Vec<Fault>,
    /// The only incidents that happen, as `quorate sim shrink` prints them; or none
    #[arg(long, value_name = "INCIDENTS")]
    only: Option<Only>,
    /// At most this many clients, and as many steady readers
    #[arg(long, value_name = "N")]
    clients: Option<u64>,
    /// After this many operations clients begin no other
    #[arg(long, value_name = "N")]
    operations: Option<u64>,
}

/// The kinds of run that were asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    Only(Kind),
}

#[derive(Clone)]
struct Only(Kept);

impl Shape {
    /// How `seed` is run.
    pub(super) fn simulation(&self, seed: u64) -> Simulation {
        Simulation {
            kind: match self.profile {
                Choice::All => Kind::of_seed(seed),
                Choice::Only(kind) => kind,
            },
            size: self.nodes.map_or(Size::Drawn, Size::Exactly),
            duration: Duration::from_secs(self.faults_for),
            edits: Edits {
                without: self.without.iter().copied().collect(),
                kept: self.only.as_ref().map_or(Kept::All, |only| only.0.clone()),
                clients: self.clients,
                operations: self.operations,
            },
            ..Simulation::default()
        }
    }

    /// Whether many runs together must reach everything that runs are there to reach.
    pub(super) fn is_unrestricted(&self) -> bool {
        let is_whole = self.without.is_empty() && self.only.is_none();
        let has_all_clients = self.clients.is_none() && self.operations.is_none();
        self.profile == Choice::All && self.nodes.is_none() && is_whole && has_all_clients
    }
}

impl FromStr for Choice {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Only)
    }
}

impl FromStr for Only {
    type Err = NoIncident;

    fn from_str(text: &str) -> Result<Self, NoIncident> {
        if text == "none" {
            return Ok(Self(Kept::Only([].into())));
        }
        let incidents: Result<_, _> = text.split(',').map(str::parse::<Incident>).collect();
        incidents.map(|incidents| Self(Kept::Only(incidents)))
    }
}
