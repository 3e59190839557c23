//! Reading a state out of a backup.

use quorate_kv::{AuthRevision, AuthSwitch, Bump, Import, Imported, LeaseId};

use super::file::{Backup, BackupError};
use super::format::{
    ALARM, AUTH, AUTH_ENABLED, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, FINISHED_COMPACT, Filed, KEY, LEASE,
    LeaseMessage, META, SCHEDULED_COMPACT, Wrong, parse_alarm, parse_revision, parse_role, parse_user,
    parse_version,
};

/// The state that a backup is of, without its members.
pub(super) fn import(backup: &Backup, bump: Bump) -> Result<Imported, BackupError> {
    let mut import = Import::default();
    each(backup, KEY, |key, value| {
        match parse_version(key, value)? {
            Filed::Version(version) => import.add_version(&version),
            Filed::Revision(revision) => import.reach(revision),
        }
        .map_err(Problem::from)
    })?;
    each(backup, LEASE, |_, value| {
        let lease: LeaseMessage =
            prost::Message::decode(value).map_err(|_| Problem::from("it is no message of a lease"))?;
        Ok(import.add_lease(LeaseId(lease.id), lease.ttl)?)
    })?;
    each(backup, META, |key, value| match key {
        // What was to be compacted is: etcd would go on with it at its next start.
        SCHEDULED_COMPACT | FINISHED_COMPACT => {
            let (revision, _) = parse_revision(value)?;
            match revision.0 > 0 {
                true => Ok(import.compact(revision)?),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    })?;
    each(backup, ALARM, |key, _| {
        import.add_alarm(parse_alarm(key)?);
        Ok(())
    })?;
    add_auth(backup, &mut import)?;
    import.finish(bump).map_err(|what| backup.contradiction(what))
}

fn add_auth(backup: &Backup, import: &mut Import) -> Result<(), BackupError> {
    each(backup, AUTH, |key, value| {
        match (key, value) {
            (AUTH_ENABLED, [1]) => import.set_auth(AuthSwitch::On),
            (AUTH_ENABLED, [] | [0]) => import.set_auth(AuthSwitch::Off),
            (AUTH_ENABLED, _) => return Err(Problem::from("it is neither on nor off")),
            (AUTH_REVISION, value) => {
                let number = value.try_into().map_err(|_| "it is no number")?;
                import.set_auth_revision(AuthRevision(u64::from_be_bytes(number)));
            }
            _ => {}
        }
        Ok(())
    })?;
    each(backup, AUTH_USERS, |_, value| {
        import.add_user(parse_user(value)?);
        Ok(())
    })?;
    each(backup, AUTH_ROLES, |_, value| {
        let (name, permissions) = parse_role(value)?;
        import.add_role(name, permissions);
        Ok(())
    })
}

/// What is wrong with an entry, in words.
struct Problem(String);

impl From<Wrong> for Problem {
    fn from(what: Wrong) -> Problem {
        Problem(what.to_owned())
    }
}

impl From<quorate_kv::ImportError> for Problem {
    fn from(error: quorate_kv::ImportError) -> Problem {
        Problem(error.to_string())
    }
}

/// Every entry of a bucket, in the order of the keys. A bucket that is not there has none.
fn each(
    backup: &Backup,
    name: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Problem>,
) -> Result<(), BackupError> {
    let Some(bucket) = backup.found(backup.database.bucket(name))? else {
        return Ok(());
    };
    let mut entries = backup.found(backup.database.entries(&bucket))?;
    let mut number = 0;
    while let Some(entry) = backup.found(entries.next_entry())? {
        number += 1;
        let taken = take(entry.key, entry.value);
        taken.map_err(|Problem(what)| backup.wrong(name, number, entry.key, what))?;
    }
    Ok(())
}
