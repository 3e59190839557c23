//! What each call asks of a server, and what it came to.

use anyhow::Result;
use futures::stream;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use tonic::{Response, Status};

use crate::call::{Call, Delete, Keys, LeaseRef, MemberRef, Op, Put, Range, Rev, Txn, Value};
use crate::outcome::Outcome;
use crate::subject::{State, Subject};

/// The outcome of one request of a client of a subject.
macro_rules! ask {
    ($subject:ident.$client:ident.$method:ident, $request:expr) => {{
        let request = $request;
        let response = $subject.$client.$method(request).await;
        $subject.outcome(response)
    }};
}

pub(crate) use ask;

impl Subject {
    /// Makes a call.
    pub(crate) async fn call(&mut self, call: &Call, state: State) -> Result<Outcome> {
        let env = self.env(state);
        Ok(match call {
            Call::Range(range) => ask!(self.kv.range, env.range(range)),
            Call::Put(put) => ask!(self.kv.put, env.put(put)),
            Call::Delete(delete) => ask!(self.kv.delete_range, env.delete(delete)),
            Call::Txn(txn) => ask!(self.kv.txn, env.txn(txn)),
            Call::Compact { revision, physical } => {
                let (revision, physical) = (env.revision(*revision), *physical);
                ask!(self.kv.compact, pb::CompactionRequest { revision, physical })
            }
            Call::Grant { id, ttl } => self.grant(*id, *ttl).await,
            Call::GrantBriefly { ttl } => self.grant_briefly(*ttl).await,
            Call::Revoke(lease) => {
                let id = env.lease(*lease);
                ask!(self.lease.lease_revoke, pb::LeaseRevokeRequest { id })
            }
            Call::KeepAlive(lease) => self.keep_alive(env.lease(*lease)).await,
            Call::TimeToLive { lease, keys } => {
                let (id, keys) = (env.lease(*lease), *keys);
                ask!(
                    self.lease.lease_time_to_live,
                    pb::LeaseTimeToLiveRequest { id, keys }
                )
            }
            Call::Leases => ask!(self.lease.lease_leases, pb::LeaseLeasesRequest {}),
            Call::Watch(watch) => {
                let request = env.watch(watch);
                self.create_watch(watch.stream, request).await?
            }
            Call::CancelWatch { stream, id } => self.cancel_watch(*stream, *id).await?,
            Call::Progress(stream) => self.progress(*stream).await?,
            Call::MemberList { .. }
            | Call::MemberAdd { .. }
            | Call::MemberRemove(_)
            | Call::MemberUpdate { .. }
            | Call::MemberPromote(_) => self.call_cluster(call, state).await,
            Call::Status => ask!(self.maintenance.status, pb::StatusRequest {}),
            Call::HashKv(revision) => self.hash_twice(env.revision(*revision)).await,
            Call::Defragment => ask!(self.maintenance.defragment, pb::DefragmentRequest {}),
            Call::MoveLeader(target) => {
                let target_id = env.member(*target);
                ask!(self.maintenance.move_leader, pb::MoveLeaderRequest { target_id })
            }
            Call::Alarms { kind } => self.alarm(AlarmAction::Get, *kind, 0).await,
            Call::Alarmed { kind, member } => self.alarmed(*kind, *member, state).await?,
            Call::AuthStatus => ask!(self.auth.auth_status, pb::AuthStatusRequest {}),
            Call::AuthDisable => ask!(self.auth.auth_disable, pb::AuthDisableRequest {}),
            Call::Authenticate { name, password } => {
                let (name, password) = (name.clone(), password.clone());
                ask!(self.auth.authenticate, pb::AuthenticateRequest { name, password })
            }
            Call::Auth(call) => self.call_auth(call).await?,
        })
    }

    async fn call_cluster(&mut self, call: &Call, state: State) -> Outcome {
        let env = self.env(state);
        if let Call::MemberList { linearizable } = call {
            let linearizable = *linearizable;
            return ask!(self.cluster.member_list, pb::MemberListRequest { linearizable });
        }
        if let Call::MemberAdd { urls } = call {
            let (peer_ur_ls, is_learner) = (urls.clone(), false);
            return ask!(
                self.cluster.member_add,
                pb::MemberAddRequest {
                    peer_ur_ls,
                    is_learner
                }
            );
        }
        if let Call::MemberRemove(id) = call {
            return ask!(self.cluster.member_remove, pb::MemberRemoveRequest { id: *id });
        }
        if let Call::MemberUpdate { member, urls } = call {
            let (id, peer_ur_ls) = (env.member(*member), urls.clone());
            return ask!(
                self.cluster.member_update,
                pb::MemberUpdateRequest { id, peer_ur_ls }
            );
        }
        if let Call::MemberPromote(member) = call {
            let id = env.member(*member);
            return ask!(self.cluster.member_promote, pb::MemberPromoteRequest { id });
        }
        Outcome::note(format!("no call of the cluster: {call:?}"))
    }

    async fn grant(&mut self, id: i64, ttl: i64) -> Outcome {
        let response = self.lease.lease_grant(pb::LeaseGrantRequest { ttl, id }).await;
        if let (0, Ok(response)) = (id, &response) {
            self.picked.push(response.get_ref().id);
        }
        self.outcome(response)
    }

