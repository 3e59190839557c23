//! What a call came to, in a form in which two servers can be compared.
//!
//! - Ids of members, clusters and picked leases are replaced by what they stand for.
//! - Numbers that tell of a server's insides (terms, log indexes, sizes) are replaced by whether they are
//!   there.
//! - Everything else stays as it came, and is printed field by field.

use std::fmt::Debug;

use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::mvccpb;
use tonic::Status;

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// A line for each field.
    pub(crate) text: String,
    /// The revision of its header.
    pub(crate) revision: Option<i64>,
}

impl Outcome {
    /// An answer, normalized.
    pub(crate) fn answer<T: Normalize + Debug>(mut response: T, ids: &Ids<'_>) -> Outcome {
        response.normalize(ids);
        Outcome {
            revision: response.header().map(|header| header.revision),
            text: format!("{response:#?}"),
        }
    }

    /// A refusal.
    pub(crate) fn refusal(status: &Status) -> Outcome {
        Outcome {
            text: format!("{:?}: {:?}", status.code(), status.message()),
            revision: None,
        }
    }

    /// The outcome of several requests in a row.
    pub(crate) fn all(parts: Vec<Outcome>) -> Outcome {
        Outcome {
            revision: parts.iter().filter_map(|part| part.revision).max(),
            text: parts.into_iter().map(|part| part.text + "\n").collect(),
        }
    }

    /// Something that is no response.
    pub(crate) fn note(text: impl Into<String>) -> Outcome {
        Outcome {
            text: text.into(),
            revision: None,
        }
    }

    /// Whether it is an answer, and no refusal.
    pub(crate) fn is_answer(&self) -> bool {
        // Refusals are told on one line, answers field by field.
        self.text.contains('\n')
    }

    /// Whether it is a refusal with this message.
    pub(crate) fn is_refused_with(&self, message: &str) -> bool {
        self.text.ends_with(&format!(": {message:?}"))
    }
}

/// The ids of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids<'a> {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
    /// The ids that this server picked for leases, in order.
    pub(crate) leases: &'a [i64],
}

impl Ids<'_> {
    fn lease(&self, id: &mut i64) {
        if let Some(number) = self.leases.iter().position(|picked| picked == id) {
            *id = FIRST_PICKED + i64::try_from(number).unwrap_or(0);
        }
    }

    fn member(&self, id: &mut u64) {
        if *id == self.member {
            *id = ITSELF;
        }
    }

    fn key_value(&self, kv: &mut mvccpb::KeyValue) {
        self.lease(&mut kv.lease);
    }

    pub(crate) fn event(&self, event: &mut mvccpb::Event) {
        let kvs = event.kv.iter_mut().chain(&mut event.prev_kv);
        kvs.for_each(|kv| self.key_value(kv));
    }

    fn header(&self, header: &mut pb::ResponseHeader) {
        if header.cluster_id == self.cluster {
            header.cluster_id = ITSELF;
        }
        self.member(&mut header.member_id);
        header.raft_term = header.raft_term.min(1);
    }
}

/// A response that can be stripped of what tells one server from another.
pub(crate) trait Normalize {
    /// Its header.
    fn header(&self) -> Option<&pb::ResponseHeader>;

