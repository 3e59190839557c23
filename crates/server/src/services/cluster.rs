//! `etcdserverpb.Cluster`: the members, and changes of them.
//!
//! - A change is answered when it has begun, where etcd's client goes on to start the new member, and
//!   when it is done, where it is to rely on that.
//! - Too few members that take part are a reason to refuse a change: see [`census`](super::census).
//! - etcd's bound on learners counts whoever does not vote yet, whether it is promoted by itself or by hand.
//! - What etcd's requests have no field for comes as metadata: the name of a new member, whether it is
//!   a witness, and whose place it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quorate::{
    Configuration, ConfigurationError, MemberContext, MemberInfo, MemberKind, NodeId, ReconfigureError,
    RoleKind, Target,
};
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::cluster_server::Cluster as ClusterRpc;
use quorate_etcd_api::etcdserverpb::*;
use tonic::{Request, Response, Status};

use crate::auth::{About, session};
use crate::config::LearnerPromotion;
use crate::identity::peer_urls;
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::services::census::Census;
use crate::services::extras::Extras;
use crate::translate;
use crate::url::{Scheme, Url};

/// The service.
pub(crate) struct Cluster {
    node: Arc<Node>,
}

impl Cluster {
    /// The service of `node`.
    pub(crate) fn new(node: &Arc<Node>) -> Cluster {
        let node = Arc::clone(node);
        Cluster { node }
    }

    /// The members as this one knows them.
    async fn listed(&self) -> Result<Vec<Member>, Status> {
        let published = answer!(self.node.read_local(Query::Members).await?, Members).into_iter();
        let published: BTreeMap<u64, quorate_kv::Member> =
            published.map(|member| (member.id.0, member)).collect();
        let members = self.members().await?;
        let is_published = |node: NodeId| published.get(&node.0);
        let scheme = self.node.config().peer_scheme();
        let nodes = members.members().into_iter();
        let mut list: Vec<Member> = nodes
            .map(|node| listed(node, &members, is_published(node), scheme))
            .collect();
        self.introduce_itself(&mut list);
        if self.node.is_witness() {
            // It has nothing that was published, so that nobody would have a name.
            for member in &mut list {
                member.name = MemberContext::of(&members.info(NodeId(member.id))).name;
            }
        }
        Ok(list)
    }

    /// Whoever answers is started: what it has not published yet it is told by its own settings.
    fn introduce_itself(&self, list: &mut [Member]) {
        let (id, config) = (self.node.identity().member_id, self.node.config());
        let unpublished = |member: &&mut Member| member.id == id && member.name.is_empty();
        if let Some(own) = list.iter_mut().find(unpublished) {
            own.name.clone_from(&config.name);
            own.client_ur_ls = config.advertise_client_urls.iter().map(Url::to_string).collect();
        }
    }

    async fn members(&self) -> Result<Arc<Configuration>, Status> {
        let status = self.node.replica().status().await;
        let status = status.map_err(|_stopped| Status::from(EtcdError::Stopped))?;
        Ok(status.configuration)
    }

    /// Who takes part, if changes of members depend on that.
    async fn census(&self) -> Result<Option<Census>, Status> {
        match self.node.config().strict_reconfig_check {
            true => Census::take(&self.node).await.map(Some),
            false => Ok(None),
        }
    }

    /// Removes a member that votes, unless too few of the others take part.
    async fn remove_voter(&self, node: NodeId) -> Result<(), Status> {
        let census = self.census().await?;
        let remove = |members: &Configuration| -> Result<Target, Refused> {
            if !members.is_member(node) {
                return Err(ReconfigureError::NotAMember(node).into());
            }
            if let Some(census) = &census {
                census.check_removal(members, node)?;
            }
            Ok(Target::of(members).without(node)?)
        };
        self.finish(async {
            let begun = self.node.replica().change_members(remove).await?;
            Ok::<(), Refused>(begun.done().await?)
        })
        .await
    }

    /// Waits until `change` is done, but not longer than a request may take.
    async fn finish<E: Into<Refused>>(
        &self,
        change: impl Future<Output = Result<(), E>>,
    ) -> Result<(), Status> {
        let patience = self.node.config().request_timeout();
        match tokio::time::timeout(patience, change).await {
            Ok(outcome) => outcome.map_err(|refused| refused.into().into()),
            // It goes on.
            Err(_elapsed) => Err(EtcdError::Timeout.into()),
        }
    }

