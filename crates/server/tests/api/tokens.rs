//! Logins and tokens as a client meets them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::authpb::UserAddOptions;
use quorate_etcd_api::authpb::permission::Type;
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::*;
use quorate_server::TokenKind;
use tonic::Code;

use crate::harness::{Client, Cluster, PATIENCE};
use crate::users::{User, cheap, check, cluster, guard, password, watch, watch_create};

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
        let again = user.with_token(AuthenticateRequest {
            name: "alice".to_owned(),
            password: password("alice"),
        });
        user.auth
            .authenticate(again)
            .await
            .expect("whoever logs in needs no token");
        check(user.put("a/1").await, EtcdError::InvalidAuthToken);
    }
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

/// Users change at one member while clients ask the others, which hear of it a little later.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_while_other_users_change() {
    let cluster = cluster(3).await;
    let mut root = guard(&cluster).await;
    root.role_add("other").await.unwrap();
    let mut alice = User::named(&cluster, 0, "alice").await;
    alice.put("a/1").await.unwrap();
    let changes = async {
        for turn in 0..CHANGES {
            root.permit("other", Type::Read, &format!("other/{turn}"), "")
                .await
                .unwrap();
        }
    };
    let mut members = [0, 1, 2].map(|member| alice.at(&cluster, member));
    let calls = async {
        loop {
            for alice in &mut members {
                alice.put("a/1").await.unwrap();
                assert_eq!(alice.get("a/1", "").await.unwrap(), 1);
                check(alice.get("b", "").await, EtcdError::PermissionDenied);
                let nobodys = futures::stream::iter([LeaseKeepAliveRequest { id: 404 }]);
                let request = alice.with_token(nobodys);
                let answers = alice.client.lease.lease_keep_alive(request).await.unwrap();
                answers.into_inner().next().await.unwrap().unwrap();
                let (_open, mut responses) = watch(alice, vec![watch_create("a/1", "")]).await;
                let created = responses.next().await.unwrap().unwrap();
                assert!(created.created && !created.canceled, "{}", created.cancel_reason);
            }
        }
    };
    tokio::select! {
        () = changes => {}
        () = calls => {}
    }
}

/// While a member has yet to hear that authentication was turned on, whoever shows a token is not taken for somebody
/// who shows none.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_looked_at_as_soon_as_authentication_is_on() {
    let cluster = cluster(3).await;
    let mut root = guard(&cluster).await;
    let mut nobody = User::nobody(&cluster, 0);
    let turns = async {
        for _ in 0..20 {
            let disable = root.with_token(AuthDisableRequest {});
            root.auth.auth_disable(disable).await.unwrap();
            nobody.auth.auth_enable(AuthEnableRequest {}).await.unwrap();
            root.log_in("root", &password("root")).await.unwrap();
        }
    };
    let mut forger = User::nobody(&cluster, 0);
    forger.token = Some("0".repeat(64));
    let mut members = [1, 2].map(|member| forger.at(&cluster, member));
    let calls = async {
        loop {
            for forger in &mut members {
                if let Err(status) = forger.put("a/1").await {
                    assert_eq!(status.message(), EtcdError::InvalidAuthToken.message());
                }
            }
        }
    };
    tokio::select! {
        () = turns => {}
        () = calls => {}
    }
}

/// Many enough that calls meet some on their way.
const CHANGES: usize = 200;

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
