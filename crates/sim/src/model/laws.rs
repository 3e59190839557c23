//! What must be true of every state of a model, and of the whole past that led to it.
//!
//! A node's own laws (I2, I6: nothing goes back in one life) are the core's, checked at each of its steps.

use quorate_raft::{EntryId, Index, NodeId, RoleKind, Term};

use super::machine::Facts;
use super::memory::{Label, Promise};
use crate::invariant::{Invariant, Violation, require};

/// What no later state may contradict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// Who led, in the order in which they were first seen to.
    pub(super) leaders: Vec<(Term, NodeId)>,
    /// What each index was committed as, from 1 on, and in which term that was.
    pub(super) committed: Vec<(EntryId, Term)>,
}

/// Checks the state in which node `changed` is news.
pub(super) fn check(all: &[&Facts], changed: usize, past: &mut Past) -> Result<(), Violation> {
    let node = all[changed];
    check_leader(node, past)?;
    check_logs(all, node)?;
    check_commit(all, node, past)?;
    all.iter().try_for_each(|leader| check_completeness(leader, past))
}

/// I6 and I12: a message that leaves promises only what the sender's disk keeps, and contradicts no other.
pub(super) fn check_promise(
    sender: &Facts,
    label: Label,
    others: impl Iterator<Item = Label>,
) -> Result<(), Violation> {
    match label.promise {
        Promise::Nothing => Ok(()),
        Promise::Match(index) => {
            let durable = sender.durable.len() as u64;
            require(index.0 <= durable, Invariant::DurablePromise, || {
                format!("{} acknowledges {index}, its disk ends at {durable}", label.from)
            })?;
            // What was said in an earlier term was said of the log as it was then.
            let up_to = usize::try_from(index.0).expect("a handful of entries");
            let written = sender.log.iter().map(|(id, _)| id).take(up_to);
            let is_current = label.term == sender.term;
            let is_kept = !is_current || written.eq(sender.durable.iter().take(up_to));
            require(is_kept, Invariant::DurablePromise, || {
                let (log, durable) = (&sender.log, &sender.durable);
                format!(
                    "{} acknowledges {index} of {log:?}, its disk holds {durable:?}",
                    label.from
                )
            })
        }
        Promise::Vote => {
            let state = sender.durable_state;
            let keeps = state.term > label.term || (state.term == label.term && state.vote == Some(label.to));
            require(keeps, Invariant::DurablePromise, || {
                format!(
                    "{} votes for {} in term {}, its disk holds {state:?}",
                    label.from, label.to, label.term
                )
            })?;
            let mut others = others.filter(|other| {
                other.promise == Promise::Vote && other.from == label.from && other.term == label.term
            });
            let contrary = others.find(|other| other.to != label.to);
            require(contrary.is_none(), Invariant::Monotone, || {
                format!(
                    "{} votes for {} in term {}, and voted: {contrary:?}",
                    label.from, label.to, label.term
                )
            })
        }
    }
}

/// I1.
fn check_leader(node: &Facts, past: &mut Past) -> Result<(), Violation> {
    if node.role != RoleKind::Leader {
        return Ok(());
    }
    let known = past.leaders.iter().find(|(term, _)| *term == node.term);
    let Some((_, leader)) = known else {
        past.leaders.push((node.term, node.id));
        past.leaders.sort_unstable();
        return Ok(());
    };
    require(*leader == node.id, Invariant::ElectionSafety, || {
        format!("{leader} and {} both lead term {}", node.id, node.term)
    })
}

/// I3: from the last index at which two logs agree on the term down, they are equal.
fn check_logs(all: &[&Facts], node: &Facts) -> Result<(), Violation> {
    for other in all.iter().filter(|other| other.id != node.id) {
        let mut pairs = node.log.iter().zip(&other.log);
        let agree = pairs.rposition(|((mine, _), (theirs, _))| mine == theirs);
        let up_to = agree.map_or(0, |place| place + 1);
        require(
            node.log[..up_to] == other.log[..up_to],
            Invariant::LogMatching,
            || {
                format!(
                    "{} holds {:?}, {} holds {:?}",
                    node.id, node.log, other.id, other.log
                )
            },
        )?;
    }
    Ok(())
}

/// I5, I7 and I8.
fn check_commit(all: &[&Facts], node: &Facts, past: &mut Past) -> Result<(), Violation> {
    let known = past.committed.len() as u64;
    if node.commit.0 > known {
        check_first_commit(all, node)?;
        let place = usize::try_from(known).expect("a handful of entries");
        let news = node
            .log
            .iter()
            .skip(place)
            .take_while(|(id, _)| id.index <= node.commit);
        past.committed.extend(news.map(|(id, _)| (*id, node.term)));
    }
    for (committed, _) in past.committed.iter().filter(|(id, _)| id.index <= node.commit) {
        let held = held(&node.log, committed.index);
        require(held == Some(*committed), Invariant::StateMachineSafety, || {
            format!(
                "{} commits {held:?} as {}, committed is {committed}",
                node.id, committed.index
            )
        })?;
    }
    Ok(())
}

fn check_first_commit(all: &[&Facts], node: &Facts) -> Result<(), Violation> {
    let id = held(&node.log, node.commit);
    let is_own = node.role == RoleKind::Leader && id.is_some_and(|id| id.term == node.term);
    require(is_own, Invariant::OwnTermCommit, || {
        format!(
            "{} commits {id:?} first, {:?} in term {}",
            node.id, node.role, node.term
        )
    })?;
    let holders = all
        .iter()
        .filter(|other| id.is_some_and(|id| other.durable.contains(&id)));
    let count = holders.count();
    require(2 * count > all.len(), Invariant::DurableOnQuorum, || {
        format!(
            "{} commits {id:?}, which is on {count} of {} disks",
            node.id,
            all.len()
        )
    })
}

/// I4.
fn check_completeness(leader: &Facts, past: &Past) -> Result<(), Violation> {
    if leader.role != RoleKind::Leader {
        return Ok(());
    }
    let before = past.committed.iter().filter(|(_, by)| *by < leader.term);
    for (committed, _) in before {
        let held = held(&leader.log, committed.index);
        require(held == Some(*committed), Invariant::LeaderCompleteness, || {
            format!(
                "{} leads term {} without committed {committed}: {held:?}",
                leader.id, leader.term
            )
        })?;
    }
    Ok(())
}

fn held(log: &[(EntryId, crate::digest::Digest)], index: Index) -> Option<EntryId> {
    let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
    log.get(place).map(|(id, _)| *id)
}
