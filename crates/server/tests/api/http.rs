//! The pages on the gRPC port.

use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::*;
use quorate_server::LearnerPromotion;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::exposition::Exposition;
use crate::harness::Cluster;

/// What a page's request is answered with.
pub(crate) struct Page {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Page {
    /// The value of a header, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = headers.filter(|(header, _)| header.to_ascii_lowercase() == name);
        values.next().map(|(_, value)| value)
    }
}

/// Asks for a page as a plain HTTP/1.1 client does; each of `headers` ends its line.
pub(crate) async fn fetch(cluster: &Cluster, member: usize, method: &str, path: &str, headers: &str) -> Page {
    let mut stream = TcpStream::connect(cluster.server(member).client_addr())
        .await
        .unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    Page {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// The status and body of a page.
pub(crate) async fn get(cluster: &Cluster, member: usize, path: &str) -> (u16, String) {
    let page = fetch(cluster, member, "GET", path, "").await;
    (page.status, page.body)
}

const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

#[tokio::test]
async fn a_healthy_member_says_so() {
    let cluster = Cluster::start(3).await;
    for member in 0..3 {
        for path in [
            "/health",
            "/health?serializable=true",
            "/health?exclude=NOSPACE&exclude=CORRUPT&exclude=",
        ] {
            assert_eq!(
                get(&cluster, member, path).await,
                (200, HEALTHY.to_owned()),
                "{path}"
            );
        }
        for path in [
            "/livez",
            "/readyz",
            "/livez/serializable_read",
            "/readyz/data_corruption",
            "/readyz/serializable_read",
            "/readyz/linearizable_read",
            "/readyz/non_learner",
            "/readyz?exclude=linearizable_read&exclude=no_check_at_all",
        ] {
            assert_eq!(
                get(&cluster, member, path).await,
                (200, "ok\n".to_owned()),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn each_check_is_told_of_if_that_is_asked_for() {
    let cluster = Cluster::start(1).await;
    for (path, told) in [
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        (
            "/readyz?verbose=0",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
        ),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner&exclude=serializable_read",
            "[+]data_corruption ok\nok\n",
        ),
        (
            "/readyz/linearizable_read?verbose",
            "[+]linearizable_read ok\nok\n",
        ),
        ("/livez?verbose&exclude=serializable_read", "ok\n"),
    ] {
        assert_eq!(get(&cluster, 0, path).await, (200, told.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn an_alarm_makes_a_member_unhealthy_unless_it_is_excluded() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for alarm in [AlarmType::Nospace, AlarmType::Corrupt] {
        let request = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: 1,
            alarm: alarm.into(),
        };
        client.maintenance.alarm(request).await.unwrap();
    }
    let unhealthy = |alarm| {
        (
            503,
            format!("{{\"health\":\"false\",\"reason\":\"ALARM {alarm}\"}}\n"),
        )
    };
    assert_eq!(get(&cluster, 0, "/health").await, unhealthy("NOSPACE"));
    assert_eq!(
        get(&cluster, 0, "/health?exclude=NOSPACE").await,
        unhealthy("CORRUPT")
    );
    assert_eq!(
        get(&cluster, 0, "/health?exclude=CORRUPT").await,
        unhealthy("NOSPACE")
    );
    let both = get(&cluster, 0, "/health?exclude=NOSPACE&exclude=CORRUPT").await;
    assert_eq!(both, (200, HEALTHY.to_owned()));

    let corrupt = "[-]data_corruption failed: alarm activated: CORRUPT\n";
    let all = format!("{corrupt}[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n");
    assert_eq!(get(&cluster, 0, "/readyz").await, (503, all));
    let alone = get(&cluster, 0, "/readyz/data_corruption").await;
    assert_eq!(alone, (503, format!("{corrupt}\n")));
    assert_eq!(get(&cluster, 0, "/readyz?exclude=data_corruption").await.0, 200);
    assert_eq!(get(&cluster, 0, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_member_without_a_leader_is_alive_but_not_healthy() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let (status, body) = get(&cluster, 0, "/health").await;
        if status == 503 {
            assert!(body.contains("\"health\":\"false\""), "{body}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still healthy: {body}");
    }
    assert_eq!(get(&cluster, 0, "/health?serializable=true").await.0, 200);
    assert_eq!(get(&cluster, 0, "/livez").await.0, 200);
    while cluster.server(0).has_leader() {
        assert!(std::time::Instant::now() < deadline, "it still knows a leader");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let asked = std::time::Instant::now();
    let (status, told) = get(&cluster, 0, "/readyz").await;
    assert_eq!(status, 503);
    assert!(
        told.contains("[-]linearizable_read failed: etcdserver: no leader\n"),
        "{told}"
    );
    assert_eq!(get(&cluster, 0, "/readyz/serializable_read").await.0, 200);
    assert!(asked.elapsed() < std::time::Duration::from_secs(2), "it waited");
}

#[tokio::test]
async fn the_version_is_one_that_clients_parse() {
    let cluster = Cluster::start(1).await;
    let (status, body) = get(&cluster, 0, "/version").await;
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(version["etcdserver"], "3.5.21");
    assert_eq!(version["etcdcluster"], "3.5.0");
}

#[tokio::test]
async fn grpc_health_is_served() {
    let cluster = Cluster::start(1).await;
    let mut health = HealthClient::new(cluster.client(0).channel);
    let response = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(response.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn an_unknown_page_is_not_found() {
    let cluster = Cluster::start(1).await;
    for path in [
        "/nothing",
        "/livez/linearizable_read",
        "/readyz/nothing",
        "/readyz/",
        "/debug/vars",
    ] {
        let nothing = get(&cluster, 0, path).await;
        assert_eq!(nothing, (404, "404 page not found\n".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn pages_are_for_get_alone_but_for_metrics() {
    let cluster = Cluster::start(1).await;
    for path in ["/health", "/livez", "/readyz/non_learner", "/version"] {
        let refused = fetch(&cluster, 0, "POST", path, "").await;
        assert_eq!(
            (refused.status, refused.body.as_str()),
            (405, "Method Not Allowed\n"),
            "{path}"
        );
        assert_eq!(refused.header("allow"), Some("GET"), "{path}");
        assert_eq!(fetch(&cluster, 0, "HEAD", path, "").await.status, 405, "{path}");
    }
    assert_eq!(fetch(&cluster, 0, "POST", "/metrics", "").await.status, 200);
}

#[tokio::test]
async fn a_learner_is_not_ready() {
    let mut cluster = Cluster::start_with(1, |config| {
        config.learner_promotion = LearnerPromotion::ByHand;
    })
    .await;
    let joining = cluster.room("m2");
    let request = MemberAddRequest {
        peer_ur_ls: vec![joining.initial_advertise_peer_urls[0].to_string()],
        is_learner: true,
    };
    cluster.client(0).cluster.member_add(request).await.unwrap();
    let learner = cluster.join(joining).await;
    cluster.server(learner).ready().await;
    let not_ready = "[-]non_learner failed: not supported for learner\n\n";
    let (status, told) = get(&cluster, learner, "/readyz/non_learner").await;
    assert_eq!((status, told.as_str()), (503, not_ready));
    assert_eq!(get(&cluster, learner, "/readyz?exclude=non_learner").await.0, 200);
    assert_eq!(get(&cluster, learner, "/livez").await.0, 200);
    let metrics = Exposition::of(&cluster, learner).await;
    assert_eq!(metrics.sum("etcd_server_is_learner", &[]), 1.0);
}
