//! What etcd's buckets hold, and how it writes that down. Both directions go through here.
//!
//! | bucket | key | value |
//! |---|---|---|
//! | `key` | a revision | `mvccpb.KeyValue`; with `t` after the revision, the key that was deleted |
//! | `lease` | id, 8 bytes, big-endian | `leasepb.Lease` |
//! | `meta` | `consistent_index`, `term` | 8 bytes, big-endian |
//! | | `scheduledCompactRev`, `finishedCompactRev` | a revision |
//! | `auth` | `authEnabled`, `authRevision` | 1 byte; 8 bytes, big-endian |
//! | `authUsers`, `authRoles` | name | `authpb.User`, `authpb.Role` |
//! | `alarm` | `etcdserverpb.AlarmMember` | nothing |
//! | `members`, `members_removed` | id, hexadecimal | JSON |
//! | `cluster` | `clusterVersion` | text |
//!
//! A revision is 17 bytes: main, `_`, sub; both numbers 8 bytes, big-endian.

use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::etcdserverpb::{AlarmMember, AlarmType};
use quorate_etcd_api::{authpb, mvccpb};
use quorate_kv::{
    Access, Alarm, AlarmKind, BackupUser, KeyRange, KeyValue, LeaseId, MemberId, PasswordHash, Permission,
    Revision, RoleName, UserName, Version, VersionContent,
};

use crate::translate;

pub(super) const ALARM: &[u8] = b"alarm";
pub(super) const AUTH: &[u8] = b"auth";
pub(super) const AUTH_ROLES: &[u8] = b"authRoles";
pub(super) const AUTH_USERS: &[u8] = b"authUsers";
pub(super) const CLUSTER: &[u8] = b"cluster";
pub(super) const KEY: &[u8] = b"key";
pub(super) const LEASE: &[u8] = b"lease";
pub(super) const MEMBERS: &[u8] = b"members";
pub(super) const MEMBERS_REMOVED: &[u8] = b"members_removed";
pub(super) const META: &[u8] = b"meta";

pub(super) const AUTH_ENABLED: &[u8] = b"authEnabled";
pub(super) const AUTH_REVISION: &[u8] = b"authRevision";
pub(super) const CLUSTER_VERSION_KEY: &[u8] = b"clusterVersion";
pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(super) const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
pub(super) const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub(super) const TERM: &[u8] = b"term";

/// What is wrong with an entry of a bucket.
pub(super) type Wrong = &'static str;

/// etcd's `leasepb.Lease`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseMessage {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(int64, tag = "2")]
    pub(super) ttl: i64,
    /// What is left of it, if etcd was told to write that down.
    #[prost(int64, tag = "3")]
    pub(super) remaining_ttl: i64,
}

/// The key under which a version is filed.
pub(super) fn version_key(version: &Version) -> Vec<u8> {
    let mut key = revision_key(version.revision, version.sub).to_vec();
    if matches!(version.content, VersionContent::Deleted(_)) {
        key.push(TOMBSTONE);
    }
    key
}

/// What is filed there.
pub(super) fn version_value(version: Version) -> Vec<u8> {
    let message = match version.content {
        VersionContent::Put(kv) => mvccpb::KeyValue {
            key: kv.key,
            create_revision: kv.create_revision.0,
            mod_revision: kv.mod_revision.0,
            version: kv.version,
            value: kv.value,
            lease: kv.lease.map_or(0, |lease| lease.0),
        },
        VersionContent::Deleted(key) => mvccpb::KeyValue {
            key,
            ..Default::default()
        },
    };
    message.encode_to_vec()
}

/// A revision as the key of something.
pub(super) fn revision_key(main: Revision, sub: u32) -> [u8; REVISION_BYTES] {
    let mut key = [b'_'; REVISION_BYTES];
    key[..8].copy_from_slice(&main.0.to_be_bytes());
    key[9..].copy_from_slice(&i64::from(sub).to_be_bytes());
    key
}

/// Reads a revision; what is left of the bytes is not looked at.
pub(super) fn parse_revision(bytes: &[u8]) -> Result<(Revision, u32), Wrong> {
    let parts = bytes
        .first_chunk::<8>()
        .zip(bytes.get(9..).and_then(|rest| rest.first_chunk::<8>()));
    let (main, sub) = parts
        .filter(|_| bytes[8] == b'_')
        .ok_or("its key is no revision")?;
    let sub = u32::try_from(i64::from_be_bytes(*sub)).map_err(|_| "there can be no such revision")?;
    Ok((Revision(i64::from_be_bytes(*main)), sub))
}

/// What is filed under a key of the bucket of keys.
pub(super) enum Filed {
    /// A version of a key.
    Version(Version),
    /// Nothing: that there was this revision is all it says.
    Revision(Revision),
}

