//! The JSON gateway, over HTTP/1.1 as its clients use it.

use std::time::Duration;

use quorate_etcd_api::etcdserverpb::LeaseTimeToLiveRequest;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::harness::{Cluster, PATIENCE, keys, range};

/// A connection on which something was asked.
struct Connection {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Connection {
    async fn open(cluster: &Cluster) -> Connection {
        let stream = TcpStream::connect(cluster.server(0).client_addr()).await.unwrap();
        let (read, write) = stream.into_split();
        let read = BufReader::new(read);
        Connection { read, write }
    }

    async fn send(&mut self, text: &str) {
        self.write.write_all(text.as_bytes()).await.unwrap();
    }

    async fn send_request(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.send(&head).await;
        self.send(body).await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.read.read_line(&mut line);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        line.trim_end().to_owned()
    }

    /// The status and the headers.
    async fn head(&mut self) -> (u16, Vec<String>) {
        let status = self.line().await.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await.to_lowercase();
            if line.is_empty() {
                return (status, headers);
            }
            headers.push(line);
        }
    }

    /// The next piece of a body that comes in pieces; none at its end.
    async fn piece(&mut self) -> Option<String> {
        let length = usize::from_str_radix(&self.line().await, 16).unwrap();
        let mut piece = vec![0; length + 2];
        let read = self.read.read_exact(&mut piece);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        piece.truncate(length);
        (length > 0).then(|| String::from_utf8(piece).unwrap())
    }

    async fn json_piece(&mut self) -> Value {
        let piece = self.piece().await.expect("the stream has ended");
        assert!(piece.ends_with('\n'), "{piece:?}");
        serde_json::from_str(&piece).unwrap()
    }

    /// The answer to one request, whole.
    async fn answer(&mut self) -> (u16, Value) {
        let (status, headers) = self.head().await;
        assert!(
            headers.contains(&"content-type: application/json".to_owned()),
            "{headers:?}"
        );
        let length = headers
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.expect("no length").parse().unwrap()];
        self.read.read_exact(&mut body).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn post(&mut self, path: &str, body: &str) -> (u16, Value) {
        self.send_request("POST", path, "", body).await;
        self.answer().await
    }
}

/// What is answered to one request on a connection of its own.
async fn post(cluster: &Cluster, path: &str, body: Value) -> (u16, Value) {
    Connection::open(cluster)
        .await
        .post(path, &body.to_string())
        .await
}

