//! Random clients, network and snapshots, compared with the same rules in their plainest form.

use std::time::Duration;

use proptest::prelude::*;
use quorate::sessions::command::Moment;
use quorate::sessions::{Command, Refusal, Reply, Seq, SessionId, SessionLimits, TimeToLive};

use crate::subject::{Order, Receipt, Subject, request};

/// What a naive client and network do next. Sessions are named by the order in which they were opened.
#[derive(Clone, Debug)]
enum Step {
    Open {
        ttl: u64,
    },
    Request {
        session: usize,
        seq: u64,
        acknowledged_below: u64,
        bytes: usize,
    },
    Repeat {
        earlier: usize,
    },
    KeepAlive {
        session: usize,
        acknowledged_below: u64,
    },
    Close {
        session: usize,
    },
    Pass {
        from_now: bool,
        millis: u64,
    },
    Snapshot {
        max_bytes: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let session = || 0..6_usize;
    prop_oneof![
        2 => (100..5000_u64).prop_map(|ttl| Step::Open { ttl }),
        8 => (session(), 0..12_u64, 0..12_u64, 0..40_usize).prop_map(|(session, seq, acknowledged_below, bytes)| {
            Step::Request { session, seq, acknowledged_below, bytes }
        }),
        6 => any::<prop::sample::Index>().prop_map(|index| Step::Repeat { earlier: index.index(1000) }),
        1 => (session(), 0..12_u64).prop_map(|(session, acknowledged_below)| {
            Step::KeepAlive { session, acknowledged_below }
        }),
        1 => session().prop_map(|session| Step::Close { session }),
        3 => (any::<bool>(), 0..1500_u64).prop_map(|(from_now, millis)| Step::Pass { from_now, millis }),
        1 => (1..200_usize).prop_map(|max_bytes| Step::Snapshot { max_bytes }),
    ]
}

/// The same rules in their plainest form: forgets nothing, searches for everything.
#[derive(Default)]
struct Twin {
    now: u64,
    entries: u64,
    sessions: Vec<TwinSession>,
    journal: Vec<u64>,
}

struct TwinSession {
    id: u64,
    ttl: u64,
    heard_of: u64,
    ended: bool,
    acknowledged_below: u64,
    /// Every request ever applied, with its response if there was room.
    applied: Vec<(u64, Option<Receipt>, usize)>,
}

const TWIN_LIMITS: SessionLimits = SessionLimits {
    max_sessions: 4,
    max_unacknowledged: 6,
    max_session_bytes: 80,
    max_bytes: 150,
    max_ttl: TimeToLive::MIN,
};

impl TwinSession {
    fn held(&self) -> usize {
        let held = self
            .applied
            .iter()
            .filter(|(seq, ..)| *seq >= self.acknowledged_below);
        held.map(|(_, _, bytes)| *bytes).sum()
    }
}

impl Twin {
    fn living(&self) -> impl Iterator<Item = &TwinSession> {
        self.sessions.iter().filter(|session| !session.ended)
    }

    fn find(&mut self, id: SessionId) -> Result<usize, Refusal> {
        let found = self
            .sessions
            .iter()
            .position(|session| session.id == id.0 && !session.ended);
        found.ok_or(Refusal::UnknownSession(id))
    }

    fn apply(&mut self, command: Command<Order>, max_ttl: u64) -> Reply<Receipt> {
        self.entries += 1;
        let done = match command {
            Command::Plain(order) => return self.journal(order),
            Command::Open { ttl } => return self.open(ttl, max_ttl),
            Command::Apply {
                session,
                seq,
                acknowledged_below,
                command,
            } => {
                return self
                    .request(session, seq, acknowledged_below, command)
                    .unwrap_or_else(Reply::Refused);
            }
            Command::KeepAlive {
                session,
                acknowledged_below,
            } => self.hear(session, acknowledged_below).map(drop),
            Command::Close { session } => self.find(session).map(|at| self.sessions[at].ended = true),
            Command::Advance { from, by } => {
                self.pass(from, by);
                Ok(())
            }
            Command::Configure(_) => Ok(()),
        };
        done.map_or_else(Reply::Refused, |()| Reply::Done)
    }

    fn journal(&mut self, order: Order) -> Reply<Receipt> {
        self.journal.push(order.value);
        Reply::Applied((self.journal.len() - 1, ".".repeat(order.response_bytes)))
    }

    fn open(&mut self, ttl: TimeToLive, max_ttl: u64) -> Reply<Receipt> {
        if self.living().count() == 4 {
            return Reply::Refused(Refusal::TooManySessions { max: 4 });
        }
        let millis = u64::try_from(ttl.duration().as_millis()).unwrap();
        self.sessions.push(TwinSession {
            id: self.entries,
            ttl: millis.min(max_ttl),
            heard_of: self.now,
            ended: false,
            acknowledged_below: 0,
            applied: Vec::new(),
        });
        Reply::Opened(SessionId(self.entries))
    }

