//! A cluster of real nodes whose disks, network and clocks move only when they are told to.
//!
//! - What a node writes is on its disk after [`Cluster::persist`]; a crash forgets the rest.
//! - What it sends waits in the network until it is delivered, lost, held back or doubled.
//! - After every step the node's invariants and those of all nodes together are checked.
//! - In automatic mode writes, applications, log reads and snapshots are done at once.

#![allow(dead_code, reason = "each test program uses its own part of this")]

pub(crate) mod disk;
pub(crate) mod history;
mod member;
pub(crate) mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_raft::invariants::{check_state, check_step};
use quorate_raft::{
    Config, Configuration, Consistency, Delivery, DriftBound, Entry, EntryId, Envelope, GroupId, Index,
    Input, Leases, Limits, LogReadError, MemberInfo, MemberKind, Moment, Node, NodeId, Precondition,
    Proposal, Purpose, ReadLog, Ready, RoleKind, SendSnapshot, Session, SnapshotMeta, Status, Target, Ticket,
    Transferee, Write,
};

use disk::Disk;
use history::History;
pub(crate) use member::LogRead;
use member::{Member, describe};
use network::Network;

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) voters: u64,
    pub(crate) learners: u64,
    /// How many of the voters, the last ones, keep no data.
    pub(crate) witnesses: u64,
    pub(crate) election_ticks: u32,
    pub(crate) heartbeat_ticks: u32,
    pub(crate) seed: u64,
    pub(crate) automatic: bool,
    pub(crate) limits: Limits,
    /// By how much clocks may differ, if leaders hold leases. A promise lasts [`PROMISE`].
    pub(crate) leases: Option<DriftBound>,
}

/// A cluster under manual control.
#[derive(Debug)]
pub(crate) struct Cluster {
    options: Options,
    configuration: Configuration,
    members: BTreeMap<NodeId, Member>,
    pub(crate) network: Network,
    pub(crate) history: History,
    lines: Vec<String>,
    silent: bool,
    /// What the clock of a node without drift shows, in microseconds.
    now: u64,
    /// How fast the clocks of the others run, in thousandths.
    rates: BTreeMap<NodeId, u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            voters: 3,
            learners: 0,
            witnesses: 0,
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed: 1,
            automatic: false,
            limits: Limits::default(),
            leases: None,
        }
    }
}

impl Cluster {
    pub(crate) fn new(options: Options) -> Self {
        let voters = (1..=options.voters).map(NodeId);
        let learners = (options.voters + 1..=options.voters + options.learners).map(NodeId);
        let witnesses = (options.voters - options.witnesses + 1..=options.voters).map(NodeId);
        let witness = MemberInfo {
            kind: MemberKind::Witness,
            ..MemberInfo::default()
        };
        let configuration = Configuration::new(voters, learners)
            .and_then(|members| members.with_info(witnesses.map(|node| (node, witness.clone()))))
            .expect("a cluster has voters");
        let members = configuration.members().into_iter();
        let member = |id| Member::new(configuration.clone(), configuration.kind(id));
        let mut cluster = Self {
            members: members.map(|id| (id, member(id))).collect(),
            configuration,
            network: Network::default(),
            history: History::default(),
            lines: Vec::new(),
            silent: false,
            now: 0,
            rates: BTreeMap::new(),
            options,
        };
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster.lines.clear();
        cluster
    }

    pub(crate) fn be_silent(&mut self) {
        self.silent = true;
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        let running = self.members.iter().filter(|(_, member)| member.node.is_some());
        running.map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_running(&self, id: NodeId) -> bool {
        self.members.get(&id).is_some_and(|member| member.node.is_some())
    }

    pub(crate) fn member(&self, id: NodeId) -> &Member {
        self.members
            .get(&id)
            .unwrap_or_else(|| panic!("there is no {id}"))
    }

    pub(crate) fn kind(&self, id: NodeId) -> MemberKind {
        self.member(id).kind
    }

    pub(crate) fn status(&self, id: NodeId) -> Status {
        self.member(id).status().unwrap_or_else(|| panic!("{id} is down"))
    }

    pub(crate) fn election_ticks(&self) -> u32 {
        self.options.election_ticks
    }

    /// Lets `time` pass on all clocks.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += u64::try_from(time.as_micros()).expect("a test is short");
    }

