//! How a leader makes another node lead (thesis §3.10).
//!
//! - While it lasts nothing new is taken in, so that the successor can have everything.
//! - It ends within an election timeout: the successor is told to campaign, or it is given up.
//! - No lease is held meanwhile, and none for the rest of the term once the successor was told.
//! - It is part of the leadership, and cannot outlive it (docs/scenarios.md V7).

use crate::core::Core;
use crate::event::{Event, StepDown};
use crate::io::{Outcome, Rejection, Transferee};
use crate::leader::Leader;
use crate::membership::MemberKind;
use crate::message::Message;
use crate::mutant::mutant;
use crate::node::Next;
use crate::types::{NodeId, Ticket};

/// A handing over under way.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    to: NodeId,
    cause: Cause,
    elapsed: u32,
    asked: bool,
}

/// Why a leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody wishes it: if it fails, the leader leads on.
    Wish,
    /// It will not lead on, whoever does.
    Leaves(StepDown),
}

impl Leader {
    /// An operator wants another node to lead.
    pub(crate) fn transfer(&mut self, core: &mut Core, ticket: Ticket, to: Transferee) {
        let successor = match to {
            Transferee::Node(node) if node == core.id() => {
                core.requests.resolve(ticket, Outcome::Transferred);
                return;
            }
            Transferee::Node(node) => Some(node).filter(|node| can_lead(core, *node)),
            Transferee::Best => self.successor(core),
        };
        match successor {
            _ if self.handover.is_some() => core.requests.reject(ticket, Rejection::Transferring),
            None => core.requests.reject(ticket, Rejection::BadTransferee),
            Some(to) => {
                core.requests.transfer(ticket, to);
                self.begin_handover(core, to, Cause::Wish);
                self.go_on_with_handover(core);
            }
        }
    }

    /// Stops leading, and sees to it that the best successor there is leads soon.
    pub(crate) fn leave(&mut self, core: &mut Core, reason: StepDown) -> Next {
        if let Some(handover) = &mut self.handover {
            handover.cause = Cause::Leaves(reason);
        } else {
            match self.successor(core) {
                None => return Next::StepDown(reason),
                Some(to) => self.begin_handover(core, to, Cause::Leaves(reason)),
            }
        }
        self.go_on_with_handover(core)
    }

    /// Once the successor has everything, it is told to campaign.
    pub(crate) fn go_on_with_handover(&mut self, core: &mut Core) -> Next {
        let Some(handover) = &mut self.handover else {
            return Next::Stay;
        };
        let last = core.log.last().index;
        let caught_up = self
            .progress
            .get(&handover.to)
            .is_some_and(|progress| progress.match_index() == last);
        if caught_up && !handover.asked {
            handover.asked = true;
            if !mutant!(M59) {
                self.lease.forfeit();
            }
            core.send(handover.to, Message::TimeoutNow);
        }
        match handover.cause {
            Cause::Leaves(reason) if handover.asked => Next::StepDown(reason),
            Cause::Leaves(_) | Cause::Wish => Next::Stay,
        }
    }

    pub(crate) fn tick_handover(&mut self, core: &mut Core) -> Next {
        let Some(handover) = &mut self.handover else {
            return Next::Stay;
        };
        handover.elapsed += 1;
        if handover.elapsed < core.config.election_ticks {
            return Next::Stay;
        }
        core.event(Event::TransferAborted { to: handover.to });
        self.lease.give_up();
        core.requests.end_transfer(if handover.asked {
            // It may have been told and be slow: nothing takes that back.
            Outcome::Unknown
        } else {
            Outcome::Rejected(Rejection::BadTransferee)
        });
        match self.handover.take().map(|handover| handover.cause) {
            Some(Cause::Leaves(reason)) => Next::StepDown(reason),
            Some(Cause::Wish) | None => Next::Stay,
        }
    }

    /// Who can lead soonest: a voter with data that is there, one that acknowledges what it is sent before one whose disk
    /// may be stalled, then the most wanted, then the furthest.
    pub(crate) fn successor(&self, core: &Core) -> Option<NodeId> {
        let election_ticks = core.config.election_ticks;
        self.progress
            .iter()
            .filter(|(node, progress)| can_lead(core, **node) && progress.is_there(election_ticks))
            .max_by_key(|(node, progress)| {
                let first_of_equals = std::cmp::Reverse(**node);
                let priority = core.configuration().priority(**node);
                let keeps_up = progress.keeps_up(election_ticks);
                (keeps_up, priority, progress.match_index(), first_of_equals)
            })
            .map(|(node, _)| *node)
    }

    pub(crate) fn begin_handover(&mut self, core: &mut Core, to: NodeId, cause: Cause) {
        if !mutant!(M59) {
            // Thesis §6.4.1: voters that are asked at this leader's wish keep no promise.
            self.lease.give_up();
        }
        core.event(Event::TransferStarted { to });
        self.handover = Some(Handover {
            to,
            cause,
            elapsed: 0,
            asked: false,
        });
    }
}

/// Whether `node` can be made leader: it votes and has the data.
pub(crate) fn can_lead(core: &Core, node: NodeId) -> bool {
    let configuration = core.configuration();
    // One that only the outgoing voters count would lead no longer than the change takes.
    configuration.voters().contains(&node)
        && configuration.kind(node) == MemberKind::Full
        && node != core.id()
}