    fn hear(&mut self, session: SessionId, acknowledged_below: Seq) -> Result<usize, Refusal> {
        let at = self.find(session)?;
        let session = &mut self.sessions[at];
        session.heard_of = self.now;
        session.acknowledged_below = session.acknowledged_below.max(acknowledged_below.0);
        Ok(at)
    }

    fn request(
        &mut self,
        session: SessionId,
        seq: Seq,
        acknowledged_below: Seq,
        order: Order,
    ) -> Result<Reply<Receipt>, Refusal> {
        let at = self.hear(session, acknowledged_below)?;
        let session = &self.sessions[at];
        let acknowledged_below = Seq(session.acknowledged_below);
        if seq < acknowledged_below {
            return Err(Refusal::Acknowledged {
                seq,
                acknowledged_below,
            });
        }
        if let Some((_, receipt, _)) = session.applied.iter().find(|(applied, ..)| *applied == seq.0) {
            return receipt
                .clone()
                .map(Reply::Applied)
                .ok_or(Refusal::ResponseNotKept);
        }
        if seq.0 >= acknowledged_below.0 + 6 {
            return Err(Refusal::BeyondWindow {
                seq,
                end: Seq(acknowledged_below.0 + 6),
            });
        }
        let all: usize = self.living().map(TwinSession::held).sum();
        let own = self.sessions[at].held();
        let reply = self.journal(order);
        let Reply::Applied(receipt) = &reply else {
            unreachable!()
        };
        let bytes = rmp_serde::to_vec_named(receipt).unwrap().len();
        let fits = own + bytes <= 80 && all + bytes <= 150;
        let kept = fits.then(|| receipt.clone());
        self.sessions[at]
            .applied
            .push((seq.0, kept, if fits { bytes } else { 0 }));
        Ok(reply)
    }

    fn pass(&mut self, from: Moment, by: Duration) {
        if from != Moment(self.now) {
            return;
        }
        self.now += u64::try_from(by.as_millis()).unwrap().min(1000);
        for session in &mut self.sessions {
            session.ended |= session.heard_of + session.ttl + 2000 <= self.now;
        }
    }
}

/// The command of a step that has one.
fn said_by(step: Step, value: u64, ids: &[SessionId], said: &[Command<Order>], now: u64) -> Command<Order> {
    let id = |session: usize| ids.get(session).copied().unwrap_or(SessionId(999));
    match step {
        Step::Open { ttl } => Command::Open {
            ttl: TimeToLive::new(Duration::from_millis(ttl)),
        },
        Step::Request {
            session,
            seq,
            acknowledged_below,
            bytes,
        } => {
            let order = Order {
                value,
                response_bytes: bytes,
            };
            request(id(session), seq, acknowledged_below, order)
        }
        Step::KeepAlive {
            session,
            acknowledged_below,
        } => Command::KeepAlive {
            session: id(session),
            acknowledged_below: Seq(acknowledged_below),
        },
        Step::Close { session } => Command::Close { session: id(session) },
        Step::Pass { from_now, millis } => Command::Advance {
            from: Moment(if from_now { now } else { millis }),
            by: Duration::from_millis(millis),
        },
        Step::Repeat { earlier } if !said.is_empty() => said[earlier % said.len()].clone(),
        Step::Repeat { .. } | Step::Snapshot { .. } => Command::Plain(Order {
            value,
            response_bytes: 0,
        }),
    }
}

/// Runs `steps` on replicas and on the twin; each snapshot adds a replica that goes on from it.
fn compare(steps: Vec<Step>) {
    const MAX_TTL: u64 = 3000;
    let limits = SessionLimits {
        max_ttl: TimeToLive::new(Duration::from_millis(MAX_TTL)),
        ..TWIN_LIMITS
    };
    let mut replicas = vec![Subject::with_limits(limits)];
    let mut twin = Twin::default();
    twin.apply(Command::Configure(limits), MAX_TTL);
    let mut ids = Vec::new();
    let mut said = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        if let Step::Snapshot { max_bytes } = step {
            let restored = replicas[0].restored(max_bytes);
            replicas.insert(0, restored);
            continue;
        }
        let command = said_by(step, number as u64, &ids, &said, twin.now);
        let expected = twin.apply(command.clone(), MAX_TTL);
        for replica in &mut replicas {
            assert_eq!(replica.apply(command.clone()), expected, "{command:?}");
            assert!(replica.usage().bytes <= limits.max_bytes);
        }
        if let Reply::Opened(id) = expected {
            ids.push(id);
        }
        said.push(command);
    }
    let last = replicas[0].snapshot(1 << 20);
    for replica in &mut replicas {
        assert_eq!(replica.values(), twin.journal);
        assert_eq!(
            replica.snapshot(1 << 20),
            last,
            "replicas that applied the same are the same"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn sessions_do_what_a_naive_twin_does_across_snapshots(steps in prop::collection::vec(step(), 0..120)) {
        compare(steps);
    }
}
