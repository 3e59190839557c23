//! What goes wrong, and when.

use std::fmt;
use std::time::Duration;

use quorate::driver::DriverInput;
use quorate_raft::{NodeId, Transferee};
use quorate_wal::DiskOp;

use super::{Happening, World};
use crate::clients::Errand;
use crate::clock::Direction;
use crate::cut::Cut;
use crate::fault::Fault;
use crate::incident::Incident;
use crate::invariant::Violation;
use crate::marks::Mark;
use crate::network::Damage;
use crate::ports::Caller;
use crate::profile::NodeProfile;
use crate::rng::{Chance, Rng, Stream};
use crate::schedule::Time;
use crate::server::{Death, Process};

/// A fault that strikes.
#[derive(Clone, Copy, Debug)]
struct Strike {
    fault: Fault,
    /// Whom, if it strikes one node.
    node: NodeId,
    /// For how long, if it lasts.
    lasts: Duration,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, node, lasts } = self;
        let is_cut = Fault::PARTIAL.contains(fault);
        write!(f, "{fault}")?;
        // These pick their nodes by themselves.
        if !is_cut && !matches!(fault, Fault::Comeback | Fault::PowerLoss) {
            write!(f, " of {node}")?;
        }
        if is_cut || LASTING.contains(fault) {
            write!(f, " for {lasts:?}")?;
        }
        Ok(())
    }
}

impl Death {
    fn draw(rng: &mut Rng) -> Self {
        if rng.coin() { Self::Killed } else { Self::PowerLost }
    }
}