    async fn grant_briefly(&mut self, ttl: i64) -> Outcome {
        let granted = self.grant(BRIEF_LEASE, ttl).await;
        let request = pb::LeaseTimeToLiveRequest {
            id: BRIEF_LEASE,
            keys: true,
        };
        let looked_at = self.lease.lease_time_to_live(request).await;
        let looked_at = self.outcome(looked_at);
        let revoked = self
            .lease
            .lease_revoke(pb::LeaseRevokeRequest { id: BRIEF_LEASE })
            .await;
        Outcome::all(vec![granted, looked_at, self.outcome(revoked)])
    }

    async fn keep_alive(&mut self, id: i64) -> Outcome {
        let request = pb::LeaseKeepAliveRequest { id };
        let answers = self.lease.lease_keep_alive(stream::iter([request])).await;
        let first = match answers {
            Ok(answers) => answers.into_inner().message().await,
            Err(status) => Err(status),
        };
        match first {
            Ok(Some(response)) => Outcome::answer(response, &self.ids()),
            Ok(None) => Outcome::note("the stream ended without an answer"),
            Err(status) => Outcome::refusal(&status),
        }
    }

    /// A hash need not be the other server's, but it must be the same when it is asked for again.
    async fn hash_twice(&mut self, revision: i64) -> Outcome {
        let request = pb::HashKvRequest { revision };
        let first = self.maintenance.hash_kv(request).await;
        let again = self.maintenance.hash_kv(request).await;
        let hash = |response: &Result<Response<pb::HashKvResponse>, Status>| {
            response.as_ref().ok().map(|response| response.get_ref().hash)
        };
        if hash(&first) != hash(&again) {
            let (first, again) = (hash(&first), hash(&again));
            return Outcome::note(format!("the hash was {first:?}, and then {again:?}"));
        }
        self.outcome(first)
    }

    async fn alarm(&mut self, action: AlarmAction, alarm: i32, member_id: u64) -> Outcome {
        let request = pb::AlarmRequest {
            action: action.into(),
            member_id,
            alarm,
        };
        let response = self.maintenance.alarm(request).await;
        self.outcome(response)
    }

    async fn alarmed(&mut self, kind: i32, member: MemberRef, state: State) -> Result<Outcome> {
        let member = self.env(state).member(member);
        let mut parts = vec![
            self.alarm(AlarmAction::Activate, kind, member).await,
            self.alarm(AlarmAction::Get, 0, 0).await,
        ];
        for call in forbidden_or_allowed() {
            parts.push(Box::pin(self.call(&call, state)).await?);
        }
        let status = self.maintenance.status(pb::StatusRequest {}).await;
        // It names the member by its id, in the text.
        let errors = status.map(|status| status.into_inner().errors.len());
        parts.push(Outcome::note(format!("errors in the status: {:?}", errors.ok())));
        parts.push(self.alarm(AlarmAction::Deactivate, kind, member).await);
        let revoke = Call::Revoke(LeaseRef::Id(BRIEF_LEASE));
        parts.push(Box::pin(self.call(&revoke, state)).await?);
        Ok(Outcome::all(parts))
    }
}

/// What is tried under an alarm: puts, transactions that put or only delete, a read, a deletion, a
/// compaction, and the life of a lease.
fn forbidden_or_allowed() -> Vec<Call> {
    let keys = || Keys {
        key: "c".into(),
        range_end: "".into(),
    };
    let put = || Put {
        key: "c".into(),
        value: Value::Text("1".into()),
        lease: LeaseRef::Id(0),
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    let delete = || Delete {
        keys: keys(),
        prev_kv: true,
    };
    let range = || Range {
        keys: keys(),
        limit: 0,
        revision: Rev::Exactly(0),
        sort_order: 0,
        sort_target: 0,
        serializable: false,
        keys_only: false,
        count_only: false,
        min_mod: Rev::Exactly(0),
        max_mod: Rev::Exactly(0),
        min_create: Rev::Exactly(0),
        max_create: Rev::Exactly(0),
    };
    let txn = |success, failure| Txn {
        compares: Vec::new(),
        success,
        failure,
    };
    vec![
        Call::Put(put()),
        Call::Txn(txn(vec![Op::Put(put())], vec![])),
        Call::Txn(txn(vec![], vec![Op::Put(put())])),
        Call::Txn(txn(vec![Op::Delete(delete())], vec![])),
        Call::Txn(txn(vec![Op::Range(range())], vec![])),
        Call::Txn(txn(
            vec![Op::Txn(txn(vec![Op::Delete(delete())], vec![]))],
            vec![],
        )),
        Call::Range(range()),
        Call::Delete(delete()),
        Call::Compact {
            revision: Rev::Current(1000),
            physical: false,
        },
        Call::Grant {
            id: BRIEF_LEASE,
            ttl: 600,
        },
        Call::KeepAlive(LeaseRef::Id(BRIEF_LEASE)),
        Call::Revoke(LeaseRef::Id(BRIEF_LEASE)),
    ]
}

/// A lease that lives within one call.
const BRIEF_LEASE: i64 = 4242;
