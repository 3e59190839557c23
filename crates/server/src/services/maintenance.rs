//! `etcdserverpb.Maintenance`: status, alarms, hashes, leadership, backups.

use std::sync::Arc;

use quorate::NodeId;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction as Action;
use quorate_etcd_api::etcdserverpb::downgrade_request::DowngradeAction;
use quorate_etcd_api::etcdserverpb::maintenance_server::Maintenance as MaintenanceRpc;
use quorate_etcd_api::etcdserverpb::*;
use quorate_kv::{Alarm, AlarmAction, AlarmKind, Caller, Command, MemberId, Response as Applied, Revision};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::ETCD_VERSION;
use crate::auth::{About, session};
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::services::{Ending, snapshot, unexpected};
use crate::translate;

/// The service.
pub(crate) struct Maintenance {
    node: Arc<Node>,
}

impl Maintenance {
    /// The service of `node`.
    pub(crate) fn new(node: &Arc<Node>) -> Maintenance {
        let node = Arc::clone(node);
        Maintenance { node }
    }

    async fn change_alarm(
        &self,
        caller: Caller,
        action: AlarmAction,
        request: &AlarmRequest,
    ) -> Result<AlarmResponse, Status> {
        let kind = match request.alarm() {
            AlarmType::Nospace => AlarmKind::NoSpace,
            AlarmType::Corrupt => AlarmKind::Corrupt,
            AlarmType::None => return self.change_no_alarm(&caller, action).await,
        };
        let member = MemberId(request.member_id);
        let alarm = Alarm { member, kind };
        let command = Command::Alarm { action, alarm };
        let (header, Applied::Alarm(changed)) = self.node.propose(caller, command).await? else {
            return Err(unexpected());
        };
        Ok(AlarmResponse {
            header: Some(header),
            alarms: translate::alarms(changed),
        })
    }

    /// No alarm of no kind is ever on: to end one is done, to raise one is refused.
    async fn change_no_alarm(&self, caller: &Caller, action: AlarmAction) -> Result<AlarmResponse, Status> {
        self.node.check_root(caller).await?;
        match action {
            AlarmAction::Activate => Err(Status::invalid_argument("quorate: name the alarm to raise")),
            AlarmAction::Deactivate => {
                self.node.confirm_current().await?;
                Ok(AlarmResponse {
                    header: Some(self.node.header_now()),
                    alarms: Vec::new(),
                })
            }
        }
    }

    /// Whoever lists alarms to end them must see every alarm that was raised before, whichever member
    /// it asks.
    async fn list_alarms(&self, request: &AlarmRequest) -> Result<AlarmResponse, Status> {
        let alarms = answer!(self.node.read(Query::Alarms).await?, Alarms);
        let mut alarms = translate::alarms(alarms);
        if request.alarm() != AlarmType::None {
            alarms.retain(|alarm| alarm.alarm == request.alarm);
        }
        Ok(AlarmResponse {
            header: Some(self.node.header_now()),
            alarms,
        })
    }

    async fn hash_at(&self, at: Option<Revision>) -> Result<HashKvResponse, Status> {
        let answer = self.node.read_local(Query::HashKv(at)).await?;
        let (revision, hash) = answer!(answer, HashKv).map_err(|error| translate::refused(&error))?;
        Ok(HashKvResponse {
            header: Some(self.node.header(revision)),
            hash: hash.hash,
            compact_revision: hash.compacted.0,
            hash_revision: hash.revision.0,
        })
    }
}

/// An alarm as Go prints it: an alarm of no member has none.
fn alarm_text(alarm: &AlarmMember) -> String {
    let name = alarm.alarm().as_str_name();
    match alarm.member_id {
        0 => format!("alarm:{name} "),
        member => format!("memberID:{member} alarm:{name} "),
    }
}

#[tonic::async_trait]
impl MaintenanceRpc for Maintenance {
    type SnapshotStream = BoxStream<SnapshotResponse>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let figures = answer!(self.node.read_local(Query::Figures).await?, Figures);
        let raft = self.node.replica().status().await;
        let raft = raft.map_err(|_stopped| Status::from(EtcdError::Stopped))?;
        let mut errors = Vec::new();
        if raft.leader.is_none() {
            errors.push(EtcdError::NoLeader.message().to_owned());
        }
        let alarms = answer!(self.node.read_local(Query::Alarms).await?, Alarms);
        errors.extend(translate::alarms(alarms).iter().map(alarm_text));
        Ok(Response::new(StatusResponse {
            header: Some(self.node.header(figures.revision)),
            version: ETCD_VERSION.to_owned(),
            db_size: figures.total_bytes,
            db_size_in_use: figures.in_use_bytes,
            leader: raft.leader.map_or(0, |NodeId(id)| id),
            raft_index: raft.commit_index.0,
            raft_term: raft.term.0,
            raft_applied_index: raft.applied_index.0,
            errors,
            is_learner: !raft.configuration.is_voter(raft.id),
            storage_version: String::new(),
            db_size_quota: 0,
            downgrade_info: None,
        }))
    }

    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let session = session(&request);
        let request = request.into_inner();
        session.note(&About(format!("{:?} {:?}", request.action(), request.alarm())));
        let action = match request.action() {
            Action::Get => return self.list_alarms(&request).await.map(Response::new),
            Action::Activate => AlarmAction::Activate,
            Action::Deactivate => AlarmAction::Deactivate,
        };
        let change = |caller| self.change_alarm(caller, action, &request);
        session.act(&self.node, change).await.map(Response::new)
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let HashKvResponse { header, hash, .. } = self.hash_at(None).await?;
        Ok(Response::new(HashResponse { header, hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let at = (revision > 0).then_some(Revision(revision));
        self.hash_at(at).await.map(Response::new)
    }

    /// Space is reclaimed while serving: there is never anything to do.
    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        if !self.node.is_leader() {
            return Err(EtcdError::NotLeader.into());
        }
        let target = request.get_ref().target_id;
        session(&request).note(&About(format!("to member {target:x}")));
        if !self.node.raft().configuration.is_voter(NodeId(target)) {
            return Err(EtcdError::BadLeaderTransferee.into());
        }
        let moved = self.node.replica().transfer_leadership(NodeId(target)).await;
        moved.map_err(|error| translate::transfer_failed(&error))?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let ending = Ending::of(&self.node, request.metadata());
        let pieces = snapshot::begin(&self.node).await?;
        Ok(Response::new(Box::pin(ending.end(pieces))))
    }

    /// There is no older format of the data to go back to: no version is one that may be chosen, and none is ever
    /// being gone back to.
    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let request = request.into_inner();
        Err(match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
                match translate::is_version(&request.version) {
                    true => EtcdError::InvalidDowngradeTargetVersion.into(),
                    false => EtcdError::WrongDowngradeVersionFormat.into(),
                }
            }
            Ok(DowngradeAction::Cancel) => EtcdError::NoInflightDowngrade.into(),
            // etcd has no row in its table for this one, only the text.
            Err(_unknown) => Status::unknown("etcdserver: unknown method"),
        })
    }
}