    /// Has the clock of `id` run at so many thousandths of the true rate.
    pub(crate) fn set_rate(&mut self, id: NodeId, thousandths: u64) {
        self.rates.insert(id, thousandths);
    }

    /// What the clock of `id` shows.
    fn clock(&self, id: NodeId) -> Moment {
        Moment(self.now * self.rates.get(&id).unwrap_or(&1_000) / 1_000)
    }

    /// Until when `id` leads by a lease that has not ended, and what its clock shows.
    pub(crate) fn lease(&self, id: NodeId) -> (Option<Moment>, Moment) {
        let node = self.member(id).node.as_ref();
        let now = self.clock(id);
        (node.and_then(Node::lease_until).filter(|until| now < *until), now)
    }

    /// Starts `id` from its disk.
    pub(crate) fn start(&mut self, id: NodeId) {
        let member = member_mut(&mut self.members, id);
        assert!(member.node.is_none(), "{id} is running");
        member.lives += 1;
        member.forget();
        let config = Config {
            id,
            group: GroupId(1),
            kind: member.kind,
            session: Session(100 * id.0 + member.lives),
            seed: self.options.seed * 1_000 + 100 * id.0 + member.lives,
            election_ticks: self.options.election_ticks,
            heartbeat_ticks: self.options.heartbeat_ticks,
            leases: self.options.leases.map(|drift| Leases {
                promise: PROMISE,
                drift,
            }),
            limits: self.options.limits.clone(),
        };
        let node = Node::new(config, member.durable.stored()).expect("the disk is sound");
        member.node = Some(node);
        self.drain(id);
    }

    /// Stops `id` as a power loss does, after its disk has done `writes` more of what it was given.
    pub(crate) fn crash(&mut self, id: NodeId, writes: usize) {
        let member = member_mut(&mut self.members, id);
        for write in member.writes.drain(..).take(writes) {
            member.durable.write(&write);
        }
        member.node = None;
        member.forget();
        self.history.on_crash(id);
    }

    /// Replaces the disk of a node, which starts anew from it.
    pub(crate) fn start_from(&mut self, id: NodeId, disk: Disk) {
        self.crash(id, 0);
        self.history.on_stored(&disk);
        member_mut(&mut self.members, id).durable = disk;
        self.start(id);
    }

    pub(crate) fn blank_disk(&self) -> Disk {
        Disk::new(self.configuration.clone())
    }

    /// Tells a node something, and does what it wants done at once in automatic mode.
    pub(crate) fn step(&mut self, id: NodeId, input: Input) {
        if self.options.leases.is_some() {
            self.feed(id, Input::Now(self.clock(id)));
        }
        self.feed(id, input);
        if self.options.automatic {
            while self.work(id) {}
        }
    }

    pub(crate) fn propose(&mut self, id: NodeId, commands: &[String]) -> Vec<Ticket> {
        let mut proposals = Vec::new();
        for command in commands {
            let ticket = self.history.ask(id, Some(command.as_bytes()));
            self.say(id, &format!("{ticket} proposes {command:?}"));
            let command = command.clone().into();
            proposals.push(Proposal { ticket, command });
        }
        let tickets = proposals.iter().map(|proposal| proposal.ticket).collect();
        self.step(id, Input::Propose(proposals));
        tickets
    }

    pub(crate) fn read(&mut self, id: NodeId, count: usize, consistency: Consistency) {
        let tickets: Vec<Ticket> = (0..count).map(|_| self.history.ask(id, None)).collect();
        for ticket in &tickets {
            self.say(id, &format!("{ticket} asks to read"));
        }
        self.step(id, Input::Read { tickets, consistency });
    }

