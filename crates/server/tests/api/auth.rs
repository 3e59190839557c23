//! Users, roles and permissions as a client meets them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::authpb::{Permission, UserAddOptions, permission::Type};
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::*;
use quorate_etcd_api::v3lockpb::LockRequest;
use quorate_etcd_api::v3lockpb::lock_client::LockClient;
use quorate_server::{BcryptCost, ServerConfig, TokenKind};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::harness::{Client, Cluster, PATIENCE, check_error, put, range};

fn cheap(config: &mut ServerConfig) {
    config.auth.bcrypt_cost = BcryptCost::new(4).unwrap();
}

pub(crate) async fn cluster(size: usize) -> Cluster {
    Cluster::start_with(size, cheap).await
}

/// A client of one member, with the token of whoever it logs in as.
pub(crate) struct User {
    client: Client,
    auth: AuthClient<Channel>,
    pub(crate) token: Option<String>,
}

impl User {
    fn nobody(cluster: &Cluster, member: usize) -> User {
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
    fn at(&self, cluster: &Cluster, member: usize) -> User {
        let token = self.token.clone();
        User {
            token,
            ..User::nobody(cluster, member)
        }
    }

    fn with_token<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    async fn put(&mut self, key: &str) -> Result<(), Status> {
        self.put_value(key, "value").await
    }

    pub(crate) async fn put_value(&mut self, key: &str, value: &str) -> Result<(), Status> {
        let request = self.with_token(put(key, value));
        self.client.kv.put(request).await.map(drop)
    }

    async fn get(&mut self, key: &str, end: &str) -> Result<usize, Status> {
        let request = self.with_token(range(key, end));
        let response = self.client.kv.range(request).await?;
        Ok(response.into_inner().kvs.len())
    }

    async fn user_add(&mut self, name: &str) -> Result<(), Status> {
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

    async fn grant_role(&mut self, user: &str, role: &str) -> Result<(), Status> {
        let (user, role) = (user.to_owned(), role.to_owned());
        let request = self.with_token(AuthUserGrantRoleRequest { user, role });
        self.auth.user_grant_role(request).await.map(drop)
    }

    async fn role_add(&mut self, name: &str) -> Result<(), Status> {
        let name = name.to_owned();
        let request = self.with_token(AuthRoleAddRequest { name });
        self.auth.role_add(request).await.map(drop)
    }

    async fn permit(&mut self, role: &str, access: Type, key: &str, end: &str) -> Result<(), Status> {
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

    async fn forbid(&mut self, role: &str, key: &str, end: &str) -> Result<(), Status> {
        let request = self.with_token(AuthRoleRevokePermissionRequest {
            role: role.to_owned(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        });
        self.auth.role_revoke_permission(request).await.map(drop)
    }
}

fn password(user: &str) -> String {
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
fn check<T>(result: Result<T, Status>, error: EtcdError) {
    let result = result.map(|_| tonic::Response::new(()));
    check_error(result, error);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_turned_on_and_off_as_in_etcd() {
    let cluster = cluster(1).await;
    let mut nobody = User::nobody(&cluster, 0);
    check(
        nobody.auth.auth_enable(AuthEnableRequest {}).await,
        EtcdError::RootUserNotExist,
    );
    check(nobody.log_in("root", "x").await, EtcdError::AuthNotEnabled);
    nobody.user_add("root").await.unwrap();
    check(
        nobody.auth.auth_enable(AuthEnableRequest {}).await,
        EtcdError::RootRoleNotExist,
    );
    nobody.grant_role("root", "root").await.unwrap();
    nobody.put("k").await.unwrap();
    nobody.auth.auth_enable(AuthEnableRequest {}).await.unwrap();

    check(nobody.put("k").await, EtcdError::UserEmpty);
    check(nobody.get("k", "").await, EtcdError::UserEmpty);
    let status = nobody
        .auth
        .auth_status(AuthStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.enabled && status.auth_revision > 1, "{status:?}");

    let mut root = User::named(&cluster, 0, "root").await;
    root.put("k").await.unwrap();
    let disable = root.with_token(AuthDisableRequest {});
    root.auth.auth_disable(disable).await.unwrap();
    nobody.put("k").await.unwrap();
    root.put("k")
        .await
        .expect("a token does no harm when none is needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_show_a_password_gets_no_token() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    let mut user = User::nobody(&cluster, 0);
    for (name, password) in [("alice", "wrong"), ("alice", ""), ("mallory", "x"), ("", "x")] {
        check(user.log_in(name, password).await, EtcdError::AuthFailed);
    }
    let no_password = root.with_token(AuthUserAddRequest {
        name: "certified".to_owned(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    });
    root.auth.user_add(no_password).await.unwrap();
    check(user.log_in("certified", "").await, EtcdError::AuthFailed);
    let empty = root.with_token(AuthUserAddRequest {
        name: "empty".to_owned(),
        ..Default::default()
    });
    let status = root.auth.user_add(empty).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    for token in ["x", &"0".repeat(64), "abcdefghijklmnop.12"] {
        user.token = Some(token.to_owned());
        check(user.put("a/1").await, EtcdError::InvalidAuthToken);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_what_its_roles_may() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    root.put("b").await.unwrap();
    let mut alice = User::named(&cluster, 0, "alice").await;
    alice.put("a/1").await.unwrap();
    assert_eq!(alice.get("a/", "a0").await.unwrap(), 1);
    check(alice.put("b").await, EtcdError::PermissionDenied);
    check(alice.get("b", "").await, EtcdError::PermissionDenied);
    check(alice.get("a/", "b").await, EtcdError::PermissionDenied);
    check(alice.get("a/", "\0").await, EtcdError::PermissionDenied);

    // A permission that comes or goes counts at once, without another login.
    root.permit("r", Type::Read, "b", "").await.unwrap();
    assert_eq!(alice.get("b", "").await.unwrap(), 1);
    check(alice.get("b", "\0").await, EtcdError::PermissionDenied);
    check(alice.put("b").await, EtcdError::PermissionDenied);
    root.forbid("r", "b", "").await.unwrap();
    check(alice.get("b", "").await, EtcdError::PermissionDenied);
    check(root.forbid("r", "b", "").await, EtcdError::PermissionNotGranted);
}

/// The attempts of a user at what it may not do within a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_no_way_around() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    root.put("secret").await.unwrap();
    let mut alice = User::named(&cluster, 0, "alice").await;
    let op = |request| RequestOp {
        request: Some(request),
    };
    let nest = |op: RequestOp| RequestOp {
        request: Some(request_op::Request::RequestTxn(TxnRequest {
            failure: vec![op],
            ..Default::default()
        })),
    };
    let read = op(request_op::Request::RequestRange(range("secret", "")));
    let compare = Compare {
        key: "secret".into(),
        ..Default::default()
    };
    let attempts = [
        TxnRequest {
            success: vec![read.clone()],
            ..Default::default()
        },
        TxnRequest {
            success: vec![nest(nest(read))],
            ..Default::default()
        },
        TxnRequest {
            compare: vec![compare],
            ..Default::default()
        },
        TxnRequest {
            failure: vec![nest(op(request_op::Request::RequestPut(put("secret", "x"))))],
            ..Default::default()
        },
    ];
    for attempt in attempts {
        let request = alice.with_token(attempt);
        check(alice.client.kv.txn(request).await, EtcdError::PermissionDenied);
    }
    let mine = TxnRequest {
        success: vec![op(request_op::Request::RequestPut(put("a/x", "x")))],
        ..Default::default()
    };
    let request = alice.with_token(mine);
    alice.client.kv.txn(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_guard_the_keys_they_hold() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    let mut alice = User::named(&cluster, 0, "alice").await;
    let grant = alice.with_token(LeaseGrantRequest { ttl: 600, id: 7 });
    alice.client.lease.lease_grant(grant).await.unwrap();
    let attached = |key: &str| PutRequest {
        lease: 7,
        ..put(key, "value")
    };
    let request = alice.with_token(attached("a/1"));
    alice.client.kv.put(request).await.unwrap();
    let time_to_live = |keys| LeaseTimeToLiveRequest { id: 7, keys };
    let request = alice.with_token(time_to_live(true));
    let seen = alice.client.lease.lease_time_to_live(request).await.unwrap();
    assert_eq!(seen.into_inner().keys, ["a/1"]);

    let request = root.with_token(attached("secret"));
    root.client.kv.put(request).await.unwrap();
    let request = alice.with_token(time_to_live(true));
    check(
        alice.client.lease.lease_time_to_live(request).await,
        EtcdError::PermissionDenied,
    );
    let request = alice.with_token(time_to_live(false));
    assert!(alice.client.lease.lease_time_to_live(request).await.is_ok());
    let request = alice.with_token(LeaseRevokeRequest { id: 7 });
    check(
        alice.client.lease.lease_revoke(request).await,
        EtcdError::PermissionDenied,
    );
    let keep_alive = futures::stream::iter([LeaseKeepAliveRequest { id: 7 }]);
    let request = alice.with_token(keep_alive);
    let mut answers = alice
        .client
        .lease
        .lease_keep_alive(request)
        .await
        .unwrap()
        .into_inner();
    check(answers.next().await.unwrap(), EtcdError::PermissionDenied);
    assert_eq!(root.get("secret", "").await.unwrap(), 1);
}

/// One client's keep-alives that are not allowed are not another's concern, nor its other leases'.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_keep_alive_refuses_no_other() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    for (id, key) in [(7, "a/1"), (8, "secret")] {
        let request = root.with_token(LeaseGrantRequest { ttl: 600, id });
        root.client.lease.lease_grant(request).await.unwrap();
        let request = root.with_token(PutRequest {
            lease: id,
            ..put(key, "value")
        });
        root.client.kv.put(request).await.unwrap();
    }
    let mut alice = User::named(&cluster, 0, "alice").await;
    let mut mine = 0;
    for _ in 0..10 {
        let ids = [7, 7, 7, 8].map(|id| LeaseKeepAliveRequest { id });
        let request = alice.with_token(futures::stream::iter(ids));
        let answers = alice.client.lease.lease_keep_alive(request).await.unwrap();
        let answers: Vec<_> = answers.into_inner().collect().await;
        mine += answers.iter().filter(|answer| answer.is_ok()).count();
        check(answers.last().unwrap().clone(), EtcdError::PermissionDenied);
    }
    assert_eq!(mine, 30);
}

fn watch_create(key: &str, end: &str) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..Default::default()
        })),
    }
}

/// Opens a stream with these watchers; it stays open until the sender goes.
async fn watch(
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

const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_may_see_what_a_range_may() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    root.permit("r", Type::Read, "k", "").await.unwrap();
    let mut alice = User::named(&cluster, 0, "alice").await;
    let beyond = [("k", "\0"), ("", "\0"), ("k", "l"), ("b", "")];
    let mut requests: Vec<_> = beyond.iter().map(|(key, end)| watch_create(key, end)).collect();
    requests.push(watch_create("k", ""));
    let (_sender, mut responses) = watch(&mut alice, requests).await;
    for keys in beyond {
        let response = responses.next().await.unwrap().unwrap();
        assert!(response.created && response.canceled, "{keys:?}: {response:?}");
        assert_eq!((response.watch_id, response.cancel_reason.as_str()), (-1, DENIED));
    }
    let created = responses.next().await.unwrap().unwrap();
    assert!(created.created && !created.canceled, "{created:?}");
    for key in ["k2", "z", "k"] {
        root.put(key).await.unwrap();
    }
    let response = responses.next().await.unwrap().unwrap();
    let keys: Vec<_> = response
        .events
        .iter()
        .map(|event| event.kv.clone().unwrap().key)
        .collect();
    assert_eq!(keys, ["k"]);
}

/// A right that is taken ends the watchers that need it, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_ends_with_its_right() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    root.permit("r", Type::Read, "k", "").await.unwrap();
    let mut alice = User::named(&cluster, 0, "alice").await;
    let requests = vec![watch_create("k", ""), watch_create("a/", "a0")];
    let (_sender, mut responses) = watch(&mut alice, requests).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = responses.next().await.unwrap().unwrap();
        assert!(response.created && !response.canceled);
        ids.push(response.watch_id);
    }
    root.forbid("r", "k", "").await.unwrap();
    let canceled = responses.next().await.unwrap().unwrap();
    assert!(canceled.canceled && !canceled.created, "{canceled:?}");
    assert_eq!(
        (canceled.watch_id, canceled.cancel_reason.as_str()),
        (ids[0], DENIED)
    );
    for key in ["k", "a/1"] {
        root.put(key).await.unwrap();
    }
    let response = responses.next().await.unwrap().unwrap();
    assert_eq!((response.watch_id, response.events.len()), (ids[1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_of_nobody_end_when_it_is_turned_on() {
    let cluster = cluster(1).await;
    let mut nobody = User::nobody(&cluster, 0);
    let (_sender, mut responses) = watch(&mut nobody, vec![watch_create("", "\0")]).await;
    assert!(responses.next().await.unwrap().unwrap().created);
    let mut root = guard(&cluster).await;
    let canceled = responses.next().await.unwrap().unwrap();
    assert!(canceled.canceled, "{canceled:?}");
    assert!(
        canceled.cancel_reason.ends_with(EtcdError::UserEmpty.message()),
        "{canceled:?}"
    );
    root.put("k").await.unwrap();
}

/// A token is good at every member, at once, and at a member that has started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_at_every_member() {
    let mut cluster = cluster(3).await;
    guard(&cluster).await;
    for member in 0..3 {
        let alice = User::named(&cluster, member, "alice").await;
        for other in 0..3 {
            alice.at(&cluster, other).put("a/1").await.unwrap();
        }
    }
    let alice = User::named(&cluster, 0, "alice").await;
    let member = (cluster.leader().await + 1) % 3;
    cluster.stop(member).await;
    cluster.restart(member).await;
    let mut alice = alice.at(&cluster, member);
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = alice.put("a/1").await {
        assert_eq!(
            status.code(),
            Code::Unavailable,
            "only for want of a leader: {status}"
        );
        assert!(Instant::now() < deadline, "{status}");
    }
    check(alice.put("b").await, EtcdError::PermissionDenied);
    check(
        User::nobody(&cluster, member).put("a/1").await,
        EtcdError::UserEmpty,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_runs_out_and_is_taken_back() {
    let cluster = Cluster::start_with(1, |config| {
        cheap(config);
        config.auth.simple_ttl = Duration::from_secs(2);
    })
    .await;
    let mut root = guard(&cluster).await;
    let mut alice = User::named(&cluster, 0, "alice").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        alice.put("a/1").await.expect("it is used, so it lives");
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    check(alice.put("a/1").await, EtcdError::InvalidAuthToken);

    alice.log_in("alice", &password("alice")).await.unwrap();
    root.log_in("root", &password("root")).await.unwrap();
    let change = root.with_token(AuthUserChangePasswordRequest {
        name: "alice".to_owned(),
        password: "new".to_owned(),
        ..Default::default()
    });
    root.auth.user_change_password(change).await.unwrap();
    check(alice.put("a/1").await, EtcdError::InvalidAuthToken);
    check(
        alice.log_in("alice", &password("alice")).await,
        EtcdError::AuthFailed,
    );
    alice.log_in("alice", "new").await.unwrap();
    alice.put("a/1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_tokens_are_void_when_users_change() {
    let keys = tempfile::tempdir().unwrap();
    let secret = keys.path().join("secret");
    std::fs::write(&secret, [7; 64]).unwrap();
    let kind = format!("jwt,sign-method=HS256,priv-key={},ttl=1h", secret.display());
    let kind: TokenKind = kind.parse().unwrap();
    let cluster = Cluster::start_with(3, |config| {
        cheap(config);
        config.auth.tokens = kind.clone();
    })
    .await;
    let mut root = guard(&cluster).await;
    let mut alice = User::named(&cluster, 1, "alice").await;
    for member in 0..3 {
        alice.at(&cluster, member).put("a/1").await.unwrap();
    }
    root.user_add("bob").await.unwrap();
    check(alice.put("a/1").await, EtcdError::AuthOldRevision);
    alice.log_in("alice", &password("alice")).await.unwrap();
    alice.put("a/1").await.unwrap();

    let token = alice.token.clone().unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    let forged = [
        format!("{header}.{claims}."),
        format!("{header}.{}.{signature}", claims.to_lowercase()),
        // {"typ":"JWT","alg":"none"}
        format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{claims}."),
        String::from("."),
    ];
    for forged in forged {
        alice.token = Some(forged);
        check(alice.put("a/1").await, EtcdError::InvalidAuthToken);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_are_listed_to_whom_they_concern() {
    let cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    let mut alice = User::named(&cluster, 0, "alice").await;
    let list = root.with_token(AuthUserListRequest {});
    let users = root.auth.user_list(list).await.unwrap().into_inner().users;
    assert_eq!(users, ["alice", "root"]);
    let list = root.with_token(AuthRoleListRequest {});
    let roles = root.auth.role_list(list).await.unwrap().into_inner().roles;
    assert_eq!(roles, ["r"]);
    let get = |name: &str| AuthUserGetRequest {
        name: name.to_owned(),
    };
    let request = alice.with_token(get("alice"));
    let roles = alice.auth.user_get(request).await.unwrap().into_inner().roles;
    assert_eq!(roles, ["r"]);
    let request = alice.with_token(get("root"));
    check(alice.auth.user_get(request).await, EtcdError::PermissionDenied);
    let role = |name: &str| AuthRoleGetRequest {
        role: name.to_owned(),
    };
    let request = alice.with_token(role("r"));
    let permissions = alice.auth.role_get(request).await.unwrap().into_inner().perm;
    assert_eq!(
        (&permissions[0].key[..], &permissions[0].range_end[..]),
        (&b"a/"[..], &b"a0"[..])
    );
    let request = root.with_token(role("root"));
    check(root.auth.role_get(request).await, EtcdError::RoleNotFound);
    let request = root.with_token(AuthRoleAddRequest {
        name: "root".to_owned(),
    });
    root.auth.role_add(request).await.unwrap();
    let request = root.with_token(role("root"));
    let permissions = root.auth.role_get(request).await.unwrap().into_inner().perm;
    assert_eq!(
        (&permissions[0].key[..], &permissions[0].range_end[..]),
        (&b""[..], &b"\0"[..])
    );
    let request = root.with_token(role("s"));
    check(root.auth.role_get(request).await, EtcdError::RoleNotFound);
    let request = root.with_token(get("bob"));
    check(root.auth.user_get(request).await, EtcdError::UserNotFound);
}

/// Nobody has an empty name: it is refused like any other that is not there, and not before what etcd says first.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_name_is_one_that_is_not_there() {
    let cluster = cluster(1).await;
    guard(&cluster).await;
    let mut root = User::named(&cluster, 0, "root").await;
    let mut alice = User::named(&cluster, 0, "alice").await;
    let user = || AuthUserGetRequest { name: String::new() };
    let role = || AuthRoleGetRequest { role: String::new() };
    let request = alice.with_token(user());
    check(alice.auth.user_get(request).await, EtcdError::PermissionDenied);
    let request = alice.with_token(role());
    check(alice.auth.role_get(request).await, EtcdError::PermissionDenied);
    let request = root.with_token(user());
    check(root.auth.user_get(request).await, EtcdError::UserNotFound);
    let request = root.with_token(role());
    check(root.auth.role_get(request).await, EtcdError::RoleNotFound);
    for (name, granted, revoked) in [
        ("nobody", EtcdError::UserNotFound, EtcdError::UserNotFound),
        ("alice", EtcdError::RoleNotFound, EtcdError::RoleNotGranted),
    ] {
        let request = root.with_token(AuthUserGrantRoleRequest {
            user: name.to_owned(),
            role: String::new(),
        });
        check(root.auth.user_grant_role(request).await, granted);
        let request = root.with_token(AuthUserRevokeRoleRequest {
            name: name.to_owned(),
            role: String::new(),
        });
        check(root.auth.user_revoke_role(request).await, revoked);
    }
}

/// The services that work by others work with their caller's rights.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_for_who_may_write_its_key() {
    let cluster = cluster(1).await;
    guard(&cluster).await;
    let alice = User::named(&cluster, 0, "alice").await;
    let mut locks = LockClient::new(alice.client.channel.clone());
    let lock = |name: &str| LockRequest {
        name: name.to_owned().into(),
        lease: 0,
    };
    let request = alice.with_token(lock("a/lock"));
    let key = locks.lock(request).await.unwrap().into_inner().key;
    assert!(key.starts_with(b"a/lock/"), "{key:?}");
    let request = alice.with_token(lock("secret"));
    check(locks.lock(request).await, EtcdError::PermissionDenied);
    check(locks.lock(lock("a/other")).await, EtcdError::UserEmpty);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_passwords_must_wait_and_locks_out_nobody() {
    let cluster = cluster(1).await;
    guard(&cluster).await;
    let mut guesser = User::nobody(&cluster, 0);
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let refused = guesser.log_in("alice", "guess").await.unwrap_err();
        if refused.message() != EtcdError::AuthFailed.message() {
            break refused;
        }
        assert!(Instant::now() < deadline, "it may guess for ever");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    guesser
        .log_in("root", &password("root"))
        .await
        .expect("another user");
    let endpoint = format!("http://{}", cluster.server(0).client_addr());
    let endpoint = tonic::transport::Endpoint::from_shared(endpoint).unwrap();
    let channel = endpoint.local_address(Some([127, 0, 0, 3].into())).connect_lazy();
    let mut elsewhere = User {
        auth: AuthClient::new(channel.clone()),
        client: Client::new(channel),
        token: None,
    };
    elsewhere
        .log_in("alice", &password("alice"))
        .await
        .expect("another address");
}

/// Whether a file below this directory has these bytes.
fn is_on_disk(directory: &std::path::Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_on_disk(&path, bytes),
            false => std::fs::read(&path)
                .unwrap_or_default()
                .windows(bytes.len())
                .any(|window| window == bytes),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_and_no_token_is_on_the_disk() {
    let mut cluster = cluster(1).await;
    let mut root = guard(&cluster).await;
    root.put_value("a/key", "the value").await.unwrap();
    cluster.stop(0).await;
    let directory = &cluster.config(0).data_dir;
    assert!(
        is_on_disk(directory, b"the value"),
        "it is not looked at where it is written"
    );
    for secret in [password("root"), password("alice"), root.token.unwrap()] {
        assert!(!is_on_disk(directory, secret.as_bytes()), "{secret}");
    }
}