impl World {
    /// Lets the next fault strike some time, if any can.
    pub(super) fn plan_strike(&mut self) {
        if self.profile.strikes.is_empty() {
            return;
        }
        let every = self.profile.strike_every;
        let after = self.faults_rng.tail(every / 4, every / 2);
        self.schedule.after(after, Happening::Strike);
    }

    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        if self.are_faults_over() {
            return Ok(());
        }
        self.plan_strike();
        self.strikes += 1;
        let rng = &mut Rng::new(self.seed, Stream::Strike(self.strikes));
        let fault = *rng.pick(&self.profile.strikes);
        if !self.profile.faults.contains(&fault) || !self.incidents.happens(Incident::Strike(self.strikes)) {
            return Ok(());
        }
        *self.faults.entry(fault).or_default() += 1;
        let strike = Strike {
            fault,
            node: self.any_node(rng),
            lasts: self.lasts(rng),
        };
        let number = self.strikes;
        self.note(|| format!("strike {number}: {strike}"));
        self.befall(strike, rng)
    }

    fn befall(&mut self, strike: Strike, rng: &mut Rng) -> Result<(), Violation> {
        let Strike { fault, node, lasts } = strike;
        let (nodes, until) = (&self.everyone()[..], self.now() + lasts);
        match fault {
            Fault::Halves => self.cut(Cut::halves(nodes, rng), lasts),
            Fault::Isolate => self.cut(Cut::isolate(nodes, rng), lasts),
            Fault::OneWay => self.cut(Cut::one_way(nodes, rng), lasts),
            Fault::Bridge => self.cut(Cut::bridge(nodes, rng), lasts),
            Fault::Ring => self.cut(Cut::ring(nodes, rng), lasts),
            Fault::Chain => self.cut(Cut::chain(nodes, rng), lasts),
            Fault::Star => self.cut(Cut::star(nodes, rng), lasts),
            Fault::HalfOpen => self.cut(Cut::half_open(nodes, rng), lasts),
            Fault::Blackhole => self.blackhole(node),
            Fault::Comeback => self.cut_off_leader(rng),
            Fault::Clog => {
                let other = self.any_node(rng);
                let clog = self.network.clog(node, other, rng);
                self.schedule.after(lasts, Happening::Mend(clog));
            }
            Fault::Crash => {
                self.die(node, Death::draw(rng));
                self.schedule.after(lasts, Happening::Restart(node));
            }
            Fault::RestartLoop => self.restart_often(node, rng),
            Fault::PowerLoss => self.lose_all_power(rng),
            Fault::Pause => {
                let server = self.server(node);
                server.paused_until = until;
                if rng.coin() {
                    server.clock.suspend(lasts);
                }
            }
            Fault::SlowNode => self.server(node).slow_until = until,
            Fault::ClockJump => return self.jump(node, rng),
            Fault::Strobe => self.server(node).clock.strobe_until = until,
            Fault::DiskStall => self.server(node).stalled_until = until,
            Fault::DiskError => {
                let op = *rng.pick(&FAILING);
                self.server(node).fail_next(op);
            }
            Fault::DiskFull => self.fill_disk(strike, rng),
            Fault::Transfer => return self.ask_for_transfer(node, rng),
            Fault::Reconfigure => {
                self.ask_for_members(node, rng)?;
                if rng.chance(TWO_OPERATORS) {
                    let after = rng.span(SHORTEST, SECOND_THOUGHTS);
                    self.schedule
                        .after(after, Happening::SecondOperator(self.strikes));
                }
            }
            Fault::LostDirectory => self.lose_directory(node),
            Fault::FalseReport => {
                let (life, other) = (self.servers[&node].life, self.any_node(rng));
                return self.give(node, life, DriverInput::PeerGone(other));
            }
            Fault::Drop
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::SlowTail
            | Fault::Corrupt
            | Fault::Replay
            | Fault::Drift
            | Fault::BrokenSnapshot => unreachable!("{fault} does not strike: see Fault::manner"),
        }
        Ok(())
    }

    fn fill_disk(&mut self, strike: Strike, rng: &mut Rng) {
        let Strike { node, lasts, .. } = strike;
        self.server(node).fill_disk();
        self.schedule.after(lasts, Happening::Room(node));
        if rng.chance(DIES_WHEN_FULL) {
            self.die(node, Death::draw(rng));
            self.schedule.after(lasts / 2, Happening::Restart(node));
        }
    }

    fn cut(&mut self, cut: Cut, lasts: Duration) {
        let cut = self.network.cut(cut);
        self.schedule.after(lasts, Happening::Mend(cut));
    }

    /// Nobody reaches a node until it needs a snapshot, or for as long as a strike may last several times.
    fn blackhole(&mut self, node: NodeId) {
        let cut = self.network.cut(Cut::around(node, &self.everyone()));
        let latest = self.now() + self.profile.strike_lasts * 4;
        self.schedule
            .after(BEHIND_EVERY, Happening::MendWhenBehind(node, latest, cut));
    }

    pub(super) fn mend_when_behind(&mut self, node: NodeId, latest: Time, cut: Damage) {
        let last = |node: &NodeId| Some(self.servers[node].process.as_ref()?.last_index());
        let mine = last(&node).unwrap_or_default();
        let bases = self.servers.values().filter_map(|server| server.process.as_ref());
        let is_behind = bases.map(Process::base_index).any(|base| base > mine);
        if self.are_faults_over() || !self.network.is_cut_by(cut) {
            return;
        }
        if is_behind || self.now() >= latest {
            self.note(|| format!("{node} is reached again"));
            self.network.mend(cut);
        } else {
            self.schedule
                .after(BEHIND_EVERY, Happening::MendWhenBehind(node, latest, cut));
        }
    }

    /// A node starts and dies again several times, mostly before it has found a leader.
    fn restart_often(&mut self, node: NodeId, rng: &mut Rng) {
        let mut at = Duration::ZERO;
        for _ in 0..rng.between(2, 6) {
            self.schedule.after(at, Happening::DieAgain(node));
            at += rng.span(Duration::from_millis(1), Duration::from_millis(50));
            self.schedule.after(at, Happening::Restart(node));
            at += rng.tail(Duration::from_millis(1), Duration::from_millis(50));
        }
    }

    pub(super) fn die_again(&mut self, node: NodeId) {
        if !self.are_faults_over() {
            let death = Death::draw(&mut self.server(node).rng);
            self.die(node, death);
        }
    }

    /// A clock jumps by up to two election timeouts: the one that ticks ahead, or the time of day either way.
    fn jump(&mut self, node: NodeId, rng: &mut Rng) -> Result<(), Violation> {
        let life = self.servers[&node].life;
        let NodeProfile {
            election_ticks,
            tick,
            leases,
            ..
        } = self.profile.node;
        let ticks = rng.between(1, 2 * u64::from(election_ticks));
        if leases.is_some() && rng.coin() {
            let direction = *rng.pick(&[Direction::Forward, Direction::Back]);
            let by = tick * u32::try_from(ticks).expect("twice what was a u32, and small");
            self.server(node).clock.set(by, direction);
            return Ok(());
        }
        (0..ticks).try_for_each(|_| self.give(node, life, DriverInput::Tick))
    }

    /// A node's storage has failed: the process stops, as production does, and is started again later.
    pub(super) fn stop_failed(&mut self, node: NodeId, error: &dyn fmt::Display) -> Result<(), Violation> {
        self.note(|| format!("{node} stops, its disk has failed"));
        self.marks.reach(Mark::DiskFailed);
        let server = self.server(node);
        server.noticed_failure(error)?;
        let life = server.life;
        if let Some(process) = self.process(node, life) {
            process.driver.stop();
        }
        self.answer(node, life)?;
        self.die(node, Death::PowerLost);
        let after = if self.are_faults_over() {
            Duration::ZERO
        } else {
            let longest = self.profile.strike_lasts;
            self.server(node).rng.span(SHORTEST, longest)
        };
        self.schedule.after(after, Happening::Restart(node));
        Ok(())
    }

    fn lose_all_power(&mut self, rng: &mut Rng) {
        for node in self.everyone() {
            self.die(node, Death::PowerLost);
            let after = self.lasts(rng);
            self.schedule.after(after, Happening::Restart(node));
        }
    }

    pub(super) fn die(&mut self, node: NodeId, death: Death) {
        self.note(|| format!("{node} dies: {death:?}"));
        self.server(node).die(death);
        if death == Death::Killed {
            self.refuse_connections(node);
        }
        // What the process held open is closed with it.
        self.transfers.retain(|_, transfer| transfer.from() != node);
        for wake in self.clients.node_died(node) {
            self.wake_later(wake);
        }
    }

    /// The process is gone and its host is not: whoever connects to it is refused at once.
    fn refuse_connections(&mut self, gone: NodeId) {
        for (node, server) in &mut self.servers {
            if *node == gone || self.network.is_cut(gone, *node) || self.network.is_cut(*node, gone) {
                continue;
            }
            let after = server.rng.span(SHORTEST, LATEST_REFUSAL);
            self.schedule
                .after(after, Happening::Gone(*node, server.life, gone));
        }
    }

    /// A process dies, and its machine with it.
    pub(super) fn kill(&mut self, node: NodeId) {
        self.die(node, Death::PowerLost);
    }

    fn ask_for_transfer(&mut self, node: NodeId, rng: &mut Rng) -> Result<(), Violation> {
        let to = Transferee::Node(self.any_node(rng));
        // A node that is shut down names nobody.
        let to = if rng.chance(NAMES_NOBODY) {
            Transferee::Best
        } else {
            to
        };
        let life = self.servers[&node].life;
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let outbox = process.outbox.clone();
        let request = self.clients.operator_asks(node, Errand::Transfer);
        let operator = Caller { request, outbox };
        self.give(node, life, DriverInput::TransferLeadership { to, operator })
    }

    pub(super) fn any_node(&self, rng: &mut Rng) -> NodeId {
        *rng.pick(&self.everyone())
    }

    fn lasts(&self, rng: &mut Rng) -> Duration {
        rng.span(SHORTEST, self.profile.strike_lasts)
    }
}