    /// Lets a learner that has not caught up in time stay one.
    ///
    /// # Errors
    /// That it is not ready, unless it is promoted by now.
    async fn call_off_promotion(&self, node: NodeId) -> Result<(), Status> {
        let stay = |members: &Configuration| -> Result<Target, Refused> {
            let target = Target::of(members);
            match members.newcomers().contains(&node) {
                true => Ok(target.with_learner(node, members.info(node))?),
                false => Ok(target),
            }
        };
        self.node.replica().change_members(stay).await?;
        match self.members().await?.is_voter(node) {
            true => Ok(()),
            false => Err(EtcdError::LearnerNotReady.into()),
        }
    }

    async fn promote(&self, node: NodeId) -> Result<(), Status> {
        let members = self.members().await?;
        if !members.is_member(node) {
            return Err(EtcdError::MemberNotFound.into());
        }
        if members.is_voter(node) {
            return Err(EtcdError::MemberNotLearner.into());
        }
        self.check_ready(node).await?;
        let promoted = tokio::time::timeout(PROMOTION, self.node.replica().promote(node)).await;
        match promoted {
            Ok(outcome) => outcome.map_err(|error| translate::reconfigure_failed(&error)),
            Err(_elapsed) => self.call_off_promotion(node).await,
        }
    }

    /// Refuses a learner of whom the leader, if that is this member, knows that it is behind.
    async fn check_ready(&self, node: NodeId) -> Result<(), Status> {
        let status = self.node.replica().status().await;
        let status = status.map_err(|_stopped| Status::from(EtcdError::Stopped))?;
        if status.role != RoleKind::Leader {
            return Ok(());
        }
        let reached = status.progress.get(&node).map_or(0, |peer| peer.match_index.0);
        let is_ready = reached.saturating_mul(10) >= status.last.index.0.saturating_mul(9);
        match is_ready {
            true => Ok(()),
            false => Err(EtcdError::LearnerNotReady.into()),
        }
    }
}

