//! What goes wrong, and when.

use std::time::Duration;

use quorate::driver::DriverInput;
use quorate_raft::{NodeId, Transferee};
use quorate_wal::DiskOp;

use super::{Happening, World};
use crate::invariant::Violation;
use crate::network::Cut;
use crate::ports::Caller;
use crate::profile::Fault;
use crate::server::DiskFailure;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// It is killed: what it wrote stays in the memory of its machine.
    Killed,
    /// Its machine loses power: what was not synced is lost, or torn.
    PowerLost,
}

impl World {
    /// Lets the next fault strike some time, if any can.
    pub(super) fn plan_strike(&mut self) {
        if !self.profile.faults.iter().any(|fault| fault.strikes()) {
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
        let striking: Vec<Fault> = self
            .profile
            .faults
            .iter()
            .copied()
            .filter(|fault| fault.strikes())
            .collect();
        let fault = *self.faults_rng.pick(&striking);
        *self.faults.entry(fault).or_default() += 1;
        let node = self.any_node();
        let lasts = self.lasts();
        self.note(|| format!("{fault} strikes, {node} if it strikes one, for {lasts:?}"));
        match fault {
            Fault::Halves | Fault::Isolate | Fault::OneWay | Fault::Bridge | Fault::Ring => {
                let cut = Cut::draw(fault, self.profile.nodes, &mut self.faults_rng);
                self.network.cut(cut);
                self.schedule.after(lasts, Happening::Mend);
            }
            Fault::Clog => {
                let other = self.any_node();
                self.network.clog(node, other);
                self.schedule.after(lasts, Happening::Mend);
            }
            Fault::Crash => {
                let death = if self.faults_rng.coin() {
                    Death::Killed
                } else {
                    Death::PowerLost
                };
                self.die(node, death);
                self.schedule.after(lasts, Happening::Restart(node));
            }
            Fault::PowerLoss => self.lose_all_power(),
            Fault::Pause => self.server(node).paused_until = self.now() + lasts,
            Fault::DiskStall => self.server(node).stalled_until = self.now() + lasts,
            Fault::DiskError => {
                let op = *self.faults_rng.pick(&FAILING);
                self.server(node).fail_next(op);
            }
            Fault::Transfer => return self.ask_for_transfer(node),
            Fault::Drop
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::SlowTail
            | Fault::Replay
            | Fault::BrokenSnapshot => {}
        }
        Ok(())
    }

    /// A node's storage has failed: the process stops, as production does, and is started again later.
    pub(super) fn stop_failed(&mut self, node: NodeId) -> Result<(), Violation> {
        self.note(|| format!("{node} stops, its disk has failed"));
        let server = self.server(node);
        server.failure = DiskFailure::None;
        let life = server.life;
        if let Some(process) = self.process(node, life) {
            process.driver.stop();
        }
        self.answer(node, life)?;
        self.die(node, Death::PowerLost);
        let after = if self.are_faults_over() {
            Duration::ZERO
        } else {
            self.lasts()
        };
        self.schedule.after(after, Happening::Restart(node));
        Ok(())
    }

    fn lose_all_power(&mut self) {
        for node in (1..=self.profile.nodes).map(NodeId) {
            self.die(node, Death::PowerLost);
            let after = self.lasts();
            self.schedule.after(after, Happening::Restart(node));
        }
    }

    fn die(&mut self, node: NodeId, death: Death) {
        self.note(|| format!("{node} dies: {death:?}"));
        let server = self.server(node);
        server.process = None;
        server.paused_until = crate::schedule::Time::START;
        let rng = &mut server.disk_rng;
        match death {
            Death::Killed => server.disk.kill_process(),
            Death::PowerLost => server.disk.crash(&mut || rng.number()),
        }
        // What the process held open is closed with it.
        self.transfers.retain(|_, transfer| transfer.from() != node);
        for wake in self.clients.node_died(node) {
            self.wake_later(wake);
        }
    }

    fn ask_for_transfer(&mut self, node: NodeId) -> Result<(), Violation> {
        let to = self.any_node();
        let life = self.servers[&node].life;
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let outbox = process.outbox.clone();
        let request = self.clients.operator_asks(node);
        let operator = Caller { request, outbox };
        self.give(
            node,
            life,
            DriverInput::TransferLeadership {
                to: Transferee::Node(to),
                operator,
            },
        )
    }

    fn any_node(&mut self) -> NodeId {
        NodeId(self.faults_rng.between(1, self.profile.nodes))
    }

    fn lasts(&mut self) -> Duration {
        self.faults_rng
            .span(Duration::from_millis(1), self.profile.strike_lasts)
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