    /// Starts a node that is no member yet.
    pub(crate) fn join(&mut self, id: NodeId, kind: MemberKind) {
        let member = Member::new(Configuration::unknown(), kind);
        assert!(self.members.insert(id, member).is_none(), "{id} is there already");
        self.start(id);
    }

    pub(crate) fn reconfigure(&mut self, id: NodeId, target: Target, precondition: Precondition) {
        let ticket = self.history.ask(id, None);
        self.say(id, &format!("{ticket} asks for {target}"));
        self.step(
            id,
            Input::Reconfigure {
                ticket,
                target,
                precondition,
            },
        );
    }

    pub(crate) fn transfer(&mut self, id: NodeId, to: Transferee) {
        let ticket = self.history.ask(id, None);
        match to {
            Transferee::Node(to) => self.say(id, &format!("{ticket} asks that {to} leads")),
            Transferee::Best => self.say(id, &format!("{ticket} asks that another leads")),
        }
        self.step(id, Input::TransferLeadership { ticket, to });
    }

    /// Does the first `count` of the writes that wait. Says whether there were any.
    pub(crate) fn persist(&mut self, id: NodeId, count: usize) -> bool {
        let member = member_mut(&mut self.members, id);
        let count = count.min(member.writes.len());
        let mut done = None;
        for write in member.writes.drain(..count) {
            member.durable.write(&write);
            done = Some(write.seq);
        }
        if let Some(seq) = done {
            self.step(id, Input::Persisted(seq));
        }
        done.is_some()
    }

    /// Applies what waits, up to `to`. Says whether there was any.
    pub(crate) fn apply(&mut self, id: NodeId, to: Index) -> bool {
        let member = member_mut(&mut self.members, id);
        let before = member.applied;
        while let Some(entry) = member.applying.pop_front_if(|entry| entry.id.index <= to) {
            assert_eq!(entry.id.index, member.applied.next(), "{id} applies out of order");
            member.applied = entry.id.index;
        }
        let applied = member.applied;
        if applied > before {
            self.step(id, Input::Applied(applied));
        }
        applied > before
    }

    /// Restores the state machine from a snapshot that waits. Says whether there was one.
    pub(crate) fn restore(&mut self, id: NodeId) -> bool {
        let member = member_mut(&mut self.members, id);
        let Some(meta) = member.restore.take() else {
            return false;
        };
        member.applied = meta.id.index;
        self.step(id, Input::Restored(meta.id));
        true
    }

    /// Answers the oldest read of the log. Says whether there was one.
    pub(crate) fn answer_log_read(&mut self, id: NodeId, how: LogRead) -> bool {
        let member = member_mut(&mut self.members, id);
        let Some((request, early)) = member.log_reads.pop_front() else {
            return false;
        };
        let entries = match how {
            LogRead::Early => early,
            LogRead::Late => member.durable.read(&request),
            LogRead::Gone => Err(LogReadError::Gone),
        };
        self.step(id, Input::LogRead { request, entries });
        true
    }

    /// Moves the reads for applying before those for peers: disks may answer in any order.
    pub(crate) fn reads_to_apply_first(&mut self, id: NodeId) {
        let reads = &mut member_mut(&mut self.members, id).log_reads;
        reads
            .make_contiguous()
            .sort_by_key(|(read, _)| read.purpose != Purpose::Apply);
    }

    /// Brings the oldest snapshot that waits to its peer, or fails to. Says whether there was one.
    pub(crate) fn ship(&mut self, id: NodeId, outcome: Delivery) -> bool {
        let Some(send) = member_mut(&mut self.members, id).snapshots.pop_front() else {
            return false;
        };
        let delivered = outcome == Delivery::Delivered && self.network.send(send.announcement.clone());
        let outcome = if delivered {
            Delivery::Delivered
        } else {
            Delivery::Failed
        };
        self.step(id, Input::SnapshotSent(send.ended(outcome)));
        true
    }