#[tonic::async_trait]
impl ClusterRpc for Cluster {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        // A witness has no state to be current: it says what it knows.
        if request.into_inner().linearizable && !self.node.is_witness() {
            self.node.confirm_current().await?;
        }
        Ok(Response::new(MemberListResponse {
            header: Some(self.node.header_of_members()),
            members: self.listed().await?,
        }))
    }

    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let session = session(&request);
        let extras = Extras::of(request.metadata())?;
        let request = request.into_inner();
        session.note(&About(request.peer_ur_ls.join(" ")));
        let addresses = addresses(&request.peer_ur_ls, self.node.config().peer_scheme())?;
        let new = NodeId(new_id()?);
        let context = MemberContext {
            name: extras.name,
            addresses,
        };
        let info = MemberInfo {
            kind: extras.kind,
            ..context.clone().into_info()
        };
        let census = match extras.replaces {
            // Whoever comes has caught up before it votes: the voters that take part become no fewer.
            Some(_) => None,
            None => self.census().await?,
        };
        let max_learners = self.node.config().limits.max_learners;
        let stays_learner =
            request.is_learner && self.node.config().learner_promotion == LearnerPromotion::ByHand;
        let add = |members: &Configuration| -> Result<Target, Refused> {
            match &census {
                Some(census) if request.is_learner => census.check_learner(members)?,
                Some(census) => census.check_voter(members)?,
                None => {}
            }
            let target = Target::of(members);
            check_addresses(&target, &context.addresses, None)?;
            if request.is_learner && members.learners().len() >= max_learners {
                return Err(Refused::Etcd(EtcdError::TooManyLearners));
            }
            let target = match stays_learner {
                true => target.with_learner(new, info.clone())?,
                false => target.with_voter(new, info.clone())?,
            };
            match extras.replaces {
                Some(dead) if !members.is_member(dead) => Err(ReconfigureError::NotAMember(dead).into()),
                Some(dead) => Ok(target.without(dead)?),
                None => Ok(target),
            }
        };
        self.node.replica().change_members(add).await?;
        let members = self.listed().await?;
        Ok(Response::new(MemberAddResponse {
            header: Some(self.node.header_of_members()),
            member: members.iter().find(|member| member.id == new.0).cloned(),
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let node = NodeId(request.get_ref().id);
        session(&request).note(&about(node));
        match self.members().await?.is_voter(node) {
            true => self.remove_voter(node).await?,
            false => self.finish(self.node.replica().remove(node)).await?,
        }
        Ok(Response::new(MemberRemoveResponse {
            header: Some(self.node.header_of_members()),
            members: self.listed().await?,
        }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let session = session(&request);
        let request = request.into_inner();
        let node = NodeId(request.id);
        session.note(&about(node));
        // Whether there is such a member is said first, as etcd does.
        if !self.members().await?.is_member(node) {
            return Err(EtcdError::MemberNotFound.into());
        }
        let addresses = addresses(&request.peer_ur_ls, self.node.config().peer_scheme())?;
        let update = |members: &Configuration| -> Result<Target, Refused> {
            if !members.is_member(node) {
                return Err(ReconfigureError::NotAMember(node).into());
            }
            let target = Target::of(members);
            check_addresses(&target, &addresses, Some(node))?;
            let info = members.info(node);
            let context = MemberContext {
                addresses: addresses.clone(),
                ..MemberContext::of(&info)
            };
            let info = MemberInfo {
                context: context.encode(),
                ..info
            };
            match target.learners().contains(&node) {
                true => Ok(target.with_learner(node, info)?),
                false => Ok(target.with_voter(node, info)?),
            }
        };
        self.node.replica().change_members(update).await?;
        Ok(Response::new(MemberUpdateResponse {
            header: Some(self.node.header_of_members()),
            members: self.listed().await?,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let node = NodeId(request.get_ref().id);
        session(&request).note(&about(node));
        let promoted = self.promote(node).await;
        self.node.metrics().count_promotion(&promoted);
        promoted?;
        Ok(Response::new(MemberPromoteResponse {
            header: Some(self.node.header_of_members()),
            members: self.listed().await?,
        }))
    }
}

/// A member, for the audit log.
fn about(node: NodeId) -> About {
    About(format!("member {:x}", node.0))
}

/// Why the members are not to become what a request asks.
enum Refused {
    Etcd(EtcdError),
    Change(ReconfigureError),
}

impl From<EtcdError> for Refused {
    fn from(error: EtcdError) -> Refused {
        Refused::Etcd(error)
    }
}

impl From<ReconfigureError> for Refused {
    fn from(error: ReconfigureError) -> Refused {
        Refused::Change(error)
    }
}

impl From<ConfigurationError> for Refused {
    fn from(error: ConfigurationError) -> Refused {
        Refused::Change(error.into())
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Status {
        match refused {
            Refused::Etcd(error) => error.into(),
            Refused::Change(error) => translate::reconfigure_failed(&error),
        }
    }
}

/// A member that has not published itself yet has no name, which is how etcd shows "unstarted". A
/// witness never does: it is called what it was added as.
fn listed(
    node: NodeId,
    members: &Configuration,
    published: Option<&quorate_kv::Member>,
    scheme: Scheme,
) -> Member {
    let info = members.info(node);
    let context = MemberContext::of(&info);
    let urls = peer_urls(&context, scheme);
    Member {
        id: node.0,
        name: match (published, info.kind) {
            (Some(member), _) => member.name.clone(),
            (None, MemberKind::Witness) => context.name,
            (None, MemberKind::Full) => String::new(),
        },
        peer_ur_ls: match (urls.is_empty(), published) {
            (true, Some(member)) => member.peer_urls.clone(),
            (true, None) | (false, _) => urls.iter().map(ToString::to_string).collect(),
        },
        client_ur_ls: published.map_or_else(Vec::new, |member| member.client_urls.clone()),
        is_learner: !members.is_voter(node),
    }
}

/// The addresses of peer URLs, all of which must begin as those of this cluster do.
fn addresses(urls: &[String], scheme: Scheme) -> Result<Vec<String>, Status> {
    let urls: Result<BTreeSet<Url>, _> = urls.iter().map(|url| url.trim().parse()).collect();
    match urls {
        Ok(urls) if urls.iter().any(|url| url.scheme() != scheme) => Err(Status::invalid_argument(format!(
            "quorate: the members of this cluster are reached by {}HOST:PORT",
            scheme.prefix()
        ))),
        Ok(urls) if !urls.is_empty() => Ok(urls.iter().map(Url::authority).collect()),
        Ok(_) | Err(_) => Err(EtcdError::MemberBadURLs.into()),
    }
}

/// Refuses addresses that another member than `own` has.
fn check_addresses(target: &Target, addresses: &[String], own: Option<NodeId>) -> Result<(), Refused> {
    let taken = target
        .info()
        .iter()
        .filter(|(node, _)| Some(**node) != own)
        .flat_map(|(_, info)| MemberContext::of(info).addresses);
    match taken.into_iter().any(|address| addresses.contains(&address)) {
        true => Err(Refused::Etcd(EtcdError::PeerURLExist)),
        false => Ok(()),
    }
}

/// An id that no member has, had or will have.
fn new_id() -> Result<u64, Status> {
    let drawn =
        getrandom::u64().map_err(|error| Status::internal(format!("quorate: no randomness: {error}")))?;
    Ok(drawn.max(1))
}

/// How long a learner that is nearly there may take to become a voter. Less than etcdctl waits for an answer.
const PROMOTION: Duration = Duration::from_secs(2);
