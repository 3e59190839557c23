//! The simulated cluster: everything that is, and the loop that lets it happen.
//!
//! - Whatever happens is a [`Happening`] taken from the schedule; nothing else moves anything.
//! - What belongs to a process carries its [`Life`], and is dropped when that has ended.
//! - What happens to a process that stands still happens when it goes on.
//!
//! Here: the loop and messages. [`start`]: processes that begin. [`disk`]: the log's side. [`apply`]: the
//! state machine's side. [`service`]: clients. [`bulk`]: snapshots on their way. [`faults`]: what goes
//! wrong. [`members`]: who is a member. [`settle`]: healing, and the end.

mod apply;
mod bulk;
mod comeback;
mod disk;
mod faults;
mod members;
mod service;
mod settle;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quorate::codec::frame;
use quorate::driver::DriverInput;
use quorate_raft::message::{Message, PreVerdict, Verdict};
use quorate_raft::{Configuration, Entry, Envelope, Event, MemberKind, NodeId, Payload, ReadLog};

use self::comeback::Comeback;
use crate::clients::{Caution, Clients};
use crate::digest::Digest;
use crate::executions::Executions;
use crate::fault::Fault;
use crate::history::OperationId;
use crate::incident::{Incident, Incidents};
use crate::invariant::{Invariant, Violation};
use crate::marks::{Mark, Marks};
use crate::network::{Arrival, Damage, Network, Packet, State};
use crate::ports::{Collected, Input};
use crate::profile::{Options, Profile};
use crate::rng::{Rng, Stream};
use crate::safety::Safety;
use crate::schedule::{Schedule, Time};
use crate::server::{Life, Process, Server};
use crate::spec_trace::SpecTrace;
use crate::trace::Trace;
use bulk::{Transfer, TransferId};
use settle::Phase;
use start::first_members;

/// How the simulated parts are put together. All but one are wrong on purpose, to show that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// As in production.
    Sound,
    /// The log reports writes as durable when they are only appended.
    PersistedBeforeSync,
    /// The log reports a sync that it does not make.
    LyingDisk,
    /// One node's state machine skips some entries.
    ForgetfulMachine,
    /// Each vote arrives in everyone's name.
    ForgedVotes,
    /// Reads are answered from the state as it is.
    StaleReads,
    /// What may have happened is tried again, with nothing to tell the two apart.
    RepeatedWrites,
    /// Nothing heals at the end.
    EndlessFaults,
}

impl Wiring {
    fn caution(self) -> Caution {
        if self == Self::RepeatedWrites {
            Caution::Repeat
        } else {
            Caution::NeverRepeat
        }
    }
}

/// Everything that is.
pub(crate) struct World {
    profile: Profile,
    wiring: Wiring,
    schedule: Schedule<Happening>,
    servers: BTreeMap<NodeId, Server>,
    network: Network,
    transfers: BTreeMap<TransferId, Transfer>,
    clients: Clients,
    safety: Safety,
    executions: Executions,
    seed: u64,
    faults_rng: Rng,
    faults: BTreeMap<Fault, u64>,
    strikes: u64,
    incidents: Incidents,
    marks: Marks,
    phase: Phase,
    /// When somebody last asked for members without those who are lost.
    asked_for_members: Time,
    /// Since the faults ended: those who are left surely could come to rest once, and lost nothing since.
    had_hope: bool,
    /// The members that an operator saw last.
    members_seen: Option<Arc<Configuration>>,
    trace: Trace,
    spec_trace: Option<SpecTrace>,
}

