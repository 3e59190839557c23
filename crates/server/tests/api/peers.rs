//! What members measure of the ways between them.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::exposition::Exposition;
use crate::harness::{Cluster, PATIENCE};

/// Waits until a series of a member's page is as it should be; gives its value.
async fn value(
    cluster: &Cluster,
    member: usize,
    name: &str,
    labels: &[(&str, &str)],
    is_right: impl Fn(f64) -> bool,
) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = Exposition::of(cluster, member).await.sum(name, labels);
        if is_right(value) {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "{name} {labels:?} of {member} is {value}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn id(cluster: &Cluster, member: usize) -> String {
    format!("{:x}", cluster.server(member).identity().member_id)
}

const ROUND_TRIP: &str = "etcd_network_peer_round_trip_time_seconds";
const SENT_FAILURES: &str = "etcd_network_peer_sent_failures_total";
const ACTIVE: &str = "etcd_network_active_peers";
const DISCONNECTED: &str = "etcd_network_disconnected_peers_total";

#[tokio::test]
async fn each_member_measures_its_way_to_each_other() {
    let cluster = Cluster::start(3).await;
    let count = format!("{ROUND_TRIP}_count");
    // At first each measures once, and then again.
    for least in [1.0, 2.0] {
        for member in 0..3 {
            for other in (0..3).filter(|other| *other != member) {
                let id = id(&cluster, other);
                value(&cluster, member, &count, &[("To", &id)], |count| count >= least).await;
            }
        }
    }
    for member in 0..3 {
        let page = Exposition::of(&cluster, member).await;
        // Within one machine: more than nothing, and far from what etcdMemberCommunicationSlow is about.
        let mean = page.sum(&format!("{ROUND_TRIP}_sum"), &[]) / page.sum(&count, &[]);
        assert!(mean > 0.0 && mean < 1.0, "{mean}");
        for bound in ["0.0001", "0.1024", "3.2768", "+Inf"] {
            let mut samples = page.families[ROUND_TRIP].samples.iter();
            let has_bound = |le: &String| le == bound;
            assert!(
                samples.any(|sample| sample.labels.get("le").is_some_and(has_bound)),
                "no bucket up to {bound}"
            );
        }
    }
}

#[tokio::test]
async fn a_member_that_is_gone_is_missed_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (gone, ids) = ((leader + 1) % 3, [0, 1, 2].map(|member| id(&cluster, member)));
    let pair = [("Local", ids[leader].as_str()), ("Remote", ids[gone].as_str())];
    let to = [("To", ids[gone].as_str())];
    value(&cluster, leader, ACTIVE, &pair, |active| active == 1.0).await;
    let page = Exposition::of(&cluster, leader).await;
    let (ended, failed) = (page.sum(DISCONNECTED, &pair), page.sum(SENT_FAILURES, &to));

    cluster.stop(gone).await;
    value(&cluster, leader, ACTIVE, &pair, |active| active == 0.0).await;
    value(&cluster, leader, DISCONNECTED, &pair, |now| now > ended).await;
    // Heartbeats go on, and nobody takes them.
    let failing = value(&cluster, leader, SENT_FAILURES, &to, |now| now > failed).await;
    value(&cluster, leader, SENT_FAILURES, &to, |now| now > failing).await;

    cluster.restart(gone).await;
    value(&cluster, leader, ACTIVE, &pair, |active| active == 1.0).await;
    let page = Exposition::of(&cluster, leader).await;
    assert_eq!(page.sum(ACTIVE, &[]), 2.0);
}

#[tokio::test]
async fn a_snapshot_is_counted_at_either_end() {
    let mut cluster = Cluster::start_with(3, |config| config.snapshot_count = 50).await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    let ids = [0, 1, 2].map(|member| id(&cluster, member));
    let mut client = cluster.client(leader);
    cluster.stop(behind).await;
    for n in 0..400 {
        client.put(&format!("k{n}"), "v").await;
    }
    cluster.restart(behind).await;
    cluster.server(behind).ready().await;
    for (member, way, label, other) in [
        (leader, "send", "To", behind),
        (behind, "receive", "From", leader),
    ] {
        let name = |what: &str| format!("etcd_network_snapshot_{way}_{what}");
        let labels = [(label, ids[other].as_str())];
        let success = value(&cluster, member, &name("success"), &labels, |sent| sent >= 1.0).await;
        value(&cluster, member, &name("inflights_total"), &labels, |inflight| {
            inflight == 0.0
        })
        .await;
        let page = Exposition::of(&cluster, member).await;
        let measured = page.sum(&name("total_duration_seconds_count"), &labels);
        assert!(measured >= success, "{measured} of {success}");
        assert!(page.sum(&name("total_duration_seconds_sum"), &labels) > 0.0);
        let third = [(label, ids[3 - leader - behind].as_str())];
        assert_eq!(page.sum(&name("success"), &third), 0.0);
    }
}

#[tokio::test]
async fn connections_to_the_peer_port_are_bounded_as_configured() {
    let cluster = Cluster::start_with(1, |config| {
        config.limits.max_peer_connections_per_address = 2;
        config.limits.max_pending_peer_connections = 4;
    })
    .await;
    let url = &cluster.config(0).listen_peer_urls[0];
    let connect = async || TcpStream::connect((url.host(), url.port())).await.unwrap();
    let first = connect().await;
    let mut second = connect().await;
    let ended = tokio::time::timeout(Duration::from_secs(3), second.read_u8()).await;
    assert!(ended.expect("it is not closed").is_err());
    let refused = "quorate_peer_connections_refused_total";
    value(&cluster, 0, refused, &[], |refused| refused == 1.0).await;
    drop(first);
}
