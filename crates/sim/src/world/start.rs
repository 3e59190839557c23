//! Processes that begin, and what must be true of what they begin with.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate::storage::Opened;
use quorate_raft::{Configuration, EntryId, MemberInfo, MemberKind, NodeId, Priority};

use super::{Happening, Wiring, World};
use crate::digest::Digest;
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::mutant::mutant;
use crate::network::Arrival;
use crate::profile::Profile;
use crate::registers::Quirk;
use crate::replicated::content;
use crate::rng::{Chance, Rng, Stream};
use crate::safety::Safety;
use crate::server::{DiskFailure, NotStarted, Server};

/// The nodes that a run begins with, none of which has started.
pub(super) fn first_members(seed: u64, profile: &Profile) -> (BTreeMap<NodeId, Server>, Safety) {
    let nodes = || (1..=profile.nodes).map(NodeId);
    let kind = |node: NodeId| (node, kind_of(seed, profile, node));
    let described = nodes().map(|node| (node, info(seed, profile, node)));
    let first = Configuration::new(nodes(), [])
        .and_then(|first| first.with_info(described.filter(|(_, info)| *info != MemberInfo::default())))
        .expect("there is a node that keeps data, and no learner");
    let mut safety = Safety::new(profile.node.limits.clone());
    let mut servers = BTreeMap::new();
    for (node, kind) in nodes().map(kind) {
        if kind == MemberKind::Witness {
            safety.keeps_no_data(node);
        }
        servers.insert(
            node,
            Server::new(seed, (node, kind), &profile.node, first.clone()),
        );
    }
    (servers, safety)
}

/// Whether a node keeps data: it does so for ever, or never.
pub(super) fn kind_of(seed: u64, profile: &Profile, node: NodeId) -> MemberKind {
    let is_witness = if profile.witnesses == Chance::NEVER {
        false
    } else if node.0 <= profile.nodes {
        node.0 == profile.nodes && profile.nodes >= 3
    } else {
        Rng::new(seed, Stream::Kind(node.0)).chance(profile.witnesses)
    };
    if is_witness {
        MemberKind::Witness
    } else {
        MemberKind::Full
    }
}

/// What a configuration says of a node.
pub(super) fn info(seed: u64, profile: &Profile, node: NodeId) -> MemberInfo {
    let kind = kind_of(seed, profile, node);
    let rng = &mut Rng::new(seed, Stream::Priority(node.0));
    let is_wanted = kind == MemberKind::Full && rng.chance(profile.wanted);
    let priority = if is_wanted {
        *rng.pick(&[Priority(1), Priority(2)])
    } else {
        Priority::default()
    };
    MemberInfo {
        kind,
        priority,
        ..MemberInfo::default()
    }
}

impl World {
    pub(super) fn start(&mut self, node: NodeId) -> Result<(), Violation> {
        let quirk = self.quirk_of(node);
        let profile = self.profile.node.clone();
        let server = self.server(node);
        if server.process.is_some() || server.is_lost() {
            return Ok(());
        }
        let opened = match server.start(&profile, quirk) {
            Ok(opened) => opened,
            Err(NotStarted::DiskFailed(error)) => {
                self.marks.reach(Mark::StartFailed);
                self.mark_if_full(node, Mark::StartFull);
                return self.stop_failed(node, &error);
            }
            Err(NotStarted::Refused(detail)) => {
                let invariant = Invariant::Recovery;
                return Err(Violation { invariant, detail });
            }
        };
        self.mark_start(node, &opened);
        let stored = opened.stored;
        let server = self.server(node);
        let (life, drawn) = (server.life, server.rng.span(Duration::ZERO, profile.tick));
        let first_tick = self.first_tick(drawn);
        self.note(|| format!("{node} starts from {} after {}", stored.last, stored.snapshot.id));
        self.safety.started(node, &stored)?;
        self.for_spec(|spec| spec.started(node, &stored));
        if let Some(process) = self.process(node, life) {
            let machine = process.apply.applier.machine();
            let (state, content) = (machine.machine().state(), content(machine));
            self.safety.in_state(node, stored.snapshot.id.index, state)?;
            self.safety.holds(node, stored.snapshot.id.index, content)?;
        }
        self.schedule.after(first_tick, Happening::Tick(node, life));
        for Arrival { after, packet } in self.network.replay_after_restart(node, life.0) {
            self.schedule.after(after, Happening::Arrive(packet));
        }
        Ok(())
    }

    /// In a quarter of the runs the clocks tick together: nothing but chance then breaks ties.
    fn first_tick(&self, drawn: Duration) -> Duration {
        if !Digest::EMPTY.number(self.seed).value().is_multiple_of(4) {
            return drawn;
        }
        let tick = u64::try_from(self.profile.node.tick.as_micros()).expect("a tick is short");
        Duration::from_micros(tick - self.now().0 % tick)
    }

    fn mark_start(&mut self, node: NodeId, opened: &Opened) {
        if std::mem::take(&mut self.server(node).last_stop) == DiskFailure::Full {
            self.marks.reach(Mark::ResumedWithRoom);
        }
        if opened.cut.is_some() {
            self.marks.reach(Mark::TornTail);
        }
        if opened.stored.snapshot.id != EntryId::ZERO {
            self.marks.reach(Mark::StartedFromSnapshot);
        }
    }

    fn quirk_of(&self, node: NodeId) -> Quirk {
        if self.wiring == Wiring::ForgetfulMachine && node == NodeId(1) {
            return Quirk::Forgetful;
        }
        if mutant!(M34) {
            return Quirk::HashOrder(node.0);
        }
        if mutant!(M35) {
            return Quirk::Clock(self.now());
        }
        Quirk::None
    }
}
