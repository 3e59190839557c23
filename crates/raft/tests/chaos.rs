//! Random schedules of a small cluster: messages lost, doubled, reordered and delayed, nodes crashed,
//! links cut, disks slow or stalled, messages that come again much later, with bounds so small that all of
//! them are met.
//!
//! Every step is checked as in the traces. Then all faults end, and the cluster must agree, answer all
//! that was asked of it, and commit again. One number decides everything: `CHAOS_SEED=n` repeats a
//! run and prints it, `CHAOS_SEEDS=n` runs more of them, `CHAOS_FIRST=n` other ones.

mod cluster;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cluster::{Cluster, LogRead, Options, PROMISE};
use quorate_raft::status::RoleKind;
use quorate_raft::{
    Consistency, Delivery, DriftBound, Envelope, Index, Input, Limits, MemberInfo, MemberKind, NodeId,
    Outcome, Precondition, Priority, Stage, Status, Target, Ticket, Transferee,
};

/// Numbers from a seed (xorshift64*).
struct Dice(u64);

/// How wild a run is: chances in a thousand.
struct Mood {
    lose: u64,
    double: u64,
    reorder: u64,
    crash: u64,
    cut: u64,
    change: u64,
    stall: u64,
    late: u64,
}

struct Run {
    cluster: Cluster,
    dice: Dice,
    mood: Mood,
    /// A node whose clock is slow, as if it were paused again and again.
    slow: Option<NodeId>,
    /// A node whose disk does not answer.
    stalled: Option<NodeId>,
    /// Copies of messages, some of which come once more when nobody expects them.
    copies: Vec<Envelope>,
    asked: u64,
}

#[test]
fn nothing_is_broken_and_all_comes_right_in_the_end() {
    if let Some(seed) = number("CHAOS_SEED") {
        return repeat(seed);
    }
    let first = number("CHAOS_FIRST").unwrap_or(0);
    for seed in first..first + number("CHAOS_SEEDS").unwrap_or(2_000) {
        let run = AssertUnwindSafe(|| Run::new(seed, true).go());
        assert!(
            catch_unwind(run).is_ok(),
            "seed {seed} fails: repeat it with CHAOS_SEED={seed}"
        );
    }
}

#[test]
fn one_seed_is_one_run() {
    let lines = |seed| {
        let mut run = Run::new(seed, false);
        run.go();
        run.cluster.take_lines()
    };
    assert_eq!(lines(7), lines(7));
    assert_ne!(lines(7), lines(8));
}

/// Runs one seed and prints what happened, whether it fails or not.
fn repeat(seed: u64) {
    let mut run = Run::new(seed, false);
    let result = catch_unwind(AssertUnwindSafe(|| run.go()));
    for line in run.cluster.take_lines() {
        eprintln!("{line}");
    }
    for id in run.cluster.running() {
        eprintln!("{:?}", run.cluster.status(id));
    }
    assert!(result.is_ok(), "seed {seed} fails");
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("it is a number"))
}

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.below(1_000) < in_a_thousand
    }

    /// A number below `bound`, which is small and not 0.
    fn place(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("it is below a usize")
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.place(from.len())]
    }

    /// None of nothing.
    fn any_of<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| self.one_of(from))
    }
}

impl Run {
    fn new(seed: u64, silent: bool) -> Self {
        let mut dice = Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.below(2);
        let mut cluster = Cluster::new(options(seed, &mut dice));
        for id in cluster.ids() {
            // At most 110 to 100, which is what leases allow for.
            cluster.set_rate(id, 1_000 + dice.below(101));
        }
        if silent {
            cluster.be_silent();
        }
        let mood = Mood {
            lose: dice.one_of(&[0, 20, 100]),
            double: dice.one_of(&[0, 20, 100]),
            reorder: dice.one_of(&[0, 100, 500]),
            crash: dice.one_of(&[0, 3, 10]),
            cut: dice.one_of(&[0, 4, 8]),
            change: dice.one_of(&[0, 0, 300, 800]),
            stall: dice.one_of(&[0, 0, 3]),
            late: dice.one_of(&[0, 0, 20]),
        };
        Self {
            cluster,
            dice,
            mood,
            slow: None,
            stalled: None,
            copies: Vec::new(),
            asked: 0,
        }
    }

