//! Fast failover: what follows when a leader's process is seen to be gone.
//!
//! A process that dies leaves a host that refuses connections at once, long before an election timeout
//! has passed. The caller reports it, and its followers ask for pre-votes without waiting.
//!
//! - A report changes neither term nor vote. Whoever hears the leader denies the pre-vote, and the next
//!   heartbeat takes the report back: a wrong one harms nothing.
//! - Where leaders hold leases, a report shortens no promise: the campaign waits until that is over.
//! - Followers take turns by rank, so that two of them seldom split the vote.
//! - Reports come at different moments. Who denied a pre-vote for the leader's sake says so when its own
//!   report comes; and a campaign that was denied is tried again soon, a few times.

use std::cmp::Reverse;

use crate::candidate::Attempt;
use crate::core::Core;
use crate::membership::MemberKind;
use crate::message::{Message, PreVerdict, PreVoteResponse, RequestPreVote};
use crate::types::NodeId;

/// What a follower knows about the end of its leader.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failover {
    /// Whether the leader was reported gone, and neither a leader nor a vote came since.
    awaits_turn: bool,
    /// Who asked for a pre-vote last that was denied because a leader was heard of.
    denied: Option<(NodeId, RequestPreVote)>,
}

impl Failover {
    pub(crate) fn on_denied(&mut self, asker: NodeId, ask: RequestPreVote) {
        self.denied = Some((asker, ask));
    }

    /// The leader is gone: how many ticks to leave to others, who may campaign first.
    pub(crate) fn begin(&mut self, core: &mut Core, gone: NodeId) -> u32 {
        self.awaits_turn = true;
        let turn = rank(core, gone).saturating_mul(stagger(core));
        match self.denied.take() {
            Some((asker, ask)) if is_electable(core, ask) && !core.promise.forbids(asker) => {
                let (term, verdict) = (ask.term, PreVerdict::Granted);
                let answer = PreVoteResponse { term, verdict };
                core.send(asker, Message::PreVoteResponse(answer));
                turn.max(stagger(core))
            }
            Some(_) | None => turn,
        }
    }

    /// How this node's next campaign begins.
    pub(crate) fn attempt(self) -> Attempt {
        let first = Attempt::first();
        match self.awaits_turn {
            true => first.hurried(RETRIES),
            false => first,
        }
    }

    /// A leader or a candidate was found. Says whether this node's turn was waited for.
    pub(crate) fn end(&mut self) -> bool {
        std::mem::take(self).awaits_turn
    }
}

/// How many ticks lie between the turns of two followers, or between two tries of one.
pub(crate) fn stagger(core: &Core) -> u32 {
    (core.config.election_ticks / 10).max(1)
}

/// How many of those who may follow `gone` come before this node: the more wanted first, then by id.
fn rank(core: &Core, gone: NodeId) -> u32 {
    let configuration = core.configuration();
    let place = |node: NodeId| (Reverse(configuration.priority(node)), node);
    let may_lead = |node: NodeId| {
        node != gone && configuration.is_voter(node) && configuration.kind(node) == MemberKind::Full
    };
    let members = configuration.members();
    let before = members
        .into_iter()
        .filter(|node| may_lead(*node) && place(*node) < place(core.id()));
    u32::try_from(before.count()).unwrap_or(u32::MAX)
}

fn is_electable(core: &Core, ask: RequestPreVote) -> bool {
    ask.term > core.term() && core.is_up_to_date(ask.last)
}

/// How often a denied campaign is tried again soon.
const RETRIES: u32 = 5;