/// Something that happens at its time.
#[derive(Debug)]
enum Happening {
    /// A node's clock ticks.
    Tick(NodeId, Life),
    /// A node's loop takes its turn.
    Turn(NodeId, Life),
    /// A packet arrives.
    Arrive(Packet),
    /// A node's disk has made the sync under way.
    Synced(NodeId, Life),
    /// A node's disk has found what its core asked for.
    LogRead(NodeId, Life, ReadLog),
    /// A node's apply side has come to its next task.
    Apply(NodeId, Life),
    /// A node's apply side writes a chunk of a snapshot.
    Save(NodeId, Life),
    /// A chunk of a transfer arrives.
    Chunk(TransferId, u32),
    /// The sender of a transfer goes on with it.
    NextChunk(TransferId),
    /// The sender of a transfer learns that it has ended well.
    Delivered(TransferId),
    /// A client goes on.
    Wake(u64),
    /// A client's patience ends.
    TimedOut(u64, OperationId),
    /// A fault strikes.
    Strike,
    /// A second operator asks for members, after the strike of this number.
    SecondOperator(u64),
    /// A node's driver finds that a peer's host refuses connections.
    Gone(NodeId, Life, NodeId),
    /// A cut or a clog ends, unless another has taken its place.
    Mend(Damage),
    /// A cut ends as soon as a node is so far behind that it needs a snapshot, or at that time.
    MendWhenBehind(NodeId, Time, Damage),
    /// Whether it is time for a leader that is cut off to come back.
    ComeBack(Comeback),
    /// A process dies once more.
    DieAgain(NodeId),
    /// A node that died starts again.
    Restart(NodeId),
    /// A disk has room again.
    Room(NodeId),
    /// The faults end.
    Heal,
    /// The healed cluster is looked at.
    Look,
}

impl World {
    /// A cluster about to start.
    pub(crate) fn new(seed: u64, options: &Options, wiring: Wiring) -> Self {
        let profile = Profile::draw(seed, options);
        let (servers, safety) = first_members(seed, &profile);
        let incidents = Incidents::new(options.edits.kept.clone());
        let operations = options.edits.operations;
        Self {
            wiring,
            schedule: Schedule::new(),
            servers,
            network: Network::new(seed, profile.network.clone(), incidents.clone()),
            transfers: BTreeMap::new(),
            clients: Clients::new(
                seed,
                profile.nodes,
                profile.client.clone(),
                operations,
                wiring.caution(),
            ),
            safety,
            executions: Executions::default(),
            faults_rng: Rng::new(seed, Stream::Faults),
            faults: BTreeMap::new(),
            strikes: 0,
            incidents,
            marks: Marks::new(),
            seed,
            phase: Phase::Faults,
            asked_for_members: Time::START,
            had_hope: false,
            members_seen: None,
            trace: Trace::new(options.trace_lines),
            spec_trace: None,
            profile,
        }
    }

    /// Lets everything happen until the healed cluster has come to rest.
    pub(crate) fn run(&mut self, faults_last: Duration) -> Result<(), Violation> {
        for node in (1..=self.profile.nodes).map(NodeId) {
            self.start(node)?;
        }
        for wake in self.clients.start() {
            self.wake_later(wake);
        }
        self.plan_strike();
        self.schedule.after(faults_last, Happening::Heal);
        while self.phase != Phase::Settled {
            let happening = self.schedule.next().expect("clocks tick as long as nodes run");
            self.happen(happening)?;
        }
        Ok(())
    }

    /// Records up to `most_lines` lines for the specification: one input a step, and no snapshots.
    pub(crate) fn record_for_spec(&mut self, most_lines: usize) {
        self.profile.node.turn = Duration::ZERO;
        self.profile.node.snapshot_every = u64::MAX;
        self.spec_trace = Some(SpecTrace::new(most_lines));
    }

    /// What was recorded for the specification.
    pub(crate) fn spec_trace(&self) -> Option<&SpecTrace> {
        self.spec_trace.as_ref()
    }