    fn go(&mut self) {
        for _ in 0..STEPS {
            self.act();
        }
        self.come_right();
        self.cluster.history.check_tickets();
    }

    fn act(&mut self) {
        if self.dice.chance(self.mood.crash) {
            self.crash();
        }
        if self.dice.chance(20) {
            self.restart();
        }
        if self.dice.chance(self.mood.cut) {
            self.cut_or_heal();
        }
        if self.dice.chance(self.mood.crash) {
            self.report_gone();
        }
        if self.dice.chance(self.mood.stall) {
            self.stalled = self.stalled.map_or_else(|| Some(self.someone()), |_| None);
        }
        // A few round trips fit into the time between two ticks, or nobody would ever lead.
        match self.dice.below(100) {
            0..60 => self.message(),
            60..70 => self.tick(),
            70..92 => self.work(),
            _ => self.ask(),
        }
    }

    fn message(&mut self) {
        let waiting = self.cluster.network.len();
        if waiting == 0 {
            return;
        }
        let at = if self.dice.chance(self.mood.reorder) {
            self.dice.place(waiting)
        } else {
            0
        };
        if self.dice.chance(self.mood.double) {
            self.cluster.network.double_at(at);
        }
        let envelope = self.cluster.network.take_at(at);
        if self.dice.chance(self.mood.late) {
            self.come_late(envelope.clone());
        }
        if !self.dice.chance(self.mood.lose) {
            self.cluster.receive(envelope);
        }
    }

    /// Keeps a copy for later, and delivers one that was kept.
    fn come_late(&mut self, envelope: Envelope) {
        self.copies.push(envelope);
        if self.copies.len() > MOST_COPIES {
            let at = self.dice.place(MOST_COPIES);
            let old = self.copies.swap_remove(at);
            self.cluster.receive(old);
        }
    }

    fn tick(&mut self) {
        let Some(id) = self.dice.any_of(&self.cluster.running()) else {
            return;
        };
        if self.slow == Some(id) && self.dice.chance(850) {
            return;
        }
        let running = u32::try_from(self.cluster.running().len()).expect("a few");
        for _ in 0..=self.dice.below(2) {
            self.cluster.pass(TICK / running);
            self.cluster.step(id, Input::Tick);
        }
    }

    fn work(&mut self) {
        let Some(id) = self.dice.any_of(&self.cluster.running()) else {
            return;
        };
        let _ = match self.dice.below(8) {
            0..4 if self.stalled == Some(id) => false,
            0..4 => self.cluster.persist(id, 1 + self.dice.place(3)),
            4 => {
                let to = self.cluster.status(id).applied_index.0 + 1 + self.dice.below(4);
                self.cluster.apply(id, Index(to))
            }
            5 => self.cluster.restore(id),
            6 => {
                let how = [LogRead::Early, LogRead::Early, LogRead::Late, LogRead::Gone];
                self.cluster.answer_log_read(id, self.dice.one_of(&how))
            }
            _ => {
                let outcome = if self.dice.chance(200) {
                    Delivery::Failed
                } else {
                    Delivery::Delivered
                };
                self.cluster.ship(id, outcome)
            }
        };
    }

    fn ask(&mut self) {
        let id = self.someone();
        if !self.cluster.is_running(id) {
            return;
        }
        match self.dice.below(20) {
            0..12 => {
                let count = 1 + self.dice.below(3);
                let commands: Vec<String> = (0..count).map(|_| self.command()).collect();
                self.cluster.propose(id, &commands);
            }
            12..17 => {
                let count = 1 + self.dice.place(2);
                let consistency = self.dice.one_of(&[Consistency::Linearizable, Consistency::Lease]);
                self.cluster.read(id, count, consistency);
            }
            17..19 => {
                self.cluster.snapshot(id, None);
            }
            _ if self.dice.chance(self.mood.change) => self.change(id),
            _ => {
                let to = match self.dice.below(4) {
                    0 => Transferee::Best,
                    _ => Transferee::Node(self.dice.one_of(&self.cluster.ids())),
                };
                self.cluster.transfer(id, to);
            }
        }
    }