    /// Replaces ids and insides.
    fn normalize(&mut self, ids: &Ids<'_>);
}

/// Declares responses: those of which only the header is normalized, and what else there is for others.
macro_rules! normalize {
    ($($response:ident $(, |$this:ident, $ids:ident| $more:block)?;)*) => {
        $(impl Normalize for pb::$response {
            fn header(&self) -> Option<&pb::ResponseHeader> {
                self.header.as_ref()
            }

            fn normalize(&mut self, ids: &Ids<'_>) {
                self.header.iter_mut().for_each(|header| ids.header(header));
                $({
                    let ($this, $ids) = (self, ids);
                    $more
                })?
            }
        })*
    };
}

normalize! {
    RangeResponse, |it, ids| {
        it.kvs.iter_mut().for_each(|kv| ids.key_value(kv));
    };
    PutResponse, |it, ids| {
        it.prev_kv.iter_mut().for_each(|kv| ids.key_value(kv));
    };
    DeleteRangeResponse, |it, ids| {
        it.prev_kvs.iter_mut().for_each(|kv| ids.key_value(kv));
    };
    TxnResponse, |it, ids| {
        for op in &mut it.responses {
            match &mut op.response {
                Some(Response::ResponseRange(range)) => range.normalize(ids),
                Some(Response::ResponsePut(put)) => put.normalize(ids),
                Some(Response::ResponseDeleteRange(delete)) => delete.normalize(ids),
                Some(Response::ResponseTxn(txn)) => txn.normalize(ids),
                None => {}
            }
        }
    };
    CompactionResponse;
    WatchResponse, |it, ids| {
        it.events.iter_mut().for_each(|event| ids.event(event));
    };
    LeaseGrantResponse, |it, ids| {
        ids.lease(&mut it.id);
    };
    LeaseRevokeResponse;
    LeaseKeepAliveResponse, |it, ids| {
        ids.lease(&mut it.id);
    };
    LeaseTimeToLiveResponse, |it, ids| {
        ids.lease(&mut it.id);
        // How much time has passed is not the same for both.
        if (1..=SEQUENCE_SECS).contains(&it.granted_ttl.saturating_sub(it.ttl)) {
            it.ttl = it.granted_ttl;
        }
        // It is a set: the order is that of a hash.
        it.keys.sort_unstable();
    };
    LeaseLeasesResponse, |it, ids| {
        it.leases.iter_mut().for_each(|lease| ids.lease(&mut lease.id));
        // Two that end at nearly the same time may come in either order.
        it.leases.sort_unstable_by_key(|lease| lease.id);
    };
    MemberListResponse, |it, ids| {
        it.members.iter_mut().for_each(|member| normalize_member(member, ids));
    };
    MemberAddResponse;
    MemberRemoveResponse;
    MemberUpdateResponse;
    MemberPromoteResponse;
    StatusResponse, |it, ids| {
        it.version = String::new();
        // Only that what is in use is a part of the whole is left of the sizes.
        it.db_size_in_use = i64::from(it.db_size_in_use > it.db_size);
        it.db_size = 0;
        ids.member(&mut it.leader);
        it.raft_index = it.raft_index.min(1);
        it.raft_term = it.raft_term.min(1);
        it.raft_applied_index = it.raft_applied_index.min(1);
    };
    HashKvResponse, |it, _ids| {
        // The hash of what is stored, which need not be stored alike.
        it.hash = 0;
        it.hash_revision = 0;
    };
    DefragmentResponse;
    MoveLeaderResponse;
    AlarmResponse, |it, ids| {
        it.header = None;
        it.alarms.iter_mut().for_each(|alarm| ids.member(&mut alarm.member_id));
    };
    AuthStatusResponse;
    AuthDisableResponse;
    AuthenticateResponse, |it, _ids| {
        // A secret of the server's own.
        it.token.truncate(0);
    };
    AuthEnableResponse;
    AuthUserAddResponse;
    AuthUserDeleteResponse;
    AuthUserChangePasswordResponse;
    AuthUserGetResponse;
    AuthUserListResponse;
    AuthUserGrantRoleResponse;
    AuthUserRevokeRoleResponse;
    AuthRoleAddResponse;
    AuthRoleDeleteResponse;
    AuthRoleGetResponse, |it, _ids| {
        // It is a set; who begins at the same key comes in an order of the server's own.
        it.perm.sort_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
    };
    AuthRoleListResponse;
    AuthRoleGrantPermissionResponse;
    AuthRoleRevokePermissionResponse;
}

fn normalize_member(member: &mut pb::Member, ids: &Ids<'_>) {
    ids.member(&mut member.id);
    let urls = member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls);
    // Their ports differ.
    urls.for_each(|url| url.truncate("http://127.0.0.1".len()));
}

/// What stands for the id of a server's own cluster or member.
const ITSELF: u64 = 1;

/// What stands for the first id that a server picked for a lease.
const FIRST_PICKED: i64 = 1_000_000_000_000;

/// Longer than any sequence takes.
const SEQUENCE_SECS: i64 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: Ids<'_> = Ids {
        cluster: 10,
        member: 20,
        leases: &[700, 800],
    };

    fn range(member_id: u64, lease: i64) -> pb::RangeResponse {
        pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: 10,
                member_id,
                revision: 5,
                raft_term: 3,
            }),
            kvs: vec![mvccpb::KeyValue {
                lease,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn ids_become_what_they_stand_for() {
        let mut response = range(20, 800);
        response.normalize(&IDS);
        let header = response.header.unwrap();
        assert_eq!(
            (header.cluster_id, header.member_id, header.raft_term),
            (ITSELF, ITSELF, 1)
        );
        assert_eq!(response.kvs[0].lease, FIRST_PICKED + 1);
    }

    #[test]
    fn what_is_not_the_servers_own_stays() {
        let (own, other) = (
            Outcome::answer(range(20, 3), &IDS),
            Outcome::answer(range(21, 3), &IDS),
        );
        assert_ne!(own.text, other.text);
        assert!(own.text.contains("lease: 3"), "{}", own.text);
        assert_eq!(own.revision, Some(5));
    }

    #[test]
    fn a_refusal_is_known_by_its_message() {
        let outcome = Outcome::refusal(&Status::not_found("etcdserver: requested lease not found"));
        assert!(outcome.is_refused_with("etcdserver: requested lease not found"));
        assert!(!outcome.is_refused_with("lease not found"));
    }
}
