//! Peers that speak TLS: who is let in, who is not, what the log says of it, and certificates that change.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod common;

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::BytesMut;
use common::{Cluster, LOG, PATIENCE, eventually, logged};
use quorate::codec::frame::{self, ClusterId, MAX_BODY_BYTES};
use quorate::codec::{Frame, Hello, Incarnation, Inquiry, StreamKind};
use quorate::{
    AllowedPeers, Config, InquiryError, KeyPairFiles, NodeId, PeerTls, StartError, TlsProtocol, TlsTerms,
    inquire, inquire_securely,
};
use quorate_tls::testing::{Authority, Leaf};
use quorate_tls::{BlockingStream, Connector, Trust};

static OURS: LazyLock<Authority> = LazyLock::new(|| Authority::new("ours"));
static THEIRS: LazyLock<Authority> = LazyLock::new(|| Authority::new("theirs"));

/// Where a cluster's certificates are, which is beside the nodes' directories.
fn certificates(config: &Config) -> PathBuf {
    config.data_dir.parent().unwrap().to_owned()
}

/// The node's certificate; issued unless a test has put one there.
fn pair(config: &Config) -> KeyPairFiles {
    let (directory, name) = (certificates(config), format!("node{}", config.node.0));
    let pair = KeyPairFiles {
        cert_file: directory.join(format!("{name}.pem")),
        key_file: directory.join(format!("{name}-key.pem")),
    };
    match pair.cert_file.exists() {
        true => pair,
        false => OURS.issue(
            &directory,
            &name,
            &Leaf::for_hosts(["127.0.0.1"]).and_named("peer"),
        ),
    }
}

fn authority_file(config: &Config) -> PathBuf {
    let file = certificates(config).join("ca.pem");
    match file.exists() {
        true => file,
        false => OURS.write(&certificates(config), "ca"),
    }
}

fn mutual(config: Config) -> Config {
    let tls = PeerTls::mutual(pair(&config), authority_file(&config));
    config.tls(tls)
}

/// A node with this certificate, and a list of those that were revoked.
fn knowing_revoked(config: Config, leaf: &Leaf, revoked_file: Option<PathBuf>) -> Config {
    let name = format!("node{}", config.node.0);
    let tls = PeerTls::Mutual {
        pair: OURS.issue(&certificates(&config), &name, leaf),
        trusted_ca_file: authority_file(&config),
        allowed: AllowedPeers::MemberHost,
        terms: TlsTerms {
            revoked_file,
            ..TlsTerms::default()
        },
    };
    config.tls(tls)
}

fn allowing(config: Config, allowed: AllowedPeers) -> Config {
    let tls = PeerTls::Mutual {
        pair: pair(&config),
        trusted_ca_file: authority_file(&config),
        allowed,
        terms: TlsTerms::default(),
    };
    config.tls(tls)
}

