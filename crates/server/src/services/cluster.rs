//! `etcdserverpb.Cluster`: the members. They are fixed: changing them is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_etcd_api::etcdserverpb::cluster_server::Cluster as ClusterRpc;
use quorate_etcd_api::etcdserverpb::*;
use tonic::{Request, Response, Status};

use crate::config::MemberConfig;
use crate::machine::Query;
use crate::node::{Node, answer};

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
}

#[tonic::async_trait]
impl ClusterRpc for Cluster {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let answer = if request.into_inner().linearizable {
            self.node.read(Query::Members).await?
        } else {
            self.node.read_local(Query::Members).await?
        };
        let published = answer!(answer, Members).into_iter();
        let published: BTreeMap<u64, quorate_kv::Member> =
            published.map(|member| (member.id.0, member)).collect();
        let configured = self.node.identity().members.iter();
        let members = configured.map(|(id, config)| listed(*id, config, published.get(id)));
        Ok(Response::new(MemberListResponse {
            header: Some(self.node.header_of_members()),
            members: members.collect(),
        }))
    }

    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        Err(fixed())
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(fixed())
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(fixed())
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(fixed())
    }
}

/// A member that has not published itself yet has no name, which is how etcd shows "unstarted".
fn listed(id: u64, config: &MemberConfig, published: Option<&quorate_kv::Member>) -> Member {
    Member {
        id,
        name: published.map_or_else(String::new, |member| member.name.clone()),
        peer_ur_ls: config.peer_urls.iter().map(ToString::to_string).collect(),
        client_ur_ls: published.map_or_else(Vec::new, |member| member.client_urls.clone()),
        is_learner: false,
    }
}

fn fixed() -> Status {
    Status::unimplemented("quorate: the members of a cluster are fixed at its start")
}