    /// Asks for other members: some that are there, some new.
    fn change(&mut self, id: NodeId) {
        let ids = self.cluster.ids();
        let newest = ids.last().map_or(0, |last| last.0);
        if ids.len() < MOST_NODES && self.dice.chance(300) {
            let kind = self
                .dice
                .one_of(&[MemberKind::Full, MemberKind::Full, MemberKind::Witness]);
            self.cluster.join(NodeId(newest + 1), kind);
        }
        let mut members: [Vec<_>; 2] = Default::default();
        for node in self.cluster.ids() {
            let kind = self.cluster.kind(node);
            let priority = Priority(self.dice.one_of(&[0, 0, 0, 1]));
            let info = MemberInfo {
                kind,
                priority,
                ..MemberInfo::default()
            };
            match self.dice.below(10) {
                0..6 => members[0].push((node, info)),
                6..8 if kind == MemberKind::Full => members[1].push((node, info)),
                _ => {}
            }
        }
        let [voters, learners] = members;
        // Without a voter that has data it is no target.
        if let Ok(target) = Target::new(voters, learners) {
            let when = match self.dice.below(4) {
                0 => Precondition::Current(Box::new((*self.cluster.status(id).configuration).clone())),
                _ => Precondition::Any,
            };
            self.cluster.reconfigure(id, target, when);
        }
    }

    fn command(&mut self) -> String {
        self.asked += 1;
        let padding = "x".repeat(self.dice.place(30));
        format!("{}{padding}", self.asked)
    }

    fn crash(&mut self) {
        let id = self.someone();
        if self.dice.chance(100) {
            return self.lose_power();
        }
        if self.cluster.is_running(id) {
            let done = self.dice.place(self.cluster.writes(id) + 1);
            self.cluster.crash(id, done);
            for other in self.cluster.running() {
                if self.dice.chance(500) {
                    self.cluster.step(other, Input::PeerGone(id));
                }
            }
        }
    }

    /// All nodes stop at once.
    fn lose_power(&mut self) {
        for id in self.cluster.running() {
            let done = self.dice.place(self.cluster.writes(id) + 1);
            self.cluster.crash(id, done);
        }
    }

    /// A report that need not be true.
    fn report_gone(&mut self) {
        let (gone, told) = (self.someone(), self.dice.one_of(&self.cluster.ids()));
        if gone != told && self.cluster.is_running(told) {
            self.cluster.step(told, Input::PeerGone(gone));
        }
    }

    fn restart(&mut self) {
        let ids = self.cluster.ids().into_iter();
        let down: Vec<NodeId> = ids.filter(|id| !self.cluster.is_running(*id)).collect();
        if let Some(id) = self.dice.any_of(&down) {
            self.cluster.start(id);
        }
    }

    fn cut_or_heal(&mut self) {
        let ids = self.cluster.ids();
        let (a, b) = (self.someone(), self.dice.one_of(&ids));
        match self.dice.below(7) {
            0 => self.cluster.network.cut(a, b),
            6 => self.only_hub(a),
            1 => self.isolate(a),
            2 => {
                // It goes on believing that it leads while the others elect another.
                self.isolate(a);
                self.slow = Some(a);
            }
            _ => {
                self.cluster.network.heal();
                self.slow = None;
            }
        }
    }

    /// A leader half of the time, if there is one.
    fn someone(&mut self) -> NodeId {
        let any = self.dice.one_of(&self.cluster.ids());
        let leads = |id: &NodeId| self.cluster.status(*id).role == RoleKind::Leader;
        let leader = self.cluster.running().into_iter().find(leads);
        leader.filter(|_| self.dice.chance(500)).unwrap_or(any)
    }

    /// Only `hub` reaches the others.
    fn only_hub(&mut self, hub: NodeId) {
        for a in self.cluster.ids() {
            for b in self.cluster.ids() {
                if a != hub && b != hub {
                    self.cluster.network.cut(a, b);
                }
            }
        }
    }

    fn isolate(&mut self, id: NodeId) {
        for other in self.cluster.ids() {
            self.cluster.network.cut(id, other);
            self.cluster.network.cut(other, id);
        }
    }

    /// Ends all faults. Then the cluster must agree, answer everything, and commit.
    fn come_right(&mut self) {
        self.cluster.network.heal();
        for id in self.cluster.ids() {
            if !self.cluster.is_running(id) {
                self.cluster.start(id);
            }
        }
        self.wait_until("all agree and all is answered", |run| {
            run.agrees() && run.unanswered().is_empty()
        });
        self.commit_one_more();
    }

