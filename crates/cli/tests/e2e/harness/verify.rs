//! The judgement over a cluster and the record of a workload.

use super::client::{Client, Consistency};
use super::eventually;
use super::workload::{Record, Written, log_key, number, register};
use anyhow::{Context, ensure};
use quorate_etcd_api::mvccpb::KeyValue;
use std::collections::BTreeMap;

/// What all nodes have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The revision of the store.
    pub(crate) revision: i64,
    /// Every key with its value, version and revisions.
    pub(crate) all: Vec<KeyValue>,
    /// The nodes' own hash of their history.
    pub(crate) history_hash: u32,
}

impl State {
    /// A hash of every key with its value, version and revisions.
    pub(crate) fn hash(&self) -> u32 {
        self.all.iter().fold(0, |hash, kv| {
            crc32c::crc32c_append(hash, format!("{kv:?}").as_bytes())
        })
    }
}

/// Waits until all nodes are at one revision, and checks that they hold the same. Nobody may write
/// at this time.
///
/// # Errors
///
/// If they do not get there, or differ.
pub(crate) async fn agreement(clients: &[Client]) -> anyhow::Result<State> {
    let revision = eventually("one revision on all nodes", || common_revision(clients)).await?;
    let mut states = Vec::new();
    for client in clients {
        let all = client.everything(revision).await?;
        states.push(State {
            revision,
            all,
            history_hash: client.hash(revision).await?,
        });
    }
    let first = states.first().context("there are no nodes to ask")?.clone();
    for (place, state) in states.iter().enumerate() {
        ensure!(
            state.all == first.all,
            "node {place} differs at revision {revision}: {}",
            difference(state, &first)
        );
        ensure!(
            state.history_hash == first.history_hash,
            "the history of node {place} differs at {revision}"
        );
    }
    Ok(first)
}

/// Checks the record of a workload against what the cluster holds at the end.
///
/// # Errors
///
/// If an acknowledged write is missing or changed, if a write was applied twice or in part, or if
/// the workload itself saw a violation.
pub(crate) fn check_record(record: &Record, state: &State) -> anyhow::Result<()> {
    ensure!(
        record.violations.is_empty(),
        "violations were seen: {:#?}",
        record.violations
    );
    let found: BTreeMap<&[u8], &KeyValue> = state.all.iter().map(|kv| (kv.key.as_ref(), kv)).collect();
    for (writer, written) in record.writers.iter().enumerate() {
        check_acknowledged(writer, written, &found)?;
        check_register(writer, written, &found)?;
    }
    Ok(())
}

/// Every acknowledged write is there, at the revision that was acknowledged.
fn check_acknowledged(
    writer: usize,
    written: &Written,
    found: &BTreeMap<&[u8], &KeyValue>,
) -> anyhow::Result<()> {
    for (count, revision) in &written.acknowledged {
        let key = log_key(writer, *count);
        let kv = found
            .get(key.as_bytes())
            .with_context(|| format!("acknowledged write {key} is lost"))?;
        ensure!(
            kv.mod_revision == *revision,
            "{key} was acknowledged at {revision}, is at {}",
            kv.mod_revision
        );
        ensure!(kv.value == number(*count), "{key} holds {:?}", kv.value);
    }
    Ok(())
}

/// The register holds the last write that was carried out, and changed once for each of them.
fn check_register(
    writer: usize,
    written: &Written,
    found: &BTreeMap<&[u8], &KeyValue>,
) -> anyhow::Result<()> {
    let name = register(writer);
    let kv = found
        .get(name.as_bytes())
        .with_context(|| format!("{name} is lost"))?;
    let (first, last) = (log_key(writer, 0), log_key(writer, u64::MAX));
    let writes: Vec<_> = found.range(first.as_bytes()..=last.as_bytes()).collect();
    let changes = i64::try_from(writes.len())?;
    ensure!(
        kv.version == changes + 1,
        "{name} changed {} times for {changes} writes",
        kv.version - 1
    );
    ensure!(
        changes <= i64::try_from(written.attempted)?,
        "{name}: {changes} writes, {} attempts",
        written.attempted
    );
    let value = writes.last().map_or(number(0).into(), |(_, kv)| kv.value.clone());
    ensure!(
        kv.value == value,
        "{name} holds {:?}, its last write was {value:?}",
        kv.value
    );
    Ok(())
}

async fn common_revision(clients: &[Client]) -> anyhow::Result<i64> {
    let mut revisions = Vec::new();
    for client in clients {
        revisions.push(client.revision(Consistency::Serializable).await?);
    }
    let newest = clients
        .first()
        .context("there are no nodes to ask")?
        .revision(Consistency::Linearizable)
        .await?;
    ensure!(
        revisions.iter().all(|revision| *revision == newest),
        "revisions {revisions:?} of {newest}"
    );
    Ok(newest)
}

/// The first key that two nodes hold differently.
fn difference(one: &State, other: &State) -> String {
    let pair = one.all.iter().zip(&other.all).find(|(one, other)| one != other);
    match pair {
        Some((one, other)) => format!("{one:?} against {other:?}"),
        None => format!("{} keys against {}", one.all.len(), other.all.len()),
    }
}