    /// Saves a snapshot of the state machine as of `index`, or of all that is applied.
    pub(crate) fn snapshot(&mut self, id: NodeId, index: Option<Index>) -> bool {
        let member = member_mut(&mut self.members, id);
        let index = index.unwrap_or(member.applied).min(member.applied);
        let term = member.durable.term_at(index).filter(|_| member.restore.is_none());
        let Some(term) = term.filter(|_| index > member.durable.snapshot.id.index) else {
            return false;
        };
        let configuration = member.durable.configuration_at(index);
        if configuration.is_unknown() {
            return false; // A newcomer that has not been told who the members are.
        }
        let meta = SnapshotMeta {
            id: EntryId::new(index, term),
            configuration,
        };
        member.durable.snapshot = meta.clone();
        member.written.snapshot = meta.clone();
        self.step(id, Input::SnapshotSaved(meta));
        true
    }

    /// Hands a message to its receiver, if that is running.
    pub(crate) fn receive(&mut self, envelope: Envelope) {
        if self.is_running(envelope.to) {
            self.step(envelope.to, Input::Receive(envelope));
        }
    }

    /// Does one thing that a node's disk or state machine is to do. Says whether there was any.
    pub(crate) fn work(&mut self, id: NodeId) -> bool {
        let count = self.member(id).writes.len();
        self.is_running(id)
            && !self.member(id).is_idle()
            && (self.persist(id, count)
                || self.restore(id)
                || self.apply(id, Index(u64::MAX))
                || self.answer_log_read(id, LogRead::Late)
                || self.ship(id, Delivery::Delivered))
    }

    /// Delivers messages and does all work, until nothing moves.
    pub(crate) fn stabilize(&mut self) {
        let ids = self.ids();
        self.stabilize_among(&ids);
    }