    /// A leader that hands over may refuse a command, as long as it says so: it is then asked for again.
    fn commit_one_more(&mut self) {
        for attempt in 0..PATIENCE * self.cluster.election_ticks() {
            let leader = self.leader().expect("they agree");
            let ticket = self.cluster.propose(leader, &[format!("last{attempt}")])[0];
            self.wait_until("a command is answered, and all agree", |run| {
                run.agrees() && run.cluster.history.outcome(ticket).is_some()
            });
            match self.cluster.history.outcome(ticket) {
                Some(Outcome::Committed(_)) => return,
                Some(Outcome::Rejected(_)) => self.tick_all(),
                other => panic!("a command of a healed cluster comes to {other:?}"),
            }
        }
        panic!("each leader of a healed cluster refuses commands");
    }

    /// What the members owe an answer to: one that was removed may never learn what became of its requests.
    fn unanswered(&self) -> Vec<Ticket> {
        let Some(leader) = self.leader() else {
            return self.cluster.history.unanswered();
        };
        let members = self.cluster.status(leader).configuration;
        let owes = |ticket: &Ticket| members.is_member(self.cluster.history.node_of(*ticket));
        self.cluster
            .history
            .unanswered()
            .into_iter()
            .filter(owes)
            .collect()
    }

    fn wait_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        self.cluster.stabilize();
        for _ in 0..PATIENCE * self.cluster.election_ticks() {
            if done(self) {
                return;
            }
            self.tick_all();
        }
        panic!("it never comes true that {what}; open: {:?}", self.unanswered());
    }

    fn tick_all(&mut self) {
        self.cluster.pass(TICK);
        for id in self.cluster.ids() {
            self.cluster.step(id, Input::Tick);
            self.cluster.stabilize();
        }
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |id: &NodeId| self.cluster.status(*id).role == RoleKind::Leader;
        self.cluster.ids().into_iter().find(leads)
    }

    /// Whether one node leads, all members follow it, and all have applied the same log to its end.
    fn agrees(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let Status {
            last: end,
            configuration,
            ..
        } = self.cluster.status(leader);
        configuration.stage() == Stage::Settled
            && configuration.members().into_iter().all(|id| {
                let status = self.cluster.status(id);
                status.leader == Some(leader) && status.last == end && status.applied_index == end.index
            })
    }
}

fn options(seed: u64, dice: &mut Dice) -> Options {
    let some = Limits::default();
    let voters = dice.one_of(&[1, 2, 3, 3, 3, 4, 5, 5]);
    let limits = Limits {
        max_command_bytes: dice.one_of(&[28, some.max_command_bytes]),
        max_message_bytes: dice.one_of(&[1, 60, some.max_message_bytes]),
        max_inflight_bytes: dice.one_of(&[1, 100, some.max_inflight_bytes]),
        max_uncommitted_bytes: dice.one_of(&[50, 300, some.max_uncommitted_bytes]),
        max_applying_bytes: dice.one_of(&[1, 60, some.max_applying_bytes]),
        window_bytes: dice.one_of(&[0, 60, some.window_bytes]),
        max_pending_reads: dice.one_of(&[1, 3, some.max_pending_reads]),
        retained_entries: dice.one_of(&[0, 2, some.retained_entries]),
    };
    Options {
        witnesses: match dice.below(10) {
            0 | 1 => voters / 2,
            2 => u64::from(voters > 1),
            _ => 0,
        },
        voters,
        learners: dice.one_of(&[0, 0, 1]),
        election_ticks: 5,
        heartbeat_ticks: 1,
        seed,
        automatic: dice.chance(200),
        limits,
        leases: dice.chance(400).then_some(DriftBound(101_000)),
    }
}

/// How far apart the ticks of a node are, about: an election timeout is as long as a promise.
const TICK: Duration = PROMISE.checked_div(5).expect("not zero");
/// How many nodes a run has at most.
const MOST_NODES: usize = 7;
/// How many copies of messages wait to come once more.
const MOST_COPIES: usize = 30;
/// How many things happen in a run before all faults end.
const STEPS: u32 = 3_000;
/// How many election timeouts a healed cluster may take.
const PATIENCE: u32 = 40;
