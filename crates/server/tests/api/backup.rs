//! Backups: what is streamed, and clusters that are restored from it.

use std::path::{Path, PathBuf};

use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::*;
use quorate_server::{Backup, HashCheck, Restore, RestoreError, Restored, Server, ServerConfig};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Client, Cluster, put, range};
use crate::users::{User, guard};

/// All pieces of a backup, checked as etcd's client checks them.
async fn saved(mut client: MaintenanceClient<Channel>, token: Option<&str>) -> Vec<u8> {
    let mut request = tonic::Request::new(SnapshotRequest {});
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    let mut stream = client.snapshot(request).await.unwrap().into_inner();
    let (mut file, mut remaining) = (Vec::new(), None);
    while let Some(piece) = stream.message().await.unwrap() {
        assert!(piece.blob.len() <= 32 << 10);
        if let Some(remaining) = remaining
            && remaining > 0
        {
            assert_eq!(piece.remaining_bytes, remaining - piece.blob.len() as u64);
        }
        remaining = Some(piece.remaining_bytes);
        file.extend_from_slice(&piece.blob);
    }
    assert_eq!(remaining, Some(0));
    assert_eq!(file.len() % 512, 32);
    let (database, digest) = file.split_at(file.len() - 32);
    assert_eq!(Sha256::digest(database)[..], *digest);
    file
}

fn written(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let file = dir.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    file
}

fn restore(file: &Path, member: &ServerConfig, dir: &TempDir) -> Restore {
    Restore {
        file: file.to_owned(),
        check: HashCheck::Required,
        bump_revision: 0,
        mark_compacted: false,
        member: ServerConfig {
            data_dir: dir.path().join(&member.name),
            ..member.clone()
        },
    }
}

fn client(server: &Server) -> Client {
    let address = format!("http://{}", server.client_addr());
    Client::new(Endpoint::from_shared(address).unwrap().connect_lazy())
}

/// Members that were restored, running.
struct Again {
    servers: Vec<Server>,
    restored: Vec<Restored>,
    dir: TempDir,
}

/// Restores the members of a stopped cluster from one file, and starts those named.
async fn again(old: &Cluster, bytes: &[u8], members: &[usize], change: impl Fn(&mut Restore)) -> Again {
    let dir = tempfile::tempdir().unwrap();
    let file = written(&dir, "backup.db", bytes);
    let (mut servers, mut restored) = (Vec::new(), Vec::new());
    for &member in members {
        let mut restore = restore(&file, old.config(member), &dir);
        change(&mut restore);
        let member = restore.member.clone();
        restored.push(restore.run().unwrap());
        servers.push(Server::start(member).await.unwrap());
    }
    for server in &servers {
        server.ready().await;
    }
    Again {
        servers,
        restored,
        dir,
    }
}

