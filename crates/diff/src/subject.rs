//! One of the two servers: its clients, its ids, and how each call is made of it.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::call::{Call, LeaseRef, MemberRef, Rev, Stream};
use crate::outcome::{Ids, Normalize, Outcome};
use crate::watches::{Answer, WatchStream};
use crate::wire::Env;

/// The revisions that both servers have reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) current: i64,
    pub(crate) compacted: i64,
}

/// One server.
pub(crate) struct Subject {
    channel: Channel,
    pub(crate) kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    auth: AuthClient<Channel>,
    pub(crate) streams: [WatchStream; 2],
    cluster_id: u64,
    member_id: u64,
    picked: Vec<i64>,
    /// As the server tells it.
    pub(crate) version: String,
}

impl Subject {
    /// Connects to a server as soon as it serves.
    pub(crate) async fn connect(endpoint: &str) -> Result<Subject> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?
            .connect_timeout(Duration::from_secs(2))
            .timeout(PATIENCE)
            .tcp_nodelay(true)
            .connect_lazy();
        let mut maintenance = MaintenanceClient::new(channel.clone());
        let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        wait_until_it_serves(&mut kv)
            .await
            .with_context(|| format!("{endpoint} does not serve"))?;
        let status = maintenance.status(pb::StatusRequest {}).await?.into_inner();
        let header = status.header.unwrap_or_default();
        Ok(Subject {
            kv,
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            auth: AuthClient::new(channel.clone()),
            maintenance,
            streams: [
                WatchStream::open(channel.clone()).await?,
                WatchStream::open(channel.clone()).await?,
            ],
            channel,
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            picked: Vec::new(),
            version: status.version,
        })
    }

    /// Makes a call.
    pub(crate) async fn call(&mut self, call: &Call, state: State) -> Result<Outcome> {
        Ok(match call {
            Call::Range(_) | Call::Put(_) | Call::Delete(_) | Call::Txn(_) | Call::Compact { .. } => {
                self.call_kv(call, state).await
            }
            Call::Grant { id, ttl } => self.grant(*id, *ttl).await,
            Call::GrantBriefly { ttl } => self.grant_briefly(*ttl).await,
            Call::Revoke(lease) => self.revoke(*lease, state).await,
            Call::KeepAlive(lease) => self.keep_alive(*lease, state).await,
            Call::TimeToLive { lease, keys } => {
                let (id, keys) = (self.env(state).lease(*lease), *keys);
                let request = pb::LeaseTimeToLiveRequest { id, keys };
                let response = self.lease.lease_time_to_live(request).await;
                self.outcome(response)
            }
            Call::Leases => {
                let response = self.lease.lease_leases(pb::LeaseLeasesRequest {}).await;
                self.outcome(response)
            }
            Call::Watch(watch) => {
                let request = self.env(state).watch(watch);
                self.create_watch(watch.stream, request).await?
            }
            Call::CancelWatch { stream, id } => self.cancel_watch(*stream, *id).await?,
            Call::Progress(stream) => self.progress(*stream).await?,
            Call::MemberList { .. }
            | Call::MemberAdd { .. }
            | Call::MemberRemove(_)
            | Call::MemberUpdate { .. }
            | Call::MemberPromote(_) => self.call_cluster(call, state).await,
            Call::Status | Call::HashKv(_) | Call::Defragment | Call::MoveLeader(_) | Call::Alarms { .. } => {
                self.call_maintenance(call, state).await
            }
            Call::Alarmed { kind, member } => self.alarmed(*kind, *member, state).await,
            Call::AuthStatus => {
                let response = self.auth.auth_status(pb::AuthStatusRequest {}).await;
                self.outcome(response)
            }
            Call::AuthDisable => {
                let response = self.auth.auth_disable(pb::AuthDisableRequest {}).await;
                self.outcome(response)
            }
            Call::Authenticate { name, password } => {
                let (name, password) = (name.clone(), password.clone());
                let response = self
                    .auth
                    .authenticate(pb::AuthenticateRequest { name, password })
                    .await;
                self.outcome(response)
            }
        })
    }

    /// Closes a watch stream and opens it anew.
    pub(crate) async fn reopen(&mut self, place: usize) -> Result<()> {
        self.streams[place] = WatchStream::open(self.channel.clone()).await?;
        Ok(())
    }

    /// What replaces this server's ids.
    pub(crate) fn ids(&self) -> Ids<'_> {
        Ids {
            cluster: self.cluster_id,
            member: self.member_id,
            leases: &self.picked,
        }
    }

    /// This server's watch streams, and what replaces its ids.
    pub(crate) fn streams(&mut self) -> (&mut [WatchStream; 2], Ids<'_>) {
        let ids = Ids {
            cluster: self.cluster_id,
            member: self.member_id,
            leases: &self.picked,
        };
        (&mut self.streams, ids)
    }

    fn env(&self, state: State) -> Env<'_> {
        Env {
            current: state.current,
            compacted: state.compacted,
            picked: &self.picked,
            member: self.member_id,
        }
    }

    fn outcome<T: Normalize + std::fmt::Debug>(&self, response: Result<Response<T>, Status>) -> Outcome {
        match response {
            Ok(response) => Outcome::answer(response.into_inner(), &self.ids()),
            Err(status) => Outcome::refusal(&status),
        }
    }

    async fn call_kv(&mut self, call: &Call, state: State) -> Outcome {
        let env = self.env(state);
        match call {
            Call::Range(range) => {
                let request = env.range(range);
                let response = self.kv.range(request).await;
                self.outcome(response)
            }
            Call::Put(put) => {
                let request = env.put(put);
                let response = self.kv.put(request).await;
                self.outcome(response)
            }
            Call::Delete(delete) => {
                let request = env.delete(delete);
                let response = self.kv.delete_range(request).await;
                self.outcome(response)
            }
            Call::Txn(txn) => {
                let request = env.txn(txn);
                let response = self.kv.txn(request).await;
                self.outcome(response)
            }
            Call::Compact { revision, physical } => {
                let (revision, physical) = (env.revision(*revision), *physical);
                let response = self
                    .kv
                    .compact(pb::CompactionRequest { revision, physical })
                    .await;
                self.outcome(response)
            }
            _ => not_of_this_service(call),
        }
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

    async fn revoke(&mut self, lease: LeaseRef, state: State) -> Outcome {
        let id = self.env(state).lease(lease);
        let response = self.lease.lease_revoke(pb::LeaseRevokeRequest { id }).await;
        self.outcome(response)
    }

    async fn keep_alive(&mut self, lease: LeaseRef, state: State) -> Outcome {
        let id = self.env(state).lease(lease);
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

    /// Creates a watcher, and waits for the answer.
    pub(crate) async fn create_watch(
        &mut self,
        stream: Stream,
        request: pb::WatchCreateRequest,
    ) -> Result<Outcome> {
        let (streams, ids) = self.streams();
        let stream = &mut streams[stream as usize];
        stream.send(RequestUnion::CreateRequest(request)).await?;
        let answer = stream
            .answer(&ids, |answer| matches!(answer, Answer::Created(_)))
            .await?;
        Ok(answer_outcome(answer, &ids))
    }

    /// Cancels a watcher, and waits for the answer if there will be one.
    async fn cancel_watch(&mut self, stream: Stream, id: i64) -> Result<Outcome> {
        let (streams, ids) = self.streams();
        let stream = &mut streams[stream as usize];
        let request = pb::WatchCancelRequest { watch_id: id };
        stream.send(RequestUnion::CancelRequest(request)).await?;
        if !stream.is_watching(id) {
            return Ok(Outcome::note("nothing was canceled"));
        }
        let canceled = |answer: &Answer| matches!(answer, Answer::Canceled(canceled) if *canceled == id);
        let answer = stream.answer(&ids, canceled).await?;
        Ok(answer_outcome(answer, &ids))
    }

    async fn progress(&mut self, stream: Stream) -> Result<Outcome> {
        let (streams, ids) = self.streams();
        let stream = &mut streams[stream as usize];
        let request = pb::WatchProgressRequest {};
        stream.send(RequestUnion::ProgressRequest(request)).await?;
        let answer = stream
            .answer(&ids, |answer| matches!(answer, Answer::Progress(_)))
            .await?;
        Ok(answer_outcome(answer, &ids))
    }

    async fn call_cluster(&mut self, call: &Call, state: State) -> Outcome {
        let env = self.env(state);
        match call {
            Call::MemberList { linearizable } => {
                let linearizable = *linearizable;
                let response = self
                    .cluster
                    .member_list(pb::MemberListRequest { linearizable })
                    .await;
                self.outcome(response)
            }
            Call::MemberAdd { urls } => {
                let request = pb::MemberAddRequest {
                    peer_ur_ls: urls.clone(),
                    is_learner: false,
                };
                let response = self.cluster.member_add(request).await;
                self.outcome(response)
            }
            Call::MemberRemove(id) => {
                let response = self
                    .cluster
                    .member_remove(pb::MemberRemoveRequest { id: *id })
                    .await;
                self.outcome(response)
            }
            Call::MemberUpdate { member, urls } => {
                let request = pb::MemberUpdateRequest {
                    id: env.member(*member),
                    peer_ur_ls: urls.clone(),
                };
                let response = self.cluster.member_update(request).await;
                self.outcome(response)
            }
            Call::MemberPromote(member) => {
                let id = env.member(*member);
                let response = self.cluster.member_promote(pb::MemberPromoteRequest { id }).await;
                self.outcome(response)
            }
            _ => not_of_this_service(call),
        }
    }

    async fn call_maintenance(&mut self, call: &Call, state: State) -> Outcome {
        let env = self.env(state);
        match call {
            Call::Status => {
                let response = self.maintenance.status(pb::StatusRequest {}).await;
                self.outcome(response)
            }
            Call::HashKv(revision) => {
                let revision = env.revision(*revision);
                self.hash_twice(revision).await
            }
            Call::Defragment => {
                let response = self.maintenance.defragment(pb::DefragmentRequest {}).await;
                self.outcome(response)
            }
            Call::MoveLeader(target) => {
                let target_id = env.member(*target);
                let request = pb::MoveLeaderRequest { target_id };
                let response = self.maintenance.move_leader(request).await;
                self.outcome(response)
            }
            Call::Alarms { kind } => self.alarm(AlarmAction::Get, *kind, 0).await,
            _ => not_of_this_service(call),
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

    async fn alarmed(&mut self, kind: i32, member: MemberRef, state: State) -> Outcome {
        let member = self.env(state).member(member);
        let mut parts = vec![
            self.alarm(AlarmAction::Activate, kind, member).await,
            self.alarm(AlarmAction::Get, 0, 0).await,
        ];
        for call in forbidden_or_allowed() {
            let part = self.call_kv(&call, state).await;
            parts.push(part);
        }
        parts.push(self.grant(BRIEF_LEASE, 600).await);
        parts.push(self.keep_alive(LeaseRef::Id(BRIEF_LEASE), state).await);
        parts.push(self.revoke(LeaseRef::Id(BRIEF_LEASE), state).await);
        let status = self.maintenance.status(pb::StatusRequest {}).await;
        // It names the member by its id, in the text.
        let errors = status.map(|status| status.into_inner().errors.len());
        parts.push(Outcome::note(format!("errors in the status: {:?}", errors.ok())));
        parts.push(self.alarm(AlarmAction::Deactivate, kind, member).await);
        parts.push(self.revoke(LeaseRef::Id(BRIEF_LEASE), state).await);
        Outcome::all(parts)
    }
}

/// What is tried under an alarm: a put, transactions that put or only delete, a read, and a deletion.
fn forbidden_or_allowed() -> Vec<Call> {
    use crate::call::{Delete, Keys, Op, Put, Range, Txn, Value};
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
    ]
}

fn answer_outcome(answer: Answer, ids: &Ids<'_>) -> Outcome {
    match answer {
        Answer::Created(response) | Answer::Progress(response) => Outcome::answer(response, ids),
        // What it says is among the watcher's changes.
        Answer::Canceled(id) => Outcome::note(format!("watcher {id} was canceled")),
    }
}

/// What never happens, since each service is given its own calls.
fn not_of_this_service(call: &Call) -> Outcome {
    Outcome::note(format!("no such call: {call:?}"))
}

async fn wait_until_it_serves(kv: &mut KvClient<Channel>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + STARTING;
    loop {
        let request = pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        };
        match kv.range(request).await {
            Ok(_) => return Ok(()),
            Err(status) if tokio::time::Instant::now() > deadline => return Err(status.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A lease that lives within one call.
const BRIEF_LEASE: i64 = 4242;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a server may take to start.
const STARTING: Duration = Duration::from_secs(30);
