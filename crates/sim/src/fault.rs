//! What can go wrong, by name.

use std::fmt;
use std::str::FromStr;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Packets are lost.
    Drop,
    /// Packets arrive twice.
    Duplicate,
    /// Packets overtake each other.
    Reorder,
    /// A few packets take a hundred times as long.
    SlowTail,
    /// Bytes are altered on their way: the frame is refused, and its connection is lost with all that was on it.
    Corrupt,
    /// One direction of a link becomes slow and narrow.
    Clog,
    /// Packets recorded long ago arrive again.
    Replay,
    /// Two groups cannot reach each other.
    Halves,
    /// One node reaches nobody.
    Isolate,
    /// One node can be heard but hears nobody, or the other way round, or is not heard by one other.
    OneWay,
    /// Two groups can reach one node, and not each other.
    Bridge,
    /// Each node reaches a majority, no two the same.
    Ring,
    /// Each node reaches the one before it and the one after it, as in a chain.
    Chain,
    /// All reach one node, and nobody else: only it can lead.
    Star,
    /// The connection between two nodes is dead, and neither is told.
    HalfOpen,
    /// One node reaches nobody until the others have compacted what it lacks.
    Blackhole,
    /// A process dies and starts again.
    Crash,
    /// A process dies and starts, again and again.
    RestartLoop,
    /// All processes die at once.
    PowerLoss,
    /// A process stands still for a while, or its whole machine, and then goes on as if nothing had been.
    Pause,
    /// A process does everything, much later.
    SlowNode,
    /// The clocks run at different rates.
    Drift,
    /// A clock jumps ahead: many ticks at once. Or the time of day is set, either way.
    ClockJump,
    /// A clock runs fast and slow in turn.
    Strobe,
    /// A disk stops answering for a while.
    DiskStall,
    /// A call to a disk fails: the node must stop.
    DiskError,
    /// A disk has no room for a while.
    DiskFull,
    /// A snapshot breaks off on its way.
    BrokenSnapshot,
    /// An operator moves the leadership.
    Transfer,
    /// An operator asks for other members.
    Reconfigure,
    /// A node's directory is lost, and the node with it.
    LostDirectory,
    /// A peer is reported as gone that is not.
    FalseReport,
    /// A leader is cut off, and comes back with entries that nobody else has: as its successor dies, or when
    /// the others have compacted what it lacks.
    Comeback,
}

/// How a fault comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It befalls packets and chunks as they pass, or holds for the whole run.
    Always,
    /// It strikes at moments of its own.
    Strikes,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::Drop,
        Self::Duplicate,
        Self::Reorder,
        Self::SlowTail,
        Self::Corrupt,
        Self::Clog,
        Self::Replay,
        Self::Halves,
        Self::Isolate,
        Self::OneWay,
        Self::Bridge,
        Self::Ring,
        Self::Chain,
        Self::Star,
        Self::HalfOpen,
        Self::Blackhole,
        Self::Crash,
        Self::RestartLoop,
        Self::PowerLoss,
        Self::Pause,
        Self::SlowNode,
        Self::Drift,
        Self::ClockJump,
        Self::Strobe,
        Self::DiskStall,
        Self::DiskError,
        Self::DiskFull,
        Self::BrokenSnapshot,
        Self::Transfer,
        Self::Reconfigure,
        Self::LostDirectory,
        Self::FalseReport,
        Self::Comeback,
    ];

    /// Who reaches whom only in part.
    pub const PARTIAL: [Self; 8] = [
        Self::OneWay,
        Self::Bridge,
        Self::Ring,
        Self::Chain,
        Self::Star,
        Self::HalfOpen,
        Self::Halves,
        Self::Isolate,
    ];

    /// What befalls disks, and the processes over them.
    pub const DISK: [Self; 7] = [
        Self::Crash,
        Self::RestartLoop,
        Self::PowerLoss,
        Self::DiskStall,
        Self::DiskError,
        Self::DiskFull,
        Self::BrokenSnapshot,
    ];

    /// What befalls clocks, and what looks like it.
    pub const CLOCK: [Self; 5] = [
        Self::Drift,
        Self::ClockJump,
        Self::Strobe,
        Self::Pause,
        Self::SlowNode,
    ];

    /// What can befall a node that is alone.
    pub(crate) const ALONE: [Self; 11] = [
        Self::Crash,
        Self::RestartLoop,
        Self::PowerLoss,
        Self::Pause,
        Self::SlowNode,
        Self::Drift,
        Self::ClockJump,
        Self::Strobe,
        Self::DiskStall,
        Self::DiskError,
        Self::DiskFull,
    ];

    pub(crate) fn manner(self) -> Manner {
        match self {
            Self::Drop
            | Self::Duplicate
            | Self::Reorder
            | Self::SlowTail
            | Self::Corrupt
            | Self::Replay
            | Self::Drift
            | Self::BrokenSnapshot => Manner::Always,
            Self::Clog
            | Self::Halves
            | Self::Isolate
            | Self::OneWay
            | Self::Bridge
            | Self::Ring
            | Self::Chain
            | Self::Star
            | Self::HalfOpen
            | Self::Blackhole
            | Self::Crash
            | Self::RestartLoop
            | Self::PowerLoss
            | Self::Pause
            | Self::SlowNode
            | Self::ClockJump
            | Self::Strobe
            | Self::DiskStall
            | Self::DiskError
            | Self::DiskFull
            | Self::Transfer
            | Self::Reconfigure
            | Self::LostDirectory
            | Self::FalseReport
            | Self::Comeback => Manner::Strikes,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::SlowTail => "slow-tail",
            Self::Corrupt => "corrupt",
            Self::Clog => "clog",
            Self::Replay => "replay",
            Self::Halves => "halves",
            Self::Isolate => "isolate",
            Self::OneWay => "one-way",
            Self::Bridge => "bridge",
            Self::Ring => "ring",
            Self::Chain => "chain",
            Self::Star => "star",
            Self::HalfOpen => "half-open",
            Self::Blackhole => "blackhole",
            Self::Crash => "crash",
            Self::RestartLoop => "restart-loop",
            Self::PowerLoss => "power-loss",
            Self::Pause => "pause",
            Self::SlowNode => "slow-node",
            Self::Drift => "drift",
            Self::ClockJump => "clock-jump",
            Self::Strobe => "strobe",
            Self::DiskStall => "disk-stall",
            Self::DiskError => "disk-error",
            Self::DiskFull => "disk-full",
            Self::BrokenSnapshot => "broken-snapshot",
            Self::Transfer => "transfer",
            Self::Reconfigure => "reconfigure",
            Self::LostDirectory => "lost-directory",
            Self::FalseReport => "false-report",
            Self::Comeback => "comeback",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == text);
        found.ok_or_else(|| UnknownName::new("fault", text, &Self::ALL))
    }
}

/// A name that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}; there are: {known}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: String,
}

impl UnknownName {
    pub(crate) fn new(what: &'static str, name: &str, known: &[impl fmt::Display]) -> Self {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        Self {
            what,
            name: name.to_owned(),
            known: known.join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_known_by_its_name() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        let error = "dropp".parse::<Fault>().unwrap_err().to_string();
        assert!(
            error.contains("\"dropp\"") && error.contains("slow-tail"),
            "{error}"
        );
    }
}
