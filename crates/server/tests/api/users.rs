//! Clients that are users, and clusters that want to know who calls.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::authpb::{Permission, permission::Type};
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::*;
use quorate_server::{BcryptCost, ServerConfig};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::harness::{Client, Cluster, check_error, put, range};

/// Passwords that are hashed fast.
pub(crate) fn cheap(config: &mut ServerConfig) {
    config.auth.bcrypt_cost = BcryptCost::new(4).unwrap();
}

pub(crate) async fn cluster(size: usize) -> Cluster {
    Cluster::start_with(size, cheap).await
}

/// A client of one member, with the token of whoever it logs in as.
pub(crate) struct User {
    pub(crate) client: Client,
    pub(crate) auth: AuthClient<Channel>,
    pub(crate) token: Option<String>,
}

impl User {
    pub(crate) fn nobody(cluster: &Cluster, member: usize) -> User {
        let client = cluster.client(member);
        User {
            auth: AuthClient::new(client.channel.clone()),
            client,
            token: None,
        }
    }

    pub(crate) async fn named(cluster: &Cluster, member: usize, name: &str) -> User {
        let mut user = User::nobody(cluster, member);
        user.log_in(name, &password(name)).await.unwrap();
        user
    }

    pub(crate) async fn log_in(&mut self, name: &str, password: &str) -> Result<(), Status> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = AuthenticateRequest { name, password };
        self.token = Some(self.auth.authenticate(request).await?.into_inner().token);
        Ok(())
    }

    /// The same token at another member.
    pub(crate) fn at(&self, cluster: &Cluster, member: usize) -> User {
        let token = self.token.clone();
        User {
            token,
            ..User::nobody(cluster, member)
        }
    }

    pub(crate) fn with_token<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    pub(crate) async fn put(&mut self, key: &str) -> Result<(), Status> {
        self.put_value(key, "value").await
    }

    pub(crate) async fn put_value(&mut self, key: &str, value: &str) -> Result<(), Status> {
        let request = self.with_token(put(key, value));
        self.client.kv.put(request).await.map(drop)
    }

    pub(crate) async fn get(&mut self, key: &str, end: &str) -> Result<usize, Status> {
        let request = self.with_token(range(key, end));
        let response = self.client.kv.range(request).await?;
        Ok(response.into_inner().kvs.len())
    }

    pub(crate) async fn user_add(&mut self, name: &str) -> Result<(), Status> {
        self.user_add_with(name, &password(name)).await
    }

    pub(crate) async fn user_add_with(&mut self, name: &str, password: &str) -> Result<(), Status> {
        let request = AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        let request = self.with_token(request);
        self.auth.user_add(request).await.map(drop)
    }

    pub(crate) async fn grant_role(&mut self, user: &str, role: &str) -> Result<(), Status> {
        let (user, role) = (user.to_owned(), role.to_owned());
        let request = self.with_token(AuthUserGrantRoleRequest { user, role });
        self.auth.user_grant_role(request).await.map(drop)
    }

    pub(crate) async fn role_add(&mut self, name: &str) -> Result<(), Status> {
        let name = name.to_owned();
        let request = self.with_token(AuthRoleAddRequest { name });
        self.auth.role_add(request).await.map(drop)
    }

    pub(crate) async fn permit(
        &mut self,
        role: &str,
        access: Type,
        key: &str,
        end: &str,
    ) -> Result<(), Status> {
        let permission = Permission {
            perm_type: access.into(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        };
        let request = self.with_token(AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            perm: Some(permission),
        });
        self.auth.role_grant_permission(request).await.map(drop)
    }

    pub(crate) async fn forbid(&mut self, role: &str, key: &str, end: &str) -> Result<(), Status> {
        let request = self.with_token(AuthRoleRevokePermissionRequest {
            role: role.to_owned(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        });
        self.auth.role_revoke_permission(request).await.map(drop)
    }
}

pub(crate) fn password(user: &str) -> String {
    format!("password of {user}")
}

/// Turns authentication on. Alice has the role `r`, which may read and write from `a/` to `a0`.
pub(crate) async fn guard(cluster: &Cluster) -> User {
    let mut nobody = User::nobody(cluster, 0);
    for user in ["root", "alice"] {
        nobody.user_add(user).await.unwrap();
    }
    nobody.grant_role("root", "root").await.unwrap();
    nobody.role_add("r").await.unwrap();
    nobody.permit("r", Type::Readwrite, "a/", "a0").await.unwrap();
    nobody.grant_role("alice", "r").await.unwrap();
    nobody.auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    User::named(cluster, 0, "root").await
}

#[track_caller]
pub(crate) fn check<T>(result: Result<T, Status>, error: EtcdError) {
    let result = result.map(|_| tonic::Response::new(()));
    check_error(result, error);
}

pub(crate) fn watch_create(key: &str, end: &str) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..Default::default()
        })),
    }
}

/// Opens a stream with these watchers; it stays open until the sender goes.
pub(crate) async fn watch(
    user: &mut User,
    requests: Vec<WatchRequest>,
) -> (
    tokio::sync::mpsc::Sender<WatchRequest>,
    tonic::Streaming<WatchResponse>,
) {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    for request in requests {
        sender.send(request).await.unwrap();
    }
    let request = user.with_token(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let responses = user.client.watch.watch(request).await.unwrap().into_inner();
    (sender, responses)
}
