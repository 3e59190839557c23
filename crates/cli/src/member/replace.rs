//! A new node in the place of a dead one, followed until it votes.

use super::cluster::{Cluster, NewMember};
use super::show;
use crate::output;
use anyhow::{Context, bail};
use quorate_etcd_api::etcdserverpb::Member;
use std::time::{Duration, Instant};

/// What came of it.
pub(super) struct Replaced {
    pub(super) dead: u64,
    pub(super) new: u64,
    pub(super) took: Duration,
    pub(super) members: Vec<Member>,
}

/// Whoever answers is not dead.
///
/// # Errors
///
/// If it answers.
pub(super) async fn check_dead(cluster: &Cluster, dead: &Member) -> anyhow::Result<()> {
    if dead.client_ur_ls.is_empty() {
        return Ok(());
    }
    let asked = cluster.at_other(&dead.client_ur_ls)?;
    if let Ok(Ok(status)) = tokio::time::timeout(ALIVE, asked.status()).await
        && status.header.is_some_and(|header| header.member_id == dead.id)
    {
        bail!(
            "{} answers at {}, so it is not dead: stop it first, or give --force",
            dead.name,
            dead.client_ur_ls.join(",")
        );
    }
    Ok(())
}

/// Puts `new` in the place of `dead`, says how to start it, and waits until it votes. A replacement that was begun
/// before is followed on.
///
/// # Errors
///
/// If the change is refused, or nobody can say any more how far it is, or the user does not want to wait.
/// It then goes on all the same.
pub(super) async fn replace(cluster: &Cluster, dead: u64, new: &NewMember) -> anyhow::Result<Replaced> {
    let started = Instant::now();
    let members = cluster.members().await?;
    let url = new.peer_url.to_string();
    if let Some(member) = members.iter().find(|member| member.id == dead)
        && member.peer_ur_ls.contains(&url)
    {
        bail!(
            "the new node cannot be at {url} while the dead one is a member there. Give it another --peer-url, or take \
             two steps: quorate member remove {dead:016x}, then quorate member add --name {} --peer-url {url}",
            new.name
        );
    }
    let is_named = |member: &&Member| member.name == new.name && member.id != dead && !member.is_learner;
    if let Some(member) = members.iter().find(is_named) {
        bail!(
            "a member is called {} already, {:016x}: give another --name",
            new.name,
            member.id
        );
    }
    let is_it = |member: &&Member| member.is_learner && member.peer_ur_ls == [new.peer_url.to_string()];
    let (id, members) = match members.iter().find(is_it) {
        Some(begun) => (begun.id, members),
        None => {
            let added = cluster.add(new, Some(dead)).await?;
            let id = added
                .member
                .as_ref()
                .context("the answer names no new member")?
                .id;
            (id, added.members)
        }
    };
    output::complain(&format!(
        "start the new node with: {}",
        show::start_command(new, &members)
    ));
    let members = tokio::select! {
        members = follow(cluster, id, dead) => members?,
        _ = tokio::signal::ctrl_c() => bail!(
            "the change goes on, and {dead:016x} leaves once {id:016x} has caught up; to call it off: quorate member remove {id:016x}"
        ),
    };
    Ok(Replaced {
        dead,
        new: id,
        took: started.elapsed(),
        members,
    })
}

/// Waits until `new` votes and `dead` is no member, and tells of every step.
async fn follow(cluster: &Cluster, new: u64, dead: u64) -> anyhow::Result<Vec<Member>> {
    let mut told = String::new();
    let mut last_answer = Instant::now();
    loop {
        match cluster.members().await {
            Ok(members) => {
                last_answer = Instant::now();
                let member = members.iter().find(|member| member.id == new);
                let Some(member) = member else {
                    bail!("the new member was removed meanwhile");
                };
                if !member.is_learner && members.iter().all(|member| member.id != dead) {
                    return Ok(members);
                }
                let progress = progress(cluster, member).await;
                if progress != told {
                    output::complain(&progress);
                    told = progress;
                }
            }
            Err(error) if last_answer.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How far the new member is, in a line.
async fn progress(cluster: &Cluster, member: &Member) -> String {
    if !member.is_learner {
        return "the new node votes; the dead one is leaving".to_string();
    }
    let Ok(new) = cluster.at_other(&member.client_ur_ls) else {
        return WAITING.to_string();
    };
    match (new.status().await, cluster.status().await) {
        (Ok(new), Ok(cluster)) => format!(
            "the new node has applied {} of {} entries",
            new.raft_applied_index.min(cluster.raft_index),
            cluster.raft_index
        ),
        (Err(_), _) | (_, Err(_)) => WAITING.to_string(),
    }
}

const WAITING: &str = "waits for the new node to be started, and to catch up";
/// How long a dead member may take to show that it is not.
const ALIVE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);
/// How long the endpoints may be silent before the command gives up to tell of the change.
const PATIENCE: Duration = Duration::from_secs(60);