/// Reads an entry of the bucket of keys.
pub(super) fn parse_version(key: &[u8], value: &[u8]) -> Result<Filed, Wrong> {
    let (revision, sub) = parse_revision(key)?;
    let is_tombstone = match &key[REVISION_BYTES..] {
        [] => false,
        [TOMBSTONE] => true,
        _ => return Err("its key is no revision"),
    };
    let message = mvccpb::KeyValue::decode(value).map_err(|_| "it is no message of a key")?;
    if message.key.is_empty() && !is_tombstone {
        return Ok(Filed::Revision(revision));
    }
    let content = match is_tombstone {
        true => VersionContent::Deleted(message.key),
        false => VersionContent::Put(KeyValue {
            key: message.key,
            value: message.value,
            create_revision: Revision(message.create_revision),
            mod_revision: Revision(message.mod_revision),
            version: message.version,
            lease: LeaseId::from_wire(message.lease),
        }),
    };
    Ok(Filed::Version(Version {
        revision,
        sub,
        content,
    }))
}

/// A user as etcd has it.
pub(super) fn user(user: &BackupUser) -> Vec<u8> {
    let message = authpb::User {
        name: Bytes::copy_from_slice(user.name.as_str().as_bytes()),
        password: user.password.as_ref().map_or(Bytes::new(), |hash| {
            Bytes::copy_from_slice(hash.expose().as_bytes())
        }),
        roles: user.roles.iter().map(ToString::to_string).collect(),
        options: Some(authpb::UserAddOptions {
            no_password: user.password.is_none(),
        }),
    };
    message.encode_to_vec()
}

/// Reads a user.
pub(super) fn parse_user(value: &[u8]) -> Result<BackupUser, Wrong> {
    let message = authpb::User::decode(value).map_err(|_| "it is no message of a user")?;
    let no_password = message.options.is_some_and(|options| options.no_password);
    let password = match no_password || message.password.is_empty() {
        true => None,
        false => Some(PasswordHash::new(text(&message.password)?)),
    };
    let roles = message.roles.into_iter().map(RoleName::parse);
    Ok(BackupUser {
        name: UserName::parse(text(&message.name)?).map_err(|_| "it has no name")?,
        password,
        roles: roles
            .collect::<Result<_, _>>()
            .map_err(|_| "a role has no name")?,
    })
}

/// A role as etcd has it.
pub(super) fn role(name: &RoleName, permissions: &[Permission]) -> Vec<u8> {
    let message = authpb::Role {
        name: Bytes::copy_from_slice(name.as_str().as_bytes()),
        key_permission: permissions.iter().map(translate::permission_response).collect(),
    };
    message.encode_to_vec()
}

/// Reads a role.
pub(super) fn parse_role(value: &[u8]) -> Result<(RoleName, Vec<Permission>), Wrong> {
    let message = authpb::Role::decode(value).map_err(|_| "it is no message of a role")?;
    let name = RoleName::parse(text(&message.name)?).map_err(|_| "it has no name")?;
    let permissions = message.key_permission.into_iter().map(parse_permission);
    Ok((name, permissions.collect::<Result<_, _>>()?))
}

/// etcd takes the empty key for the least one where there is a range.
fn parse_permission(message: authpb::Permission) -> Result<Permission, Wrong> {
    let access = match authpb::permission::Type::try_from(message.perm_type) {
        Ok(authpb::permission::Type::Read) => Access::Read,
        Ok(authpb::permission::Type::Write) => Access::Write,
        Ok(authpb::permission::Type::Readwrite) => Access::ReadWrite,
        Err(_) => return Err("a permission is of an unknown kind"),
    };
    let key = match message.key.is_empty() && !message.range_end.is_empty() {
        true => Bytes::from_static(b"\0"),
        false => message.key,
    };
    let keys = KeyRange::parse(key, message.range_end).map_err(|_| "a permission is for no key")?;
    Ok(Permission { access, keys })
}

/// An alarm as etcd has it: all of it is in the key.
pub(super) fn alarm(alarm: Alarm) -> Vec<u8> {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    };
    let message = AlarmMember {
        member_id: alarm.member.0,
        alarm: kind.into(),
    };
    message.encode_to_vec()
}

/// Reads an alarm.
pub(super) fn parse_alarm(key: &[u8]) -> Result<Alarm, Wrong> {
    let message = AlarmMember::decode(key).map_err(|_| "it is no message of an alarm")?;
    let kind = match AlarmType::try_from(message.alarm) {
        Ok(AlarmType::Nospace) => AlarmKind::NoSpace,
        Ok(AlarmType::Corrupt) => AlarmKind::Corrupt,
        Ok(AlarmType::None) | Err(_) => return Err("it is an alarm of an unknown kind"),
    };
    Ok(Alarm {
        member: MemberId(message.member_id),
        kind,
    })
}

fn text(bytes: &[u8]) -> Result<String, Wrong> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name or a password is no text")
}

/// Bytes of a revision that is a key.
pub(super) const REVISION_BYTES: usize = 17;
const TOMBSTONE: u8 = b't';