async fn fill(client: &mut Client) {
    for n in 0..300 {
        client
            .put(&format!("k{:03}", n % 70), &format!("value {n}"))
            .await;
    }
    client.delete("k001", "").await;
    client.compact(150).await;
    client.put("large", &"x".repeat(300_000)).await;
    client.grant(1000, 77).await;
    let mut leased = put("leased", "1");
    leased.lease = 77;
    client.kv.put(leased).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_from_one_file_are_the_same_cluster_and_another_one() {
    let mut old = Cluster::start(3).await;
    fill(&mut old.client(0)).await;
    let all = old.client(1).range(range("\0", "\0")).await;
    let revision = all.header.unwrap().revision;
    let hash = old.client(1).hash(revision).await.hash;
    let bytes = saved(old.client(1).maintenance, None).await;
    let old_ids = old.server(0).identity().clone();
    for member in 0..3 {
        old.stop(member).await;
    }

    let again = again(&old, &bytes, &[0, 1, 2], |_| {}).await;
    let ids = &again.restored[0].identity;
    assert_ne!(ids.cluster_id, old_ids.cluster_id);
    let kept = ids.members.keys().filter(|id| old_ids.members.contains_key(id));
    assert_eq!(kept.count(), 0);
    for server in &again.servers {
        let mut client = client(server);
        assert_eq!(server.identity().cluster_id, ids.cluster_id);
        let now = client.range(range("\0", "\0")).await;
        assert_eq!((now.kvs, now.count), (all.kvs.clone(), all.count));
        assert_eq!(now.header.unwrap().revision, revision);
        assert_eq!(client.hash(revision).await.hash, hash);
        let past = RangeRequest {
            revision: 149,
            ..range("k000", "")
        };
        let error = client.kv.range(past).await.unwrap_err();
        assert!(error.message().contains("compacted"), "{error}");
    }
    let mut client = client(&again.servers[0]);
    let lease = LeaseTimeToLiveRequest { id: 77, keys: true };
    let lease = client.lease.lease_time_to_live(lease).await.unwrap().into_inner();
    assert_eq!((lease.granted_ttl, lease.keys), (1000, vec!["leased".into()]));
    assert!((0..=1000).contains(&lease.ttl), "{}", lease.ttl);
    client
        .lease
        .lease_revoke(LeaseRevokeRequest { id: 77 })
        .await
        .unwrap();
    assert!(client.get("leased").await.is_none());
    assert_eq!(client.put("k001", "again").await, revision + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_old_cluster_stays_outside() {
    let mut old = Cluster::start(3).await;
    let revision = old.client(0).put("a", "1").await;
    let bytes = saved(old.client(0).maintenance, None).await;
    old.client(0).put("a", "after the backup").await;
    for member in 0..3 {
        old.stop(member).await;
    }
    let again = again(&old, &bytes, &[0, 1], |_| {}).await;
    // It has the same settings, and a longer log.
    old.restart(2).await;
    let mut client = client(&again.servers[0]);
    for n in 0..50 {
        assert_eq!(client.put("a", "2").await, revision + 1 + n);
    }
    assert!(!old.server(2).has_leader());
    let list = MemberListRequest { linearizable: false };
    let listed = client
        .cluster
        .member_list(list)
        .await
        .unwrap()
        .into_inner()
        .members;
    assert_eq!(listed.len(), 3);
    let stranger = old.server(2).identity().member_id;
    assert!(listed.iter().all(|member| member.id != stranger));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_come_back_and_only_root_takes_backups() {
    let mut old = crate::users::cluster(1).await;
    guard(&old).await;
    let root = User::named(&old, 0, "root").await;
    let alice = User::named(&old, 0, "alice").await;
    let refused = old.client(0).maintenance.snapshot(SnapshotRequest {}).await;
    assert_eq!(refused.map(|_| ()).unwrap_err().code(), Code::InvalidArgument);
    let mut request = tonic::Request::new(SnapshotRequest {});
    let token = alice.token.as_deref().unwrap();
    request.metadata_mut().insert("token", token.parse().unwrap());
    let refused = old.client(0).maintenance.snapshot(request).await;
    assert_eq!(refused.map(|_| ()).unwrap_err().code(), Code::PermissionDenied);
    let bytes = saved(old.client(0).maintenance, root.token.as_deref()).await;
    old.stop(0).await;

    let again = again(&old, &bytes, &[0], |_| {}).await;
    let mut auth = auth_client::AuthClient::new(client(&again.servers[0]).channel);
    let status = auth.auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert!(status.enabled);
    let login = |password: &str| AuthenticateRequest {
        name: "alice".to_owned(),
        password: password.to_owned(),
    };
    assert!(auth.authenticate(login("not hers")).await.is_err());
    let denied = client(&again.servers[0]).kv.put(put("anything", "1")).await;
    assert!(denied.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bumped_revision_is_gone_on_from_and_survives_the_next_backup() {
    let mut old = Cluster::start(1).await;
    let revision = old.client(0).put("a", "1").await;
    let bytes = saved(old.client(0).maintenance, None).await;
    old.stop(0).await;
    let bumped = again(&old, &bytes, &[0], |restore| restore.bump_revision = 1000).await;
    let mut first = client(&bumped.servers[0]);
    let mut kv = first.get("a").await.unwrap();
    assert_eq!(kv.mod_revision, revision);
    let header = first.range(range("a", "")).await.header.unwrap();
    assert_eq!(header.revision, revision + 1000);
    let bytes = saved(first.maintenance.clone(), None).await;
    for server in bumped.servers {
        server.shutdown().await;
    }
    let compacted = again(&old, &bytes, &[0], |restore| {
        restore.bump_revision = 5;
        restore.mark_compacted = true;
    })
    .await;
    let mut second = client(&compacted.servers[0]);
    kv = second.get("a").await.unwrap();
    assert_eq!((kv.mod_revision, &kv.value[..]), (revision, &b"1"[..]));
    let past = RangeRequest {
        revision: revision + 1004,
        ..range("a", "")
    };
    let error = second.kv.range(past).await.unwrap_err();
    assert!(error.message().contains("compacted"), "{error}");
    assert_eq!(second.put("b", "1").await, revision + 1006);
    assert_ne!(
        bumped.restored[0].identity.cluster_id,
        compacted.restored[0].identity.cluster_id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_member_starts_again_and_its_salt_counts() {
    let mut old = Cluster::start(1).await;
    old.client(0).put("a", "1").await;
    let bytes = saved(old.client(0).maintenance, None).await;
    old.stop(0).await;
    let mut again = again(&old, &bytes, &[0], |_| {}).await;
    client(&again.servers[0]).put("b", "2").await;
    again.servers.remove(0).shutdown().await;
    let member = ServerConfig {
        data_dir: again.dir.path().join(&old.config(0).name),
        ..old.config(0).clone()
    };
    let server = Server::start(member.clone()).await.unwrap();
    server.ready().await;
    assert!(client(&server).get("b").await.is_some());
    server.shutdown().await;

    let salt = member.data_dir.join("RESTORED");
    let good = std::fs::read(&salt).unwrap();
    std::fs::write(&salt, &good[..good.len() - 3]).unwrap();
    let error = Server::start(member.clone()).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("RESTORED"), "{error}");
    std::fs::remove_file(&salt).unwrap();
    let error = Server::start(member).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("belongs to"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_while_a_backup_waits_for_its_client() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for n in 0..40 {
        client.put(&format!("k{n}"), &"x".repeat(50_000)).await;
    }
    let before = client.range(range("\0", "\0")).await;
    let mut stream = cluster
        .client(0)
        .maintenance
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut file = stream.message().await.unwrap().unwrap().blob.to_vec();
    // The rest waits. What it is of stays, though it is overwritten and compacted.
    let mut revision = 0;
    for n in 0..40 {
        revision = client.put(&format!("k{n}"), "overwritten").await;
    }
    client.compact(revision).await;
    while let Some(piece) = stream.message().await.unwrap() {
        file.extend_from_slice(&piece.blob);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = written(&dir, "backup.db", &file);
    let status = Backup::open(&file, HashCheck::Required)
        .unwrap()
        .status()
        .unwrap();
    assert_eq!(status.revision, before.header.unwrap().revision);
    // One whose client goes away ends, and history is removed again.
    let abandoned = cluster.client(0).maintenance.snapshot(SnapshotRequest {}).await;
    drop(abandoned);
    let revision = client.put("k0", "once more").await;
    client.compact(revision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_says_why_and_leaves_nothing() {
    let cluster = Cluster::start(1).await;
    cluster.client(0).put("a", "1").await;
    let bytes = saved(cluster.client(0).maintenance, None).await;
    let dir = tempfile::tempdir().unwrap();
    let refused = |bytes: &[u8], check: HashCheck| {
        let file = written(&dir, "backup.db", bytes);
        let mut restore = restore(&file, cluster.config(0), &dir);
        restore.check = check;
        let error = restore.run().unwrap_err().to_string();
        assert!(!restore.member.data_dir.exists(), "{error}");
        error
    };
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    assert!(refused(&flipped, HashCheck::Required).contains("SHA-256"));
    let database = &bytes[..bytes.len() - 32];
    assert!(refused(database, HashCheck::Required).contains("--skip-hash-check"));
    let cut = &database[..database.len() - 4096];
    assert!(refused(cut, HashCheck::Skipped).contains("cut off"));
    assert!(refused(b"no database", HashCheck::Skipped).contains("not a bbolt database"));
    assert!(refused(b"", HashCheck::Skipped).contains("not a bbolt database"));

    let file = written(&dir, "backup.db", &bytes);
    let mut taken = restore(&file, cluster.config(0), &dir);
    taken.member.data_dir = dir.path().to_owned();
    assert!(matches!(taken.run(), Err(RestoreError::NotEmpty(_))));
    taken.member.data_dir = dir.path().join("new");
    taken.member.name = "nobody".to_owned();
    assert!(taken.run().unwrap_err().to_string().contains("--initial-cluster"));
    std::fs::create_dir(dir.path().join("new")).unwrap();
    taken.member.name = cluster.config(0).name.clone();
    taken.run().unwrap();
}

/// Files that etcd wrote, and one of ours, each with what etcdctl says of it.
const GOLDEN: [(&str, &[u8], u32, u64); 3] = [
    (
        "etcd 3.4.23",
        include_bytes!("../golden/etcd-3.4.23.db"),
        0xb438_1c1a,
        32,
    ),
    (
        "etcd 3.5.1",
        include_bytes!("../golden/etcd-3.5.1.db"),
        0xeee4_d508,
        34,
    ),
    (
        "quorate",
        include_bytes!("../golden/quorate-v1.db"),
        0x0b91_a9fc,
        33,
    ),
];

fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_release_are_summed_up_and_restored() {
    let mut cluster = Cluster::start(1).await;
    cluster.stop(0).await;
    for (name, bytes, hash, total_key) in GOLDEN {
        let dir = tempfile::tempdir().unwrap();
        let file = written(&dir, "golden.db", bytes);
        let status = Backup::open(&file, HashCheck::Required)
            .unwrap()
            .status()
            .unwrap();
        assert_eq!(
            (status.hash, status.revision, status.total_key),
            (hash, 34, total_key),
            "{name}"
        );
        assert_eq!(status.total_size + 32, bytes.len() as u64, "{name}");

        let again = again(&cluster, bytes, &[0], |_| {}).await;
        let mut client = client(&again.servers[0]);
        let login = AuthenticateRequest {
            name: "root".to_owned(),
            password: "pw".to_owned(),
        };
        let mut auth = auth_client::AuthClient::new(client.channel.clone());
        let token = auth.authenticate(login).await.unwrap().into_inner().token;
        let all = with_token(range("\0", "\0"), &token);
        let found = client.kv.range(all).await.unwrap().into_inner();
        let keys = crate::harness::keys(&found);
        assert_eq!(
            keys,
            ["k/0", "k/1", "k/2", "k/4", "k/5", "k/6", "leased"],
            "{name}"
        );
        assert_eq!(found.header.unwrap().revision, 34, "{name}");
        assert_eq!(
            (&found.kvs[2].value[..], found.kvs[2].version),
            (&b"v30"[..], 5),
            "{name}"
        );
        let id = found.kvs[6].lease;
        let ask = with_token(LeaseTimeToLiveRequest { id, keys: true }, &token);
        let lease = client.lease.lease_time_to_live(ask).await.unwrap().into_inner();
        assert_eq!(
            (lease.granted_ttl, lease.keys),
            (5000, vec!["leased".into()]),
            "{name}"
        );
        let past = RangeRequest {
            revision: 19,
            ..range("k/0", "")
        };
        let error = client.kv.range(with_token(past, &token)).await.unwrap_err();
        assert!(error.message().contains("compacted"), "{name}: {error}");
    }
}