/// The same, if it succeeds.
async fn ok(cluster: &Cluster, path: &str, body: Value) -> Value {
    let (status, answer) = post(cluster, path, body).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

#[track_caller]
fn check_error((status, answer): (u16, Value), expected: (u16, i64, &str)) {
    let (expected_status, code, message) = expected;
    assert_eq!(
        answer,
        json!({"error": message, "code": code, "message": message})
    );
    assert_eq!(status, expected_status);
}

#[tokio::test]
async fn keys_and_transactions_are_served_as_json() {
    let cluster = Cluster::start(3).await;
    let put = ok(&cluster, "/v3/kv/put", json!({"key": "YQ==", "value": "MQ=="})).await;
    let header = &put["header"];
    assert!(
        header["cluster_id"].is_string() && header["member_id"].is_string(),
        "{put}"
    );
    assert_eq!(
        (&header["revision"], &header["raft_term"]),
        (&json!("2"), &json!("1"))
    );
    assert_eq!(put.as_object().unwrap().len(), 1, "{put}");

    let mut found = ok(
        &cluster,
        "/v3beta/kv/range",
        json!({"key": "YQ==", "rangeEnd": "Yg=="}),
    )
    .await;
    found["header"].take();
    let kv =
        json!({"key": "YQ==", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "MQ=="});
    assert_eq!(found, json!({"header": null, "kvs": [kv], "count": "1"}));

    let txn = json!({
        "compare": [{"key": "YQ==", "result": "EQUAL", "target": "VERSION", "version": "1"}],
        "success": [{"requestPut": {"key": "Yg==", "value": "Mg==", "prevKv": true}}],
        "failure": [{"request_range": {"key": "YQ=="}}],
    });
    let done = ok(&cluster, "/v3/kv/txn", txn.clone()).await;
    assert_eq!(done["succeeded"], true);
    assert_eq!(
        done["responses"],
        json!([{"response_put": {"header": {"revision": "3"}}}])
    );
    let deleted = ok(
        &cluster,
        "/v3/kv/deleterange",
        json!({"key": "YQ==", "prev_kv": true}),
    )
    .await;
    assert_eq!(
        (&deleted["deleted"], &deleted["prev_kvs"][0]["value"]),
        (&json!("1"), &json!("MQ=="))
    );
    let done = ok(&cluster, "/v3/kv/txn", txn).await;
    assert!(done.get("succeeded").is_none(), "{done}");
    assert!(
        done["responses"][0]["response_range"].get("count").is_none(),
        "{done}"
    );
    ok(&cluster, "/v3/kv/compaction", json!({"revision": 4})).await;
    let compacted = post(&cluster, "/v3/kv/range", json!({"key": "YQ==", "revision": "2"})).await;
    check_error(
        compacted,
        (400, 11, "etcdserver: mvcc: required revision has been compacted"),
    );
}

#[tokio::test]
async fn the_other_services_are_served_as_json() {
    let cluster = Cluster::start(1).await;
    let granted = ok(&cluster, "/v3/lease/grant", json!({"TTL": 100, "ID": "7"})).await;
    assert_eq!((&granted["ID"], &granted["TTL"]), (&json!("7"), &json!("100")));
    let leases = ok(&cluster, "/v3/kv/lease/leases", json!({})).await;
    assert_eq!(leases["leases"], json!([{"ID": "7"}]));
    let lock = json!({"name": "bA==", "lease": 7});
    let locked = ok(&cluster, "/v3/lock/lock", lock).await;
    assert_eq!(locked["key"], "bC83");
    let lease = ok(&cluster, "/v3/lease/timetolive", json!({"ID": 7, "keys": true})).await;
    assert_eq!(
        (&lease["grantedTTL"], &lease["keys"]),
        (&json!("100"), &json!(["bC83"]))
    );
    ok(&cluster, "/v3/lock/unlock", json!({"key": locked["key"]})).await;
    let campaign = json!({"name": "ZQ==", "lease": 7, "value": "djE="});
    let won = ok(&cluster, "/v3/election/campaign", campaign).await;
    let leader = &won["leader"];
    assert_eq!((&leader["key"], &leader["lease"]), (&json!("ZS83"), &json!("7")));
    ok(
        &cluster,
        "/v3/election/proclaim",
        json!({"leader": leader, "value": "djI="}),
    )
    .await;
    let found = ok(&cluster, "/v3/election/leader", json!({"name": "ZQ=="})).await;
    assert_eq!(found["kv"]["value"], "djI=");
    ok(&cluster, "/v3/election/resign", json!({"leader": leader})).await;
    let nobody = post(&cluster, "/v3/election/leader", json!({"name": "ZQ=="})).await;
    check_error(nobody, (500, 2, "election: no leader"));
    ok(&cluster, "/v3/lease/revoke", json!({"ID": 7})).await;
    let gone = post(&cluster, "/v3/kv/lease/revoke", json!({"ID": 7})).await;
    check_error(gone, (404, 5, "etcdserver: requested lease not found"));

    let members = ok(&cluster, "/v3/cluster/member/list", json!({})).await;
    let member = &members["members"][0];
    assert_eq!(
        (&member["name"], member["clientURLs"].is_array()),
        (&json!("m1"), true)
    );
    let status = ok(&cluster, "/v3/maintenance/status", json!({})).await;
    assert_eq!(
        (&status["leader"], &status["version"]),
        (&member["ID"], &json!("3.5.21"))
    );
    let alarm = json!({"action": "ACTIVATE", "alarm": "NOSPACE", "memberID": member["ID"]});
    let raised = ok(&cluster, "/v3/maintenance/alarm", alarm).await;
    assert_eq!(
        raised["alarms"],
        json!([{"memberID": member["ID"], "alarm": "NOSPACE"}])
    );
    let auth = ok(&cluster, "/v3/auth/status", json!({})).await;
    assert!(auth.get("enabled").is_none(), "{auth}");
    let refused = post(
        &cluster,
        "/v3/auth/authenticate",
        json!({"name": "a", "password": "b"}),
    )
    .await;
    check_error(refused, (400, 9, "etcdserver: authentication is not enabled"));
}

#[tokio::test]
async fn a_watch_is_a_stream_of_lines() {
    let cluster = Cluster::start(1).await;
    let mut connection = Connection::open(&cluster).await;
    let create =
        json!({"create_request": {"key": "YQ==", "rangeEnd": "Yg==", "filters": ["NOPUT"], "prev_kv": true}});
    connection
        .send_request("POST", "/v3/watch", "", &create.to_string())
        .await;
    let (status, headers) = connection.head().await;
    assert_eq!(status, 200);
    assert!(
        headers.contains(&"content-type: application/json".to_owned()),
        "{headers:?}"
    );
    let created = connection.json_piece().await;
    assert_eq!(created["result"]["created"], true, "{created}");
    cluster.client(0).put("a", "1").await;
    cluster.client(0).delete("a", "").await;
    let deleted = connection.json_piece().await;
    let event = &deleted["result"]["events"][0];
    assert_eq!(event["type"], "DELETE", "{deleted}");
    assert_eq!(event["kv"], json!({"key": "YQ==", "mod_revision": "3"}));
    assert_eq!(event["prev_kv"]["value"], "MQ==");
}

#[tokio::test]
async fn a_client_may_go_on_asking_while_it_is_answered() {
    let cluster = Cluster::start(1).await;
    let mut connection = Connection::open(&cluster).await;
    let head = "POST /v3/watch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send(head).await;
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    // An object in two pieces, and the piece after it with a whole one.
    connection
        .send(&chunk(r#"{"create_request":{"key":"YQ==","wa"#))
        .await;
    connection
        .send(&chunk(r#"tch_id":"5"}} {"create_request":{"key":"Yg=="}}"#))
        .await;
    assert_eq!(connection.head().await.0, 200);
    assert_eq!(connection.json_piece().await["result"]["watch_id"], "5");
    assert_eq!(connection.json_piece().await["result"]["created"], true);
    connection
        .send(&chunk(r#"{"cancel_request":{"watch_id":"5"}}"#))
        .await;
    let canceled = connection.json_piece().await;
    assert_eq!(
        (&canceled["result"]["canceled"], &canceled["result"]["watch_id"]),
        (&json!(true), &json!("5"))
    );
    // What cannot be read ends the stream, and says why.
    connection.send(&chunk(r#"{"create_request":{"key":"?"}}"#)).await;
    let error = connection.json_piece().await;
    assert_eq!(
        (&error["error"]["grpc_code"], &error["error"]["http_code"]),
        (&json!(3), &json!(400))
    );
    assert_eq!(connection.piece().await, None);
}

#[tokio::test]
async fn a_watch_ends_with_its_connection() {
    let cluster = Cluster::start(1).await;
    let mut connection = Connection::open(&cluster).await;
    let create = json!({"create_request": {"key": "YQ=="}}).to_string();
    connection.send_request("POST", "/v3/watch", "", &create).await;
    connection.head().await;
    connection.json_piece().await;
    let watchers = async || {
        let (_, page) = crate::http::get(&cluster, 0, "/metrics").await;
        page.lines()
            .any(|line| line == "etcd_debugging_mvcc_watcher_total 1")
    };
    assert!(watchers().await);
    drop(connection);
    let deadline = std::time::Instant::now() + PATIENCE;
    while watchers().await {
        assert!(std::time::Instant::now() < deadline, "the watcher is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn keep_alives_are_answered_line_by_line_and_end() {
    let cluster = Cluster::start(1).await;
    cluster.client(0).grant(100, 7).await;
    let mut connection = Connection::open(&cluster).await;
    let body = r#"{"ID":7}{"ID":"8"}"#;
    connection
        .send_request("POST", "/v3/lease/keepalive", "", body)
        .await;
    assert_eq!(connection.head().await.0, 200);
    let alive = connection.json_piece().await;
    assert_eq!(
        (&alive["result"]["ID"], &alive["result"]["TTL"]),
        (&json!("7"), &json!("100"))
    );
    let missing = connection.json_piece().await;
    assert_eq!(
        (&missing["result"]["ID"], missing["result"].get("TTL")),
        (&json!("8"), None)
    );
    assert_eq!(connection.piece().await, None);
    // The connection is of further use.
    let (status, _) = connection.post("/v3/kv/range", r#"{"key":"YQ=="}"#).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn an_election_is_observed_line_by_line() {
    let cluster = Cluster::start(1).await;
    cluster.client(0).put("e/1", "one").await;
    let mut connection = Connection::open(&cluster).await;
    connection
        .send_request("POST", "/v3/election/observe", "", r#"{"name":"ZQ=="}"#)
        .await;
    assert_eq!(connection.head().await.0, 200);
    assert_eq!(connection.json_piece().await["result"]["kv"]["value"], "b25l");
    cluster.client(0).put("e/1", "two").await;
    assert_eq!(connection.json_piece().await["result"]["kv"]["value"], "dHdv");
}

#[tokio::test]
async fn a_stream_that_begins_unreadable_is_refused_as_any_call() {
    let cluster = Cluster::start(1).await;
    for (path, body) in [
        ("/v3/watch", r#"{"create_request":{"key":"?"}}"#),
        ("/v3/watch", "[]"),
        ("/v3/watch", r#"{"create_request":"#),
        ("/v3/lease/keepalive", r#"{"ID":"x"}"#),
        ("/v3/election/observe", "{"),
        ("/v3/maintenance/snapshot", "5"),
    ] {
        let (status, answer) = Connection::open(&cluster).await.post(path, body).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!(3)),
            "{path} {body}: {answer}"
        );
        assert!(answer["error"].is_string(), "{path} {body}: {answer}");
        assert_eq!(answer["error"], answer["message"], "{path} {body}");
    }
}

#[tokio::test]
async fn a_stream_that_fails_at_once_has_a_status() {
    let cluster = Cluster::start(1).await;
    for (path, body) in [
        ("user/add", json!({"name": "root", "password": "x"})),
        ("role/add", json!({"name": "root"})),
        ("user/grant", json!({"user": "root", "role": "root"})),
        ("enable", json!({})),
    ] {
        ok(&cluster, &format!("/v3/auth/{path}"), body).await;
    }
    let (status, answer) = post(&cluster, "/v3/maintenance/snapshot", json!({})).await;
    assert_eq!((status, &answer["error"]["grpc_code"]), (400, &json!(3)));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_the_connection_goes_on() {
    let cluster = Cluster::start(1).await;
    let mut connection = Connection::open(&cluster).await;
    for (path, body, expected, code) in [
        ("/v3/kv/put", "{", 400, 3),
        ("/v3/kv/put", "\u{0}", 400, 3),
        ("/v3/kv/put", r#"{"key":"?"}"#, 400, 3),
        ("/v3/kv/put", r#"{"key":["YQ=="]}"#, 400, 3),
        ("/v3/kv/put", "", 400, 3),
        ("/v3/kv/range", r#"{"key":"YQ==","sort_order":"DOWN"}"#, 400, 3),
        ("/v3/kv/nothing", "{}", 404, 5),
        ("/v3/", "{}", 404, 5),
        ("/v3beta/kv", "{}", 404, 5),
    ] {
        let (status, answer) = connection.post(path, body).await;
        assert_eq!(
            (status, &answer["code"]),
            (expected, &json!(code)),
            "{path} {body}: {answer}"
        );
        assert_eq!(answer["error"], answer["message"]);
    }
    connection.send_request("GET", "/v3/kv/range", "", "").await;
    let (status, headers) = connection.head().await;
    assert_eq!(
        (status, headers.contains(&"allow: POST".to_lowercase())),
        (405, true)
    );
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused_by_its_name() {
    let cluster = Cluster::start(1).await;
    let mut connection = Connection::open(&cluster).await;
    let value = |bytes: usize| json!({"key": "YQ==", "value": "A".repeat(bytes)}).to_string();
    let too_large = connection.post("/v3/kv/put", &value(4 << 20)).await;
    check_error(too_large, (400, 3, "etcdserver: request is too large"));
    let (status, answer) = connection.post("/v3/kv/put", &value(20 << 20)).await;
    assert_eq!((status, &answer["code"]), (413, &json!(8)), "{answer}");
    let (status, _) = connection.post("/v3/kv/put", &value(1 << 20)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn headers_become_metadata() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while cluster.server(0).has_leader() {
        assert!(std::time::Instant::now() < deadline, "a leader without a quorum");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut connection = Connection::open(&cluster).await;
    let body = r#"{"key":"YQ==","serializable":true}"#;
    let (status, _) = connection.post("/v3/kv/range", body).await;
    assert_eq!(status, 200);
    let headers = "Grpc-Metadata-hasleader: true\r\n";
    connection
        .send_request("POST", "/v3/kv/range", headers, body)
        .await;
    check_error(connection.answer().await, (503, 14, "etcdserver: no leader"));
}

#[tokio::test]
async fn a_waiter_that_goes_away_leaves_the_queue() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.grant(100, 7).await;
    client.grant(100, 8).await;
    ok(&cluster, "/v3/lock/lock", json!({"name": "bA==", "lease": 7})).await;
    let mut waiting = Connection::open(&cluster).await;
    let lock = json!({"name": "bA==", "lease": 8}).to_string();
    waiting.send_request("POST", "/v3/lock/lock", "", &lock).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut expect = async |expected: &[&str]| {
        while keys(&client.range(range("l/", "l0")).await) != expected {
            assert!(std::time::Instant::now() < deadline, "never {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    expect(&["l/7", "l/8"]).await;
    drop(waiting);
    expect(&["l/7"]).await;
    let lease = LeaseTimeToLiveRequest { id: 8, keys: false };
    let left = cluster.client(0).lease.lease_time_to_live(lease).await.unwrap();
    assert!(left.into_inner().ttl > 0, "its lease is its own");
}

#[tokio::test]
async fn calls_are_counted_as_those_by_grpc() {
    let cluster = Cluster::start(1).await;
    ok(&cluster, "/v3/kv/put", json!({"key": "YQ=="})).await;
    let (_, page) = crate::http::get(&cluster, 0, "/metrics").await;
    let labels = r#"grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_code="OK""#;
    let line = format!("grpc_server_handled_total{{{labels}}} 1");
    assert!(page.lines().any(|found| found == line), "{page}");
}
