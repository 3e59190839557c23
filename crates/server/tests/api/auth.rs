//! Users, roles and permissions as a client meets them.

use futures::StreamExt;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::authpb::permission::Type;
use quorate_etcd_api::etcdserverpb::*;
use quorate_etcd_api::v3lockpb::LockRequest;
use quorate_etcd_api::v3lockpb::lock_client::LockClient;

use crate::harness::{put, range};
use crate::users::{User, check, cluster, guard, watch, watch_create};

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
