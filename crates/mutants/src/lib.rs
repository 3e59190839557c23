//! Deliberate bugs, one at a time, for the simulator to find.
//!
//! A check that has never failed may be one that cannot. So each rule that matters has a switch in
//! the code, `mutant!(M17)` right at the rule, that breaks it; and the simulator must then name what
//! no longer holds.
//!
//! - The switches exist with the feature `mutants` only, which no build has by default, and which
//!   does not compile without debug assertions. Otherwise `mutant!` is the constant `false`.
//! - At most one bug is on in a thread, and only as long as its [`Switch`] lives.
//! - Numbers up to M70 are those of the project's list of bugs; gaps in it are bugs of other layers. From M71 on they
//!   are of checks that were once too wide to find them.
//!
//! Left out: where the switches are (search for the name), and what finds them (`docs/mutations.md`).

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// The part of the system that a bug is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Elections: votes and terms.
    Vote,
    /// Replication and commitment.
    Append,
    /// Snapshots and the state machine.
    Snapshot,
    /// Changes of membership.
    Membership,
    /// Reads, leases and retried requests.
    Client,
}

macro_rules! mutants {
    ($($name:ident $area:ident $what:literal;)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $(#[doc = $what] $name,)*
        }

        impl Mutant {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What is wrong when it is on.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }

            /// The part of the system that it is in.
            #[must_use]
            pub fn area(self) -> Area {
                match self { $(Self::$name => Area::$area,)* }
            }
        }
    };
}

mutants! {
    M1 Vote "A term and vote is reported durable without a sync.";
    M2 Vote "A vote is sent before it is durable.";
    M3 Vote "A node that starts has forgotten its vote, not its term.";
    M4 Vote "A vote is given whatever the candidate's log holds.";
    M5 Vote "Of two logs the longer one counts as more up to date, whatever its last term.";
    M6 Vote "A node that is asked for a pre-vote moves to the term it is asked about.";
    M7 Vote "A pre-vote is granted while a leader is heard of.";
    M8 Vote "A vote is kept when the term grows.";
    M9 Vote "A leader goes on leading when it learns of a higher term.";
    M10 Vote "Votes of an earlier term are counted.";
    M11 Vote "Whoever grants a vote is counted, learners too.";
    M12 Vote "All election timeouts are equal.";
    M13 Vote "Neither hearing from the leader nor granting a vote puts a campaign off.";
    M14 Vote "A node campaigns without asking first, and is heard while there is a leader.";
    M15 Append "Entries are acknowledged before they are durable.";
    M16 Append "A leader counts itself for entries that its own disk does not have.";
    M17 Append "A leader commits entries of earlier terms by counting.";
    M18 Append "Entries are accepted after an entry of another term than the leader's.";
    M19 Append "Entries replace all that follows them, even where they agree with the log.";
    M20 Append "Entries replace all that follows them, even what is committed.";
    M21 Append "An acknowledgment counts for all that was sent, not for what it says.";
    M22 Append "A late acknowledgment takes back a newer one.";
    M23 Append "A follower commits up to its leader's commit index, past what was compared.";
    M24 Append "Half of the voters, rounded down, are a quorum.";
    M25 Append "Half of an even number of voters is a quorum.";
    M26 Append "A heartbeat commits what the follower has not been compared for.";
    M27 Append "A new leader appends no entry of its own.";
    M28 Append "An append that overtook others is acknowledged, though what they bring is missing.";
    M29 Snapshot "A snapshot older than the log replaces it.";
    M30 Snapshot "A snapshot leaves the log after it as it is, though the two disagree.";
    M31 Snapshot "A snapshot leaves the clients' sessions out.";
    M32 Snapshot "A snapshot is visible, and the log before it let go, before its data is durable.";
    M33 Snapshot "A snapshot holds later entries than it says: they are applied twice.";
    M34 Snapshot "What is applied depends on the order of a hash map.";
    M35 Snapshot "What is applied depends on the node's clock.";
    M36 Snapshot "Chunks of a snapshot are taken as they come, in whatever order.";
    M37 Membership "Members are in effect once they are committed, not once they are appended.";
    M38 Membership "A change of the members begins before the one before it is committed.";
    M39 Membership "Where two sets of voters decide, a majority of them all is enough.";
    M40 Membership "Newcomers vote before they have caught up.";
    M41 Membership "A leader that is left out goes on counting itself.";
    M42 Membership "Members stay in effect when the entry that names them is truncated.";
    M55 Client "A leader serves reads without asking whether it still leads.";
    M56 Client "A leader serves reads before it has committed an entry of its own term.";
    M57 Client "A read joins a round of heartbeats that is under way.";
    M58 Client "A lease runs from when heartbeats are answered, not from when they were sent.";
    M59 Client "A leader keeps its lease while it hands over.";
    M60 Client "A node that starts helps elect a leader at once, though leaders hold leases.";
    M61 Client "Leases go by a clock that is set.";
    M62 Client "A command that comes twice is applied twice.";
    M63 Client "A node that restores a snapshot forgets which commands of sessions were applied.";
    M64 Client "The leader ends sessions by its own clock.";
    M71 Membership "A joint configuration is decided by the incoming voters alone.";
    M72 Client "Who promised a leader to elect nobody else votes for others all the same.";
    M73 Vote "A follower that is told that its leader is gone campaigns without a pre-vote.";
    M74 Append "Entries that the disk has stay in memory, however many they are.";
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// There is no such bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no mutation {0}; they are named like M17")]
pub struct UnknownMutant(String);

impl FromStr for Mutant {
    type Err = UnknownMutant;

    /// By name, `M17` or `m17`.
    fn from_str(name: &str) -> Result<Self, UnknownMutant> {
        let wanted = name.to_ascii_uppercase();
        let found = Self::ALL.iter().find(|mutant| mutant.to_string() == wanted);
        found.copied().ok_or_else(|| UnknownMutant(name.to_owned()))
    }
}

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Whether `mutant` is on in this thread.
#[must_use]
pub fn is_on(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Keeps a bug on in the thread that made it.
#[derive(Debug)]
pub struct Switch {
    before: Option<Mutant>,
    /// It must be dropped in the thread that it belongs to.
    _thread: PhantomData<*const ()>,
}

impl Switch {
    /// Switches `mutant` on, and any other off, until the value is dropped.
    #[must_use]
    pub fn on(mutant: Mutant) -> Self {
        Self::set(Some(mutant))
    }

    /// Switches all off until the value is dropped.
    #[must_use]
    pub fn off() -> Self {
        Self::set(None)
    }

    fn set(mutant: Option<Mutant>) -> Self {
        Self {
            before: ACTIVE.replace(mutant),
            _thread: PhantomData,
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        ACTIVE.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bug_at_a_time_in_one_thread_only() {
        let outer = Switch::on(Mutant::M1);
        {
            let _inner = Switch::on(Mutant::M17);
            assert!(is_on(Mutant::M17) && !is_on(Mutant::M1));
            let elsewhere = std::thread::spawn(|| is_on(Mutant::M17));
            assert!(!elsewhere.join().unwrap());
        }
        assert!(is_on(Mutant::M1) && !is_on(Mutant::M17));
        drop(outer);
        assert!(Mutant::ALL.iter().all(|mutant| !is_on(*mutant)));
    }

    #[test]
    fn names_are_read_back() {
        for mutant in Mutant::ALL {
            assert_eq!(mutant.to_string().parse(), Ok(*mutant));
        }
        assert_eq!("m17".parse(), Ok(Mutant::M17));
        assert!("M43".parse::<Mutant>().is_err());
    }
}
