//! Writing a state as etcd has it.
//!
//! The versions come in the order in which etcd files them, so nothing is sorted and little is held: what
//! waits is a page for each level of a tree.

use std::collections::BTreeMap;
use std::io::{self, Write};

use quorate_bbolt::{Plan, WriteError, Writer};
use quorate_kv::{AuthSwitch, BackupHead, Member, Revision, Version};
use serde::Serialize;
use tonic::Status;

use super::format::{
    ALARM, AUTH, AUTH_ENABLED, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, CLUSTER, CLUSTER_VERSION_KEY,
    CONSISTENT_INDEX, FINISHED_COMPACT, KEY, LEASE, LeaseMessage, MEMBERS, MEMBERS_REMOVED, META,
    SCHEDULED_COMPACT, TERM, alarm, revision_key, role, user, version_key, version_value,
};
use crate::CLUSTER_VERSION;

/// What a backup is made of, beside the versions.
pub(crate) struct Contents<'a> {
    /// All of the state but keys.
    pub(crate) head: &'a BackupHead,
    /// The members of the cluster it is of.
    pub(crate) members: &'a [Member],
    /// The index and the term of the last command that is in it.
    pub(crate) applied: (u64, u64),
}

/// Why there is no backup.
pub(crate) enum ExportError {
    /// The versions ended early.
    Source(Status),
    /// Nobody takes the bytes, or they cannot be written.
    Write(WriteError),
}

impl From<WriteError> for ExportError {
    fn from(error: WriteError) -> ExportError {
        ExportError::Write(error)
    }
}

/// Where versions come from: a batch at a time, an empty one at the end.
pub(crate) type Source<'a> = dyn FnMut() -> Result<Vec<Version>, Status> + 'a;

/// What the file will be.
pub(crate) fn measure(contents: &Contents<'_>, versions: &mut Source<'_>) -> Result<Plan, ExportError> {
    let mut writer = Writer::measure();
    put_all(&mut writer, contents, versions)?;
    Ok(writer.finish()?)
}

/// Writes the file that was measured.
pub(crate) fn write(
    out: impl Write,
    plan: Plan,
    contents: &Contents<'_>,
    versions: &mut Source<'_>,
) -> Result<(), ExportError> {
    let mut writer = Writer::new(out, plan)?;
    put_all(&mut writer, contents, versions)?;
    writer.finish()?;
    Ok(())
}

fn put_all<W: Write>(
    writer: &mut Writer<W>,
    contents: &Contents<'_>,
    versions: &mut Source<'_>,
) -> Result<(), ExportError> {
    put_versions(writer, contents.head, versions)?;
    put_leases(writer, contents.head)?;
    put_auth(writer, contents.head)?;
    put_members(writer, contents.members)?;
    put_meta(writer, contents)?;
    let alarms = contents.head.alarms.iter();
    let alarms = alarms.map(|raised| (alarm(*raised), Vec::new())).collect();
    Ok(put_sorted(writer, ALARM, alarms)?)
}

fn put_versions<W: Write>(
    writer: &mut Writer<W>,
    head: &BackupHead,
    versions: &mut Source<'_>,
) -> Result<(), ExportError> {
    writer.bucket(KEY)?;
    let mut last = head.compacted.max(Revision::FIRST);
    loop {
        let batch = versions().map_err(ExportError::Source)?;
        if batch.is_empty() {
            break;
        }
        for version in batch {
            last = last.max(version.revision);
            writer.put(&version_key(&version), &version_value(version))?;
        }
    }
    if head.revision > last {
        // Revisions were skipped. etcd goes on after the last one that it finds, whatever is there.
        writer.put(&revision_key(head.revision, 0), &[])?;
    }
    Ok(())
}

fn put_leases<W: Write>(writer: &mut Writer<W>, head: &BackupHead) -> Result<(), WriteError> {
    let entry = |(id, ttl): &(quorate_kv::LeaseId, i64)| {
        let message = LeaseMessage {
            id: id.0,
            ttl: *ttl,
            remaining_ttl: 0,
        };
        (
            id.0.to_be_bytes().to_vec(),
            prost::Message::encode_to_vec(&message),
        )
    };
    put_sorted(writer, LEASE, head.leases.iter().map(entry).collect())
}

fn put_auth<W: Write>(writer: &mut Writer<W>, head: &BackupHead) -> Result<(), WriteError> {
    let is_on = u8::from(head.auth.switch == AuthSwitch::On);
    writer.bucket(AUTH)?;
    writer.put(AUTH_ENABLED, &[is_on])?;
    writer.put(AUTH_REVISION, &head.auth.revision.0.to_be_bytes())?;
    let users = head.users.iter();
    let users = users.map(|entry| (entry.name.as_str().into(), user(entry)));
    put_sorted(writer, AUTH_USERS, users.collect())?;
    let roles = head.roles.iter();
    let roles = roles.map(|(name, permissions)| (name.as_str().into(), role(name, permissions)));
    put_sorted(writer, AUTH_ROLES, roles.collect())
}

/// A member in etcd's JSON.
#[derive(Serialize)]
struct MemberJson<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

fn put_members<W: Write>(writer: &mut Writer<W>, members: &[Member]) -> Result<(), WriteError> {
    let mut entries = BTreeMap::new();
    for member in members {
        let json = serde_json::to_vec(&MemberJson {
            id: member.id.0,
            peer_urls: &member.peer_urls,
            name: &member.name,
            client_urls: &member.client_urls,
        });
        entries.insert(
            member.id.to_string().into_bytes(),
            json.map_err(io::Error::other)?,
        );
    }
    put_sorted(writer, MEMBERS, entries)?;
    writer.bucket(MEMBERS_REMOVED)?;
    writer.bucket(CLUSTER)?;
    writer.put(CLUSTER_VERSION_KEY, CLUSTER_VERSION.as_bytes())
}

fn put_meta<W: Write>(writer: &mut Writer<W>, contents: &Contents<'_>) -> Result<(), WriteError> {
    let (index, term) = contents.applied;
    let compacted = contents.head.compacted;
    writer.bucket(META)?;
    writer.put(CONSISTENT_INDEX, &index.to_be_bytes())?;
    if compacted > Revision::NOTHING_COMPACTED {
        writer.put(FINISHED_COMPACT, &revision_key(compacted, 0))?;
        writer.put(SCHEDULED_COMPACT, &revision_key(compacted, 0))?;
    }
    writer.put(TERM, &term.to_be_bytes())
}

fn put_sorted<W: Write>(
    writer: &mut Writer<W>,
    bucket: &[u8],
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), WriteError> {
    writer.bucket(bucket)?;
    entries.iter().try_for_each(|(key, value)| writer.put(key, value))
}