/// A client of a node's port for peers that speaks TLS, with such a certificate.
fn dial(cluster: &Cluster, leaf: &Leaf) -> BlockingStream {
    let directory = tempfile::tempdir().unwrap();
    let pair = OURS.issue(directory.path(), "hostile", leaf);
    let trust = Trust::CertifiedBy(OURS.write(directory.path(), "ca"));
    let connector = Connector::open(Some(pair), &trust, &[]).unwrap();
    let stream = TcpStream::connect(cluster.address(1)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    connector.connect_blocking("127.0.0.1", stream).unwrap()
}

fn ask(stream: &mut (impl Read + Write), frame: &Frame) -> io::Result<Option<Frame>> {
    let mut bytes = BytesMut::new();
    frame::encode(frame, &mut bytes);
    stream.write_all(&bytes)?;
    stream.flush()?;
    bytes.clear();
    loop {
        if let Some(frame) = frame::decode(&mut bytes, MAX_BODY_BYTES).unwrap() {
            return Ok(Some(frame));
        }
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

/// What node 2 would say to node 1, if it came with another directory.
fn hello() -> Frame {
    Frame::Hello(Hello {
        version: frame::VERSION,
        oldest_version: frame::OLDEST_VERSION,
        cluster: ClusterId(1),
        from: NodeId(2),
        to: NodeId(1),
        incarnation: Incarnation(2),
        stream: StreamKind::Messages,
    })
}

fn refusal(answer: io::Result<Option<Frame>>) -> String {
    match answer {
        Ok(Some(Frame::Refusal(refusal))) => refusal.reason,
        other => panic!("no refusal: {other:?}"),
    }
}

/// Whether a node knows a leader, some time after it should if it could.
async fn takes_part(cluster: &Cluster, node: u64) -> bool {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = cluster.node(node).status().await.unwrap();
    status.leader.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_works_and_a_node_that_was_away_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::start_with(3, |config| {
        let mut config = mutual(config);
        config.snapshots.every_entries = 20;
        config.limits.retained_entries = 2;
        config
    });
    cluster.write(1, 0).await;
    cluster.stop_node(3).await;
    let values: Vec<u64> = (0..100).collect();
    for value in &values[1..] {
        cluster.node(1).propose(*value).await.unwrap();
    }
    cluster.start_node(3);
    cluster.all_hold(&values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_speaks_for_the_member_at_its_host_only() {
    let cluster = Cluster::start_with(3, mutual);
    cluster.write(1, 1).await;
    // It is by the right authority, for another host.
    let other = refusal(ask(
        &mut dial(&cluster, &Leaf::for_hosts(["127.0.0.9"])),
        &hello(),
    ));
    assert!(
        other.contains("not for 127.0.0.1, where node 2 is reached"),
        "{other}"
    );
    let nobody = refusal(ask(&mut dial(&cluster, &Leaf::named("127.0.0.1")), &hello()));
    assert!(nobody.contains("not for 127.0.0.1"), "{nobody}");
    // The right host: what is wrong is found out after that.
    let right = refusal(ask(
        &mut dial(&cluster, &Leaf::for_hosts(["127.0.0.1"])),
        &hello(),
    ));
    assert!(right.contains("data directory"), "{right}");
}

/// No certificate is for the host of a node that is no member: that it was removed is said all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_removed_while_it_was_down_is_told_so() {
    let mut cluster = Cluster::start_with(3, mutual);
    cluster.write(3, 1).await;
    cluster.all_hold(&[1]).await;
    cluster.stop_node(3).await;
    cluster.node(1).remove(NodeId(3)).await.unwrap();
    cluster.start_node(3);
    let ended = tokio::time::timeout(Duration::from_secs(20), cluster.node(3).closed()).await;
    let stopped = ended.expect("it dials on, although it was removed").to_string();
    assert!(stopped.contains("removed from the cluster"), "{stopped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_names_or_hosts_says_who_is_a_peer() {
    let names = |config| allowing(config, AllowedPeers::CommonNames(["peer".to_owned()].into()));
    let hosts = |config| allowing(config, AllowedPeers::Hosts(["127.0.0.1".to_owned()].into()));
    let inquiry = Frame::Inquiry(Inquiry {
        version: frame::VERSION,
        oldest_version: frame::OLDEST_VERSION,
        address: String::new(),
    });
    let client = Leaf::for_hosts(["127.0.0.8"]).and_named("client");
    for (settings, why) in [
        (names as fn(Config) -> Config, "the common name \"client\""),
        (hosts, "none of the hosts allowed"),
    ] {
        let cluster = Cluster::start_with(3, settings);
        cluster.write(1, 1).await;
        cluster.all_hold(&[1]).await;
        for frame in [&hello(), &inquiry] {
            let refused = refusal(ask(&mut dial(&cluster, &client), frame));
            assert!(refused.contains(why), "{refused}");
        }
    }
    let cluster = Cluster::start_with(3, names);
    let elsewhere = Leaf::for_hosts(["127.0.0.8"]).and_named("peer");
    let allowed = refusal(ask(&mut dial(&cluster, &elsewhere), &hello()));
    assert!(!allowed.contains("certificate"), "{allowed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_authority_is_left_out_until_the_files_say_otherwise() {
    LazyLock::force(&LOG);
    let mut cluster = Cluster::start_with(3, mutual);
    cluster.write(1, 1).await;
    cluster.all_hold(&[1]).await;
    cluster.stop_node(3).await;
    let directory = certificates(&cluster.config(3));
    THEIRS.issue(&directory, "node3", &Leaf::for_hosts(["127.0.0.1"]));
    cluster.start_node(3);
    cluster.write(1, 2).await;
    assert!(!takes_part(&cluster, 3).await);
    // It is refused as who dials, and left as who is dialed; each side says so.
    logged(&[
        "connection was closed",
        "not by an authority that is trusted here",
    ])
    .await;
    let (first, third) = (cluster.address(1), cluster.address(3));
    logged(&[
        "not connected",
        &third,
        "not by an authority that is trusted here",
    ])
    .await;
    logged(&["not connected", &first, "refused the TLS handshake: UnknownCA"]).await;

    let ca = directory.join("ca.pem");
    let both = fs::read_to_string(&ca).unwrap() + &read(&THEIRS.write(&directory, "theirs"));
    fs::write(&ca, "no certificate").unwrap();
    logged(&["stay in use", "ca.pem: there is no certificate"]).await;
    fs::write(&ca, both).unwrap();
    cluster.all_hold(&[1, 2]).await;
    cluster.write(3, 3).await;
    cluster.all_hold(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_no_peers() {
    LazyLock::force(&LOG);
    let mut cluster = Cluster::start_with(3, mutual);
    cluster.write(1, 1).await;
    cluster.stop_node(2).await;
    let config = cluster.config(2);
    OURS.issue(
        &certificates(&config),
        "node2",
        &Leaf::for_hosts(["127.0.0.1"]).expired(),
    );
    cluster.start_node(2);
    cluster.write(1, 2).await;
    assert!(!takes_part(&cluster, 2).await);
    logged(&["a certificate of this node is not valid", "node2.pem"]).await;
    logged(&["connection was closed", "it has expired"]).await;
    logged(&["not connected", &cluster.address(2), "it has expired"]).await;
    logged(&[
        "not connected",
        &cluster.address(1),
        "refused the TLS handshake: CertificateExpired",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_and_tls_refuse_each_other_and_say_so() {
    LazyLock::force(&LOG);
    let cluster = Cluster::start_with(3, |config| match config.node {
        NodeId(3) => config,
        _ => mutual(config),
    });
    cluster.write(1, 1).await;
    assert!(!takes_part(&cluster, 3).await);
    let ours = "the other end speaks TLS, and this node does not";
    logged(&["connection was closed", ours]).await;
    logged(&["not connected", &cluster.address(1), ours]).await;
    logged(&[
        "connection was closed",
        "the other end does not speak TLS, and this end does",
    ])
    .await;
    logged(&["not connected", &cluster.address(3), "does it speak TLS?"]).await;

    // What is no TLS at all gets no answer in the peers' protocol.
    let mut stream = TcpStream::connect(cluster.address(1)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    stream.write_all(b"quorate? quorate? quorate?").unwrap();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_certificate_was_revoked_is_refused_at_either_end() {
    LazyLock::force(&LOG);
    let cluster = Cluster::start_with(3, |config| {
        let directory = certificates(&config);
        let leaf = Leaf::for_hosts(["127.0.0.1"]);
        let (leaf, revoked_file) = match config.node {
            NodeId(3) => (leaf.numbered(77), None),
            _ => (leaf, Some(OURS.revoke(&directory, "revoked", &[77]))),
        };
        knowing_revoked(config, &leaf, revoked_file)
    });
    cluster.write(1, 1).await;
    logged(&["connection was closed", "it was revoked"]).await;
    logged(&["not connected", "it was revoked"]).await;
}

async fn stays_without(cluster: &Cluster, node: u64, value: u64) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let values = cluster.node(node).read_local(()).await.unwrap();
    assert!(
        !values.contains(&value),
        "node {node} still hears of what is written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_when_the_certificate_is_revoked_that_they_began_with() {
    LazyLock::force(&LOG);
    let cluster = Cluster::start_with(3, |config| {
        let directory = certificates(&config);
        let leaf = Leaf::for_hosts(["127.0.0.1"]).numbered(100 + config.node.0);
        let revoked_file = match config.node {
            NodeId(3) => None,
            _ => Some(OURS.revoke(&directory, "revoked", &[99])),
        };
        knowing_revoked(config, &leaf, revoked_file)
    });
    cluster.write(1, 1).await;
    cluster.all_hold(&[1]).await;
    // A list that concerns nobody who is connected ends nothing.
    let directory = certificates(&cluster.config(1));
    OURS.revoke(&directory, "revoked", &[98, 99]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.write(3, 2).await;
    cluster.all_hold(&[1, 2]).await;
    assert!(!common::log_contains(&["no longer trusted", "revoked"]));

    OURS.revoke(&directory, "revoked", &[99, 103]);
    let third = cluster.address(3);
    logged(&[
        "connection was closed",
        &third,
        "no longer trusted",
        "it was revoked",
    ])
    .await;
    logged(&["not connected", &third, "no longer trusted", "it was revoked"]).await;
    cluster.write(1, 3).await;
    stays_without(&cluster, 3, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_when_the_authority_of_their_certificate_is_trusted_no_more() {
    LazyLock::force(&LOG);
    let cluster = Cluster::start_with(3, |config| {
        let directory = certificates(&config);
        let authorities = OURS.write(&directory, &format!("ca{}", config.node.0));
        let tls = PeerTls::mutual(pair(&config), authorities);
        config.tls(tls)
    });
    cluster.write(1, 1).await;
    cluster.all_hold(&[1]).await;

    // All trust both. Two get certificates by the new one, and trust it alone from then on.
    let directory = certificates(&cluster.config(1));
    let theirs = read(&THEIRS.write(&directory, "theirs"));
    for node in 1..=3 {
        let file = directory.join(format!("ca{node}.pem"));
        let both = read(&file) + &theirs;
        fs::write(file, both).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leaf = Leaf::for_hosts(["127.0.0.1"]);
    for node in 1..=2 {
        THEIRS.issue(&directory, &format!("node{node}"), &leaf);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.write(3, 2).await;
    cluster.all_hold(&[1, 2]).await;
    for node in 1..=2 {
        fs::write(directory.join(format!("ca{node}.pem")), &theirs).unwrap();
    }
    let [first, second, third] = [1, 2, 3].map(|node| cluster.address(node));
    let why = ["no longer trusted", "not by an authority that is trusted here"];
    for what in ["connection was closed", "not connected"] {
        logged(&[what, &third, why[0], why[1]]).await;
        // Whichever of the two looks first ends it.
        eventually("one ended its connection to the other", || async {
            let told = |peer| common::log_contains(&[what, peer, why[0], why[1]]);
            (told(&first) || told(&second)).then_some(())
        })
        .await;
    }
    // The two find each other again; the third is out until it has a certificate by the new authority.
    cluster.write(1, 3).await;
    stays_without(&cluster, 3, 3).await;
    THEIRS.issue(&directory, "node3", &leaf);
    cluster.all_hold(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_alone_needs_no_authority() {
    let cluster = Cluster::start_with(3, |config| {
        let hosts = ["nowhere.example".to_owned()];
        let pair = quorate_tls::self_signed(&config.data_dir.with_extension("tls"), "peer", &hosts);
        config.tls(PeerTls::EncryptedOnly {
            pair: pair.unwrap(),
            protocol: TlsProtocol::default(),
        })
    });
    cluster.write(1, 1).await;
    cluster.all_hold(&[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_asks_by_tls() {
    let cluster = Cluster::start_with(2, mutual);
    cluster.write(1, 1).await;
    let config = cluster.config(1);
    let (members, own) = ([cluster.address(1)], cluster.address(2));
    let tls = config.tls.clone().unwrap();
    assert_eq!(inquire_securely(&members, &own, &tls).unwrap().node, NodeId(2));
    let plain = inquire(&members, &own).unwrap_err();
    assert!(matches!(plain, InquiryError::Unreachable { .. }), "{plain}");
    let directory = tempfile::tempdir().unwrap();
    let strange = THEIRS.issue(directory.path(), "strange", &Leaf::for_hosts(["127.0.0.1"]));
    let strange = PeerTls::mutual(strange, authority_file(&config));
    let refused = inquire_securely(&members, &own, &strange)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("UnknownCA"), "{refused}");
}

#[tokio::test]
async fn a_node_without_good_certificates_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new(1)
        .peers([(1, "127.0.0.1:0")])
        .data_dir(directory.path().join("1"));
    let pair = pair(&config);
    let config = config.tls(PeerTls::mutual(pair, directory.path().join("missing.pem")));
    let data_dir = config.data_dir.clone();
    match config.start::<common::Journal>() {
        Err(error @ StartError::Tls(_)) => assert!(error.to_string().contains("missing.pem"), "{error}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
    assert!(!data_dir.exists(), "nothing was made on the disk");
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}