    /// Does the work of these nodes and delivers what is sent to them, until they rest.
    pub(crate) fn stabilize_among(&mut self, ids: &[NodeId]) {
        for _ in 0..10_000 {
            let mut moved = false;
            for id in ids {
                moved |= self.work(*id);
            }
            for envelope in self.network.take_to(ids) {
                moved = true;
                self.receive(envelope);
            }
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub(crate) fn writes(&self, id: NodeId) -> usize {
        self.member(id).writes.len()
    }

    fn feed(&mut self, id: NodeId, input: Input) {
        let member = member_mut(&mut self.members, id);
        let node = member.node.as_mut().unwrap_or_else(|| panic!("{id} is down"));
        let before = node.view();
        node.step(input);
        check_state(node);
        check_step(&before, &node.view());
        self.drain(id);
        self.check_leases(id, before.commit_index);
    }

    /// While one node serves reads by a lease, no other commits what that one has not.
    fn check_leases(&self, id: NodeId, commit_before: Index) {
        let status = self.status(id);
        if status.role != RoleKind::Leader || status.commit_index <= commit_before {
            return;
        }
        for other in self.ids().into_iter().filter(|other| *other != id) {
            let (until, now) = self.lease(other);
            assert!(
                until.is_none() || status.commit_index <= self.status(other).commit_index,
                "at {now} {id} commits {} while {other} serves reads by a lease",
                status.commit_index
            );
        }
    }

    fn drain(&mut self, id: NodeId) {
        loop {
            let node = member_mut(&mut self.members, id)
                .node
                .as_mut()
                .expect("it was just told something");
            let before = node.view();
            let Some(ready) = node.ready() else { break };
            check_state(node);
            check_step(&before, &node.view());
            self.carry_out(id, ready);
        }
        self.history.on_step(id, &self.members);
    }

    /// Notes all that a node wants done. What it wrote counts first: its other wishes may follow from it.
    fn carry_out(&mut self, id: NodeId, ready: Ready) {
        self.say_all(id, &ready.events);
        if let Some(write) = ready.write {
            self.on_write(id, write);
        }
        self.history.on_step(id, &self.members);
        if let Some(configuration) = ready.configuration {
            member_mut(&mut self.members, id).configuration = configuration;
        }
        for envelope in ready.send {
            self.on_send(envelope);
        }
        for entry in ready.apply {
            self.on_apply(id, entry);
        }
        for read in ready.reads {
            self.say(id, &format!("{} may read at {}", read.ticket, read.index));
            self.history.on_read(id, read.ticket, read.index);
        }
        for resolved in ready.resolved {
            self.say(id, &format!("{} {}", resolved.ticket, resolved.outcome));
            self.history.on_resolved(id, resolved.ticket, resolved.outcome);
        }
        self.on_errands(id, ready.read_log, ready.send_snapshots);
        if let Some(meta) = ready.restore {
            self.say_manual(id, &format!("restores {meta}"));
            let member = member_mut(&mut self.members, id);
            member.applying.clear();
            member.handed = meta.id.index;
            member.restore = Some(meta);
        }
        if let Some(base) = ready.compact {
            self.say(id, &format!("drops its log up to {base}"));
            let member = member_mut(&mut self.members, id);
            member.durable.compact(base);
            member.written.compact(base);
        }
    }

    fn on_write(&mut self, id: NodeId, write: Write) {
        self.say_manual(id, &describe(&write));
        let member = member_mut(&mut self.members, id);
        member.written.write(&write);
        self.history.on_written(&member.written, &write.entries);
        member.writes.push_back(write);
    }

    fn on_send(&mut self, envelope: Envelope) {
        self.history
            .on_sent(&envelope, &self.members[&envelope.from].durable);
        let line = envelope.to_string();
        let lost = if self.network.send(envelope) {
            ""
        } else {
            " (lost)"
        };
        self.push(|| format!("{line}{lost}"));
    }

    fn on_apply(&mut self, id: NodeId, entry: Entry) {
        self.say_manual(id, &format!("applies {entry}"));
        let member = member_mut(&mut self.members, id);
        assert_eq!(
            entry.id.index,
            member.handed.next(),
            "{id} is handed entries out of order"
        );
        self.history.on_applied(id, &entry, &member.durable);
        member.handed = entry.id.index;
        member.applying.push_back(entry);
    }

    fn on_errands(&mut self, id: NodeId, reads: Vec<ReadLog>, snapshots: Vec<SendSnapshot>) {
        for read in reads {
            let ReadLog {
                purpose, from, to, ..
            } = read;
            self.say_manual(id, &format!("reads its log {from} to {to}: {purpose:?}"));
            let member = member_mut(&mut self.members, id);
            let early = member.durable.read(&read);
            member.log_reads.push_back((read, early));
        }
        for send in snapshots {
            self.say_manual(
                id,
                &format!("sends snapshot {} to {}", send.meta.id, send.announcement.to),
            );
            member_mut(&mut self.members, id).snapshots.push_back(send);
        }
    }

    fn say_all(&mut self, id: NodeId, lines: &[impl ToString]) {
        for line in lines {
            self.say(id, &line.to_string());
        }
    }

    fn say_manual(&mut self, id: NodeId, line: &str) {
        if !self.options.automatic {
            self.say(id, line);
        }
    }

    fn say(&mut self, id: NodeId, line: &str) {
        let term = self.members[&id].node.as_ref().map(|node| node.view().term);
        let term = term.unwrap_or_default();
        self.push(|| format!("{id}@{term} {line}"));
    }

    fn push(&mut self, line: impl FnOnce() -> String) {
        if !self.silent {
            self.lines.push(line());
        }
    }
}

/// For how long a node that hears a leader stands by it.
pub(crate) const PROMISE: Duration = Duration::from_secs(1);

fn member_mut(members: &mut BTreeMap<NodeId, Member>, id: NodeId) -> &mut Member {
    members.get_mut(&id).unwrap_or_else(|| panic!("there is no {id}"))
}