/// What a disk refuses. Reads are left out: what cannot be read is damage, which has rules of its own.
const FAILING: [DiskOp; 7] = [
    DiskOp::Sync,
    DiskOp::Sync,
    DiskOp::Write,
    DiskOp::Write,
    DiskOp::Rename,
    DiskOp::SyncDir,
    DiskOp::Create,
];
const NAMES_NOBODY: Chance = Chance::percent(30);
const TWO_OPERATORS: Chance = Chance::percent(30);
/// How much later the second operator asks, at most.
const SECOND_THOUGHTS: Duration = Duration::from_millis(200);
const DIES_WHEN_FULL: Chance = Chance::percent(40);
const SHORTEST: Duration = Duration::from_millis(1);
/// How often it is looked whether a node has fallen behind.
const BEHIND_EVERY: Duration = Duration::from_millis(50);
/// When it is noticed at the latest that a process refuses connections.
const LATEST_REFUSAL: Duration = Duration::from_millis(20);

/// Faults of one node or link that end after the time that was drawn; the others of them are over at once, or end by
/// themselves.
const LASTING: [Fault; 7] = [
    Fault::Clog,
    Fault::Crash,
    Fault::Pause,
    Fault::SlowNode,
    Fault::Strobe,
    Fault::DiskStall,
    Fault::DiskFull,
];
