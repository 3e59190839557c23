//! Whatever comes to the port of a node's peers: the worst that happens is a closed connection, unless
//! a member proves that safety is lost already, by leading in another leader's term. Then the node stops.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{Cluster, LOG, PATIENCE, eventually, logged};
use quorate::NodeId;
use quorate::codec::frame::{self, ClusterId, MAX_BODY_BYTES, SnapshotOffer};
use quorate::codec::{Frame, Hello, Incarnation, Inquiry, StreamKind};
use quorate_raft::{Configuration, EntryId, Envelope, GroupId, Index, Message, SnapshotMeta, Term};

/// What node 2 of the cluster would say to node 1.
fn hello() -> Hello {
    Hello {
        version: frame::VERSION,
        oldest_version: frame::OLDEST_VERSION,
        cluster: ClusterId(1),
        from: NodeId(2),
        to: NodeId(1),
        incarnation: Incarnation(2),
        stream: StreamKind::Messages,
    }
}

fn connect(cluster: &Cluster) -> TcpStream {
    let stream = TcpStream::connect(cluster.address(1)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection to node 1 from an address that no member has.
fn connect_from(cluster: &Cluster, host: Ipv4Addr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((host, 0)).into()).unwrap();
    let address: SocketAddr = cluster.address(1).parse().unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn say(stream: &mut TcpStream, frame: &Frame) {
    let mut bytes = BytesMut::new();
    frame::encode(frame, &mut bytes);
    stream.write_all(&bytes).unwrap();
}

/// The next frame; none when the node has closed the connection.
fn hear(stream: &mut TcpStream) -> Option<Frame> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(frame) = frame::decode(&mut bytes, MAX_BODY_BYTES).unwrap() {
            return Some(frame);
        }
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer) {
            // A reset is a close with bytes of ours left unread.
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

fn refusal_of(cluster: &Cluster, hello: Hello) -> String {
    let mut stream = connect(cluster);
    say(&mut stream, &Frame::Hello(hello));
    let Some(Frame::Refusal(refusal)) = hear(&mut stream) else {
        panic!("no refusal of {hello:?}");
    };
    assert_eq!(hear(&mut stream), None, "and the connection is closed");
    refusal.reason
}

/// A group of three that has written once: whoever connects can pretend to be a member.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(3);
    cluster.node(1).propose(1).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_belong_is_refused_with_a_reason() {
    let cluster = cluster().await;
    let foreign = refusal_of(
        &cluster,
        Hello {
            cluster: ClusterId(9),
            ..hello()
        },
    );
    assert!(foreign.contains("cluster 0000000000000009"), "{foreign}");
    let misled = refusal_of(
        &cluster,
        Hello {
            to: NodeId(3),
            ..hello()
        },
    );
    assert!(misled.contains("you want node 3, this is node 1"), "{misled}");
    let stranger = refusal_of(
        &cluster,
        Hello {
            from: NodeId(8),
            ..hello()
        },
    );
    assert!(stranger.contains("node 8 is no member"), "{stranger}");
    let newer = Hello {
        version: 900,
        oldest_version: 800,
        ..hello()
    };
    let newer = refusal_of(&cluster, newer);
    assert!(newer.contains("versions 800 to 900"), "{newer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_another_directory_than_before_is_refused() {
    let mut cluster = cluster().await;
    cluster.all_hold(&[1]).await;
    let known = cluster.node(2).incarnation();
    cluster.stop_node(2).await;
    std::fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    let forgetful = refusal_of(&cluster, hello());
    assert!(forgetful.contains(&known.to_string()), "{forgetful}");

    cluster.start_node(2);
    cluster.write(1, 2).await;
    let status = cluster.node(2).status().await.unwrap();
    assert_eq!(
        (status.leader, status.commit_index.0),
        (None, 0),
        "it takes no part"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lost_its_directory_is_refused_by_peers_that_restarted() {
    let mut cluster = cluster().await;
    cluster.all_hold(&[1]).await;
    let known = cluster.node(2).incarnation();
    let peers = cluster.data_dir(1).join("PEERS");
    eventually("n1 has met n2", || async {
        let text = std::fs::read_to_string(&peers).unwrap_or_default();
        text.contains(&known.to_string()).then_some(())
    })
    .await;
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    std::fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    // Alone with the forgetful one, node 1 must not find a quorum.
    cluster.start_node(2);
    cluster.start_node(1);
    let forgetful = Hello {
        incarnation: cluster.node(2).incarnation(),
        ..hello()
    };
    let refusal = refusal_of(&cluster, forgetful);
    assert!(refusal.contains(&known.to_string()), "{refusal}");

    cluster.start_node(3);
    cluster.write(1, 2).await;
    let status = cluster.node(2).status().await.unwrap();
    assert_eq!(
        (status.leader, status.commit_index.0),
        (None, 0),
        "it takes no part"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_knowledge_of_its_peers_is_damaged_does_not_start() {
    let mut cluster = cluster().await;
    cluster.all_hold(&[1]).await;
    cluster.stop_node(1).await;
    let file = cluster.data_dir(1).join("PEERS");
    std::fs::write(&file, "quorate peers\nformat 1\ncrc32c 00000000\n").unwrap();
    let error = cluster.config(1).start::<common::Journal>().err().unwrap();
    assert!(error.to_string().contains("PEERS is not usable"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frames_close_their_connection_and_nothing_else() {
    let cluster = cluster().await;
    let mut garbage = Vec::new();
    let mut state = 0x9e37_79b9_u32;
    garbage.resize_with(100_000, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let mut oversized = BytesMut::new();
    frame::encode(&Frame::SnapshotDone, &mut oversized);
    oversized[8..12].fill(0xff);
    let mut cut = BytesMut::new();
    frame::encode(&Frame::Hello(hello()), &mut cut);
    cut.truncate(30);

    for bytes in [&garbage[..], b"GET / HTTP/1.1\r\n\r\n", &oversized] {
        let mut stream = connect(&cluster);
        // It may be closed before all is written.
        let _ = stream.write_all(bytes);
        assert_eq!(hear(&mut stream), None);
    }
    let mut stream = connect(&cluster);
    stream.write_all(&cut).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(hear(&mut stream), None);

    cluster.node(1).propose(2).await.unwrap();
    cluster.all_hold(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_breaks_the_protocol_is_cut_off_and_nothing_else() {
    let cluster = cluster().await;
    let as_peer = || Hello {
        incarnation: cluster.node(2).incarnation(),
        ..hello()
    };
    let for_another = Envelope {
        group: GroupId(1),
        from: NodeId(3),
        to: NodeId(1),
        term: Term(1_000_000),
        message: Message::TimeoutNow,
    };
    // Its data never came: a core that believed it would throw its log away for nothing.
    let without_data = Envelope {
        group: GroupId(1),
        from: NodeId(2),
        to: NodeId(1),
        term: Term(1_000_000),
        message: Message::InstallSnapshot(SnapshotMeta {
            id: EntryId::new(Index(1_000), Term(1_000)),
            configuration: Arc::new(Configuration::new([1, 2, 3].map(NodeId), []).unwrap()),
        }),
    };
    let breaches = [
        Frame::Message(without_data),
        Frame::Message(for_another),
        Frame::SnapshotDone,
        Frame::Hello(as_peer()),
    ];
    for breach in breaches {
        let mut stream = connect(&cluster);
        say(&mut stream, &Frame::Hello(as_peer()));
        assert!(matches!(hear(&mut stream), Some(Frame::Welcome(_))));
        say(&mut stream, &breach);
        assert_eq!(hear(&mut stream), None, "{}", breach.name());
    }
    let mut bulk = connect(&cluster);
    let stream = StreamKind::Bulk;
    say(&mut bulk, &Frame::Hello(Hello { stream, ..as_peer() }));
    assert!(matches!(hear(&mut bulk), Some(Frame::Welcome(_))));
    say(&mut bulk, &Frame::SnapshotResume { next: 7 });
    assert_eq!(hear(&mut bulk), None);

    cluster.node(1).propose(2).await.unwrap();
    cluster.all_hold(&[1, 2]).await;
    eventually("the term is still a small one", || async {
        (cluster.node(1).status().await.unwrap().term < Term(1_000_000)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_no_snapshot_may_hold_is_not_stored() {
    let cluster = cluster().await;
    let hello = Hello {
        incarnation: cluster.node(2).incarnation(),
        stream: StreamKind::Bulk,
        ..hello()
    };
    let announcement = Envelope {
        group: GroupId(1),
        from: NodeId(2),
        to: NodeId(1),
        term: Term(1),
        message: Message::InstallSnapshot(SnapshotMeta {
            id: EntryId::new(Index(1_000), Term(1)),
            configuration: Arc::new(Configuration::new([1, 2, 3].map(NodeId), []).unwrap()),
        }),
    };
    let offer = SnapshotOffer {
        announcement,
        chunks: 1,
        life: 7,
    };
    let mut bulk = connect(&cluster);
    say(&mut bulk, &Frame::Hello(hello));
    assert!(matches!(hear(&mut bulk), Some(Frame::Welcome(_))));
    say(&mut bulk, &Frame::SnapshotOffer(offer));
    assert_eq!(hear(&mut bulk), Some(Frame::SnapshotResume { next: 0 }));
    let data = vec![7; 17 << 20].into();
    say(&mut bulk, &Frame::SnapshotChunk { number: 0, data });
    assert_eq!(hear(&mut bulk), None);

    let files = std::fs::read_dir(cluster.data_dir(1).join("snapshots")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert!(
        names.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")),
        "{names:?}"
    );
    cluster.node(1).propose(2).await.unwrap();
    cluster.all_hold(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_sees_another_in_its_term_stops() {
    let mut cluster = cluster().await;
    let follower = cluster.follower().await;
    let incarnation = cluster.node(follower).incarnation();
    cluster.stop_node(follower).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).status().await.unwrap().term;
    let (from, to) = (NodeId(follower), NodeId(leader));
    let hello = Hello {
        from,
        to,
        incarnation,
        ..hello()
    };
    let group = GroupId(1);
    let message = Message::Commit(Index(1));
    let claim = Envelope {
        group,
        from,
        to,
        term,
        message,
    };

    let mut stream = TcpStream::connect(cluster.address(leader)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    say(&mut stream, &Frame::Hello(hello));
    assert!(matches!(hear(&mut stream), Some(Frame::Welcome(_))));
    say(&mut stream, &Frame::Message(claim));
    let stopped = cluster.node(leader).closed().await.to_string();
    assert!(
        stopped.contains(&format!("sees {from} lead term {term} too")),
        "{stopped}"
    );
}

const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER_STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Connections that are closed at once are closed far sooner than one that says nothing.
fn is_closed_at_once(mut stream: TcpStream) -> bool {
    let begun = Instant::now();
    hear(&mut stream).is_none() && begun.elapsed() < Duration::from_secs(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_few_connections_that_have_not_said_whose_they_are() {
    LazyLock::force(&LOG);
    let mut cluster = Cluster::start_with(3, |mut config| {
        config.max_pending_peer_connections = 8;
        config
    });
    cluster.write(1, 1).await;
    let silent: Vec<TcpStream> = (0..2).map(|_| connect_from(&cluster, STRANGER)).collect();
    assert!(is_closed_at_once(connect_from(&cluster, STRANGER)));
    logged(&[
        "a connection was closed at once",
        "127.0.0.2",
        "2 already that have not said who they are",
    ])
    .await;
    // Another address is heard, and a member comes back.
    let mut other = connect_from(&cluster, OTHER_STRANGER);
    say(&mut other, &Frame::Hello(hello()));
    assert!(matches!(hear(&mut other), Some(Frame::Refusal(_))));
    cluster.stop_node(2).await;
    cluster.start_node(2);
    cluster.write(2, 2).await;
    cluster.all_hold(&[1, 2]).await;
    for mut silent in silent {
        assert_eq!(hear(&mut silent), None, "it has had its time");
    }
    let mut again = connect_from(&cluster, STRANGER);
    say(&mut again, &Frame::Hello(hello()));
    assert!(matches!(hear(&mut again), Some(Frame::Refusal(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_in_all() {
    LazyLock::force(&LOG);
    let cluster = Cluster::start_with(3, |mut config| {
        config.max_peer_connections_per_address = 5;
        config.max_pending_peer_connections = 8;
        config
    });
    cluster.write(1, 1).await;
    let incarnation = cluster.node(2).incarnation();
    let mut welcomed = Vec::new();
    for _ in 0..5 {
        let mut stream = connect_from(&cluster, STRANGER);
        say(
            &mut stream,
            &Frame::Hello(Hello {
                incarnation,
                ..hello()
            }),
        );
        assert!(matches!(hear(&mut stream), Some(Frame::Welcome(_))));
        welcomed.push(stream);
    }
    assert!(is_closed_at_once(connect_from(&cluster, STRANGER)));
    logged(&[
        "a connection was closed at once",
        "127.0.0.2",
        "5 already (max-peer",
    ])
    .await;
    cluster.write(3, 2).await;
    cluster.all_hold(&[1, 2]).await;
    welcomed.pop();
    eventually("there is room for another one", || async {
        let mut stream = connect_from(&cluster, STRANGER);
        say(
            &mut stream,
            &Frame::Hello(Hello {
                incarnation,
                ..hello()
            }),
        );
        matches!(hear(&mut stream), Some(Frame::Welcome(_))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_asks_is_cut_off_in_the_end() {
    let cluster = cluster().await;
    let mut stream = connect_from(&cluster, STRANGER);
    let inquiry = Frame::Inquiry(Inquiry {
        version: frame::VERSION,
        oldest_version: frame::OLDEST_VERSION,
        address: String::new(),
    });
    let mut bytes = BytesMut::new();
    frame::encode(&inquiry, &mut bytes);
    let begun = Instant::now();
    loop {
        let asked = stream.write_all(&bytes);
        match hear(&mut stream) {
            Some(answer) => assert!(matches!(answer, Frame::Introduction(_))),
            None => break,
        }
        assert!(asked.is_ok() && begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "questions are allowed");
}