    pub(crate) fn now(&self) -> Time {
        self.schedule.now()
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(crate) fn executions(&self) -> &Executions {
        &self.executions
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// How often each fault happened.
    pub(crate) fn faults(&self) -> BTreeMap<Fault, u64> {
        let mut faults = self.faults.clone();
        faults.extend(self.network.counts());
        faults
    }

    /// How often each mark was reached.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Everything that went wrong.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        let strikes = self.incidents.happened().iter();
        strikes
            .chain(self.network.incidents.happened())
            .copied()
            .collect()
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        if let Some(wait) = self.standing_still(&happening) {
            self.schedule.after(wait, happening);
            return Ok(());
        }
        match happening {
            Happening::Tick(node, life) => self.tick(node, life),
            Happening::Turn(node, life) => self.turn(node, life),
            Happening::Arrive(packet) => self.arrive(packet),
            Happening::Synced(node, life) => self.synced(node, life),
            Happening::LogRead(node, life, request) => self.log_read(node, life, request),
            Happening::Apply(node, life) => self.apply(node, life),
            Happening::Save(node, life) => self.save(node, life),
            Happening::Chunk(transfer, number) => self.chunk(transfer, number),
            Happening::NextChunk(transfer) => self.next_chunk(transfer),
            Happening::Delivered(transfer) => self.delivered(transfer),
            Happening::Wake(client) => self.wake(client),
            Happening::TimedOut(client, operation) => {
                let wake = self.clients.timed_out(client, operation);
                wake.into_iter().for_each(|wake| self.wake_later(wake));
                Ok(())
            }
            Happening::Gone(node, life, peer) => {
                self.marks.reach(Mark::PeerGone);
                self.give(node, life, DriverInput::PeerGone(peer))
            }
            Happening::Strike => self.strike(),
            Happening::SecondOperator(strike) => self.ask_once_more(strike),
            Happening::Mend(damage) => {
                if self.network.is_cut_by(damage) {
                    self.note(|| "the network is whole".to_owned());
                }
                self.network.mend(damage);
                Ok(())
            }
            Happening::MendWhenBehind(node, latest, damage) => {
                self.mend_when_behind(node, latest, damage);
                Ok(())
            }
            Happening::ComeBack(comeback) => {
                self.come_back_if_due(comeback);
                Ok(())
            }
            Happening::DieAgain(node) => {
                self.die_again(node);
                Ok(())
            }
            Happening::Restart(node) => self.start(node),
            Happening::Room(node) => {
                self.note(|| format!("the disk of {node} has room"));
                self.server(node).make_room();
                Ok(())
            }
            Happening::Heal => self.heal(),
            Happening::Look => self.look(),
        }
    }

    /// How long the process that this happens to stands still yet.
    fn standing_still(&self, happening: &Happening) -> Option<Duration> {
        let node = match happening {
            Happening::NextChunk(transfer) | Happening::Delivered(transfer) => {
                self.transfers.get(transfer)?.from()
            }
            Happening::Tick(node, _)
            | Happening::Turn(node, _)
            | Happening::Synced(node, _)
            | Happening::LogRead(node, _, _)
            | Happening::Apply(node, _)
            | Happening::Save(node, _)
            | Happening::Gone(node, _, _) => *node,
            Happening::Arrive(packet) => packet.to,
            Happening::Chunk(transfer, _) => self.transfers.get(transfer)?.to(),
            Happening::Wake(_)
            | Happening::TimedOut(..)
            | Happening::Strike
            | Happening::SecondOperator(_)
            | Happening::Mend(_)
            | Happening::MendWhenBehind(..)
            | Happening::ComeBack(_)
            | Happening::DieAgain(_)
            | Happening::Restart(_)
            | Happening::Room(_)
            | Happening::Heal
            | Happening::Look => return None,
        };
        let wait = self.pause_of(node);
        (!wait.is_zero()).then_some(wait)
    }

    /// How long a node's process stands still yet.
    fn pause_of(&self, node: NodeId) -> Duration {
        self.servers[&node].paused_until.since(self.now())
    }

    fn tick(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        if self.process(node, life).is_none() {
            return Ok(());
        }
        let now = self.now();
        let server = self.server(node);
        let after = server.clock.next_tick(now, &mut server.rng);
        self.schedule.after(after, Happening::Tick(node, life));
        self.give(node, life, DriverInput::Tick)?;
        self.upkeep(node, life)
    }

    fn arrive(&mut self, packet: Packet) -> Result<(), Violation> {
        let life = self.servers[&packet.to].life;
        if self.network.is_lost(&packet) || self.process(packet.to, life).is_none() {
            return Ok(());
        }
        let digest = Digest::EMPTY.number(packet.to.0).bytes(&packet.bytes);
        let Some(envelope) = decode(&packet)? else {
            self.marks.reach(Mark::FrameRefused);
            self.network.close(packet.from, packet.to);
            self.note(|| format!("{} refuses a frame of {}", packet.to, packet.from));
            return Ok(());
        };
        self.trace
            .add(self.schedule.now(), digest, || envelope.to_string());
        self.give(packet.to, life, DriverInput::Receive(envelope))
    }

    /// Something happened to a process: its loop takes it in at its next turn.
    fn give(&mut self, node: NodeId, life: Life, input: Input) -> Result<(), Violation> {
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        process.inbox.push(input);
        let is_first = process.inbox.len() == 1;
        let pause = self.pause_of(node);
        let longest = self.turn_takes(node);
        if longest.is_zero() && pause.is_zero() {
            return self.turn(node, life);
        }
        if is_first {
            let after = self.server(node).rng.span(Duration::ZERO, longest);
            self.schedule.after(pause + after, Happening::Turn(node, life));
        }
        Ok(())
    }

    /// The longest that what happened waits for a node's loop.
    fn turn_takes(&mut self, node: NodeId) -> Duration {
        let is_slow = self.servers[&node].slow_until > self.now();
        self.profile.node.turn + if is_slow { SLOW } else { Duration::ZERO }
    }

    fn turn(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let now = self.now();
        let pause = self.pause_of(node);
        assert!(
            pause.is_zero(),
            "{node} takes a turn, and stands still for {pause:?} yet"
        );
        let reading = self
            .profile
            .node
            .leases
            .map(|_| self.servers[&node].clock.reading(now));
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let collected = process.turn(reading)?;
        let look = process.look();
        let (lease, promised, view) = (process.lease_until(), process.promised(), *process.view());
        self.show(node, &collected);
        if let Some(reading) = reading {
            let clock = &self.servers[&node].clock;
            let lease = lease.map(|until| clock.true_time(now, reading, until));
            let promised = promised.map(|(to, until)| (to, clock.true_time(now, reading, until)));
            self.safety.promises(node, promised);
            self.safety.holds_lease(node, now, lease);
            if lease.is_some() {
                self.marks.reach(Mark::LeaseHeld);
            }
        }
        self.safety.stepped(node, &collected.step)?;
        self.safety.seen(&view)?;
        self.for_spec(|spec| spec.stepped(node, &collected.step));
        look.map_or(Ok(()), |status| self.safety.looked(&status))?;
        for envelope in collected.step.sends {
            self.send(envelope);
        }
        for request in collected.log_reads {
            self.read_later(node, life, request);
        }
        for request in collected.snapshots {
            self.begin_transfer(node, life, request)?;
        }
        if let Some(process) = self.process(node, life) {
            process.log.jobs.extend(collected.jobs);
            process.apply.tasks.extend(collected.tasks);
        }
        self.apply_later(node, life);
        self.answer(node, life)?;
        self.begin_sync(node, life)
    }

    fn send(&mut self, envelope: Envelope) {
        if self.wiring == Wiring::ForgedVotes && is_granted(&envelope.message) {
            for node in (1..=self.profile.nodes)
                .map(NodeId)
                .filter(|node| *node != envelope.to)
            {
                self.pass_on(&Envelope {
                    from: node,
                    ..envelope.clone()
                });
            }
            return;
        }
        self.pass_on(&envelope);
    }

    fn pass_on(&mut self, envelope: &Envelope) {
        let mut bytes = BytesMut::new();
        frame::encode_message(envelope, &mut bytes);
        let packet = Packet::new(envelope.from, envelope.to, bytes.freeze());
        let now = self.schedule.now();
        let schedule = &mut self.schedule;
        self.network.send(now, packet, |Arrival { after, packet }| {
            schedule.after(after, Happening::Arrive(packet));
        });
    }

    /// Notes what a turn came to.
    fn show(&mut self, node: NodeId, collected: &Collected) {
        let now = self.schedule.now();
        for event in &collected.step.events {
            let digest = Digest::EMPTY.number(node.0).display(event);
            self.trace.add(now, digest, || format!("{node} {event}"));
            let campaign = self
                .servers
                .get_mut(&node)
                .and_then(|server| server.campaigns(event));
            for mark in Mark::of_event(event).into_iter().chain(campaign) {
                self.marks.reach(mark);
            }
            let is_witness = self.servers[&node].kind == MemberKind::Witness;
            if is_witness && matches!(event, Event::VoteGranted { .. }) {
                self.marks.reach(Mark::WitnessVoted);
            }
        }
        for write in &collected.step.writes {
            if write.entries.iter().any(is_joint) {
                self.marks.reach(Mark::JointEntered);
            }
            let last = write.entries.last().map_or(0, |entry| entry.id.index.0);
            let digest = Digest::EMPTY.number(node.0).number(write.seq.0).number(last);
            self.trace.add(now, digest, || shown_write(node, write));
        }
    }

    /// Notes something that a person may want to know of.
    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        let digest = Digest::EMPTY.bytes(line.as_bytes());
        self.trace.add(self.schedule.now(), digest, || line);
    }

