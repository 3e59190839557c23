//! The clients' side: what they ask of nodes, and what nodes tell them.
//!
//! Between a client and a node nothing takes time and nothing is lost; a node that does not run
//! refuses, and one that dies takes with it what was under way there.

use quorate::apply::Reading;
use quorate::driver::DriverInput;
use quorate::machine::Machine;
use quorate_raft::{Consistency, MemberKind, NodeId, RoleKind};

use super::{Happening, Wiring, World};
use crate::clients::{Call, Errand, RequestId, Submission, Wake, Word};
use crate::digest::Digest;
use crate::history::Key;
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::ports::{Caller, Outbox, Reply};
use crate::replicated::Replicated;
use crate::server::Life;

impl World {
    pub(super) fn wake_later(&mut self, wake: Wake) {
        self.schedule.after(wake.after, Happening::Wake(wake.client));
    }

    pub(super) fn wake(&mut self, client: u64) -> Result<(), Violation> {
        let Some(submission) = self.clients.wake(client) else {
            return Ok(());
        };
        let is_auditor = client == self.clients.auditor();
        if let Some(operation) = submission.begins.filter(|_| !is_auditor) {
            let patience = self.profile.client.patience;
            self.schedule
                .after(patience, Happening::TimedOut(client, operation));
        }
        self.submit(submission)
    }

    fn submit(&mut self, submission: Submission) -> Result<(), Violation> {
        let Submission {
            request, node, call, ..
        } = submission;
        let life = self.servers[&node].life;
        if let Call::Read(key) = &call {
            self.read_locally(node, life, *key)?;
        }
        let stale = self.wiring == Wiring::StaleReads;
        // Half of the reads are content with a lease; they must be as current as the others.
        let content = self.profile.node.leases.is_some() && request.0.is_multiple_of(2);
        let consistency = if content {
            Consistency::Lease
        } else {
            Consistency::Linearizable
        };
        let Some(process) = self.process(node, life) else {
            let wake = self.clients.refused(request);
            wake.into_iter().for_each(|wake| self.wake_later(wake));
            return Ok(());
        };
        let caller = Caller {
            request,
            outbox: process.outbox.clone(),
        };
        let input = match call {
            Call::Propose(command) => DriverInput::Propose {
                command: Replicated::encode(command).expect("clients propose no reads"),
                proposer: caller,
            },
            Call::Read(key) => {
                let reading = Reading {
                    query: key,
                    responder: caller,
                };
                if stale {
                    process.apply.applier.read_local(reading);
                    return self.answer(node, life);
                }
                DriverInput::Read {
                    reader: reading,
                    consistency,
                }
            }
        };
        self.give(node, life, input)
    }

    /// Before each read that asks the others, one that does not: it may be late, and must be true.
    fn read_locally(&mut self, node: NodeId, life: Life, key: Key) -> Result<(), Violation> {
        if self.servers[&node].kind == MemberKind::Witness || !self.pause_of(node).is_zero() {
            return Ok(());
        }
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let outbox = Outbox::default();
        let responder = Caller {
            request: RequestId(0),
            outbox: outbox.clone(),
        };
        process.apply.applier.read_local(Reading {
            query: key,
            responder,
        });
        let replies = outbox.take();
        let [Reply::Read(_, found)] = replies[..] else {
            return Err(Violation {
                invariant: Invariant::AnsweredOnce,
                detail: format!("{node} answers a local read with {replies:?}"),
            });
        };
        self.executions.read_locally((node, life), key, found)
    }

    /// Brings what a node left for clients to them.
    pub(super) fn answer(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let replies = std::mem::take(&mut *process.outbox.borrow_mut());
        replies.into_iter().try_for_each(|reply| self.reply(node, reply))
    }

    fn reply(&mut self, node: NodeId, reply: Reply) -> Result<(), Violation> {
        let digest = Digest::EMPTY.display(&format_args!("{reply:?}"));
        self.trace.add(self.schedule.now(), digest, || {
            format!("{node} answers {reply:?}")
        });
        self.mark_reply(node, reply);
        let wake = match reply {
            Reply::Responded(request, response) => {
                self.safety.acknowledged(response.id)?;
                if let Some(wanted) = self.clients.wanted(request) {
                    self.executions.answered(wanted, response.id.index)?;
                }
                self.clients.responded(request, response)?
            }
            Reply::Read(request, value) => self.clients.read(request, value)?,
            Reply::Session(request, word) => self.clients.told(request, word)?,
            Reply::Failed(request, failure) => self.clients.failed(request, failure)?,
            Reply::Operator(request, result) => {
                let errand = self.clients.operator_answered(request)?;
                if result.is_ok() {
                    self.marks.reach(if errand == Some(Errand::Members) {
                        Mark::ChangeDone
                    } else {
                        Mark::TransferDone
                    });
                }
                None
            }
        };
        wake.into_iter().for_each(|wake| self.wake_later(wake));
        Ok(())
    }

    fn mark_reply(&mut self, node: NodeId, reply: Reply) {
        let process = self.servers[&node].process.as_ref();
        let follows = process.is_some_and(|process| process.role() != RoleKind::Leader);
        let mark = match reply {
            Reply::Responded(request, _) => {
                if self.clients.repeats(request) {
                    self.marks.reach(Mark::CommandRepeated);
                }
                follows.then_some(Mark::WriteAtFollower)
            }
            Reply::Session(_, Word::Refused(refusal)) => Mark::of_refusal(refusal),
            Reply::Session(..) => None,
            Reply::Read(..) => follows.then_some(Mark::ReadAtFollower),
            Reply::Operator(_, Ok(())) => None,
            Reply::Failed(_, failure) | Reply::Operator(_, Err(failure)) => Mark::of_failure(failure),
        };
        mark.into_iter().for_each(|mark| self.marks.reach(mark));
    }
}