    fn for_spec(&mut self, record: impl FnOnce(&mut SpecTrace)) {
        if let Some(spec_trace) = &mut self.spec_trace {
            record(spec_trace);
        }
    }

    fn process(&mut self, node: NodeId, life: Life) -> Option<&mut Process> {
        self.server(node).process_of(life)
    }

    fn server(&mut self, node: NodeId) -> &mut Server {
        self.servers
            .get_mut(&node)
            .expect("nobody speaks of a node that was never started")
    }
}

fn is_joint(entry: &Entry) -> bool {
    matches!(&entry.payload, Payload::Configuration(configuration) if configuration.is_joint())
}

fn is_granted(message: &Message) -> bool {
    let in_vote = matches!(message, Message::VoteResponse(Verdict::Granted));
    let in_pre_vote =
        matches!(message, Message::PreVoteResponse(answer) if answer.verdict == PreVerdict::Granted);
    in_vote || in_pre_vote
}

/// The message; none if its bytes were altered on their way, which must not go unnoticed.
fn decode(packet: &Packet) -> Result<Option<Envelope>, Violation> {
    let mut bytes = BytesMut::from(&packet.bytes[..]);
    let decoded = frame::decode(&mut bytes, frame::MAX_BODY_BYTES);
    match (decoded, packet.state) {
        (Ok(Some(frame::Frame::Message(envelope))), State::Whole) => Ok(Some(envelope)),
        // A length that grew has the receiver wait for bytes that belong to the next frame.
        (Ok(None) | Err(_), State::Altered) => Ok(None),
        (other, _) => Err(Violation {
            invariant: Invariant::Assertion,
            detail: format!("a message came out of the codec as {other:?}"),
        }),
    }
}

fn shown_write(node: NodeId, write: &quorate_raft::Write) -> String {
    let mut line = format!("{node} writes {}", write.seq);
    if let Some(reset) = &write.reset {
        line += &format!(" reset={}", reset.id);
    }
    if let Some(state) = &write.hard_state {
        let vote = state
            .vote
            .map_or_else(|| "none".to_owned(), |vote| vote.to_string());
        line += &format!(" term={} vote={vote}", state.term);
    }
    for entry in &write.entries {
        line += &format!(" {}", entry.id);
    }
    line
}

/// What a node that is slow takes for everything, at most.
const SLOW: Duration = Duration::from_millis(400);
