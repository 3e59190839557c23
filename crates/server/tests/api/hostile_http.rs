//! What no client of good will sends by HTTP: every route of the gateway gets it, and so do the parsers of HTTP/1.1 and
//! HTTP/2.
//!
//! - What etcd answers is answered; frames that break the protocol end with a word of why.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Cluster, PATIENCE};
use crate::hostile::{Dice, methods, panics};

/// The routes of the gateway: as many as there are methods, without `RangeStream`, and three that have two.
const ROUTES: [&str; 51] = [
    "kv/compaction",
    "kv/deleterange",
    "kv/put",
    "kv/range",
    "kv/txn",
    "watch",
    "kv/lease/leases",
    "kv/lease/revoke",
    "kv/lease/timetolive",
    "lease/grant",
    "lease/keepalive",
    "lease/leases",
    "lease/revoke",
    "lease/timetolive",
    "cluster/member/add",
    "cluster/member/list",
    "cluster/member/promote",
    "cluster/member/remove",
    "cluster/member/update",
    "maintenance/alarm",
    "maintenance/defragment",
    "maintenance/downgrade",
    "maintenance/hash",
    "maintenance/hashkv",
    "maintenance/snapshot",
    "maintenance/status",
    "maintenance/transfer-leadership",
    "auth/authenticate",
    "auth/disable",
    "auth/enable",
    "auth/role/add",
    "auth/role/delete",
    "auth/role/get",
    "auth/role/grant",
    "auth/role/list",
    "auth/role/revoke",
    "auth/status",
    "auth/user/add",
    "auth/user/changepw",
    "auth/user/delete",
    "auth/user/get",
    "auth/user/grant",
    "auth/user/list",
    "auth/user/revoke",
    "lock/lock",
    "lock/unlock",
    "election/campaign",
    "election/leader",
    "election/observe",
    "election/proclaim",
    "election/resign",
];

/// What is answered to these bytes, until the server has said all that it will.
async fn exchange(cluster: &Cluster, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(cluster.server(0).client_addr()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut answer = Vec::new();
    let exchange = async {
        // Whoever is cut while it still sends sees a reset; what was said before has arrived.
        let _ = tokio::join!(write.write_all(bytes), read.read_to_end(&mut answer));
    };
    let ended = tokio::time::timeout(PATIENCE, exchange).await;
    assert!(ended.is_ok(), "the connection stays open: {:?}", shown(bytes));
    answer
}

fn shown(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&bytes[..bytes.len().min(80)])
}

async fn post(cluster: &Cluster, path: &str, body: &[u8]) -> (u16, serde_json::Value) {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let answer = exchange(cluster, &[head.as_bytes(), body].concat()).await;
    let answer = String::from_utf8(answer).unwrap();
    let problem = format!("{path}: {:?}: {answer:?}", shown(body));
    let status = answer.split(' ').nth(1).expect(&problem).parse();
    let (_, json) = answer.split_once("\r\n\r\n").expect(&problem);
    let json = json.trim_start_matches(|c: char| c != '{');
    (
        status.expect(&problem),
        serde_json::from_str(json).expect(&problem),
    )
}

/// Checks that a route answers as grpc-gateway does that it was asked nonsense.
async fn check_refused(cluster: &Cluster, path: &str, body: &[u8]) {
    let (status, answer) = post(cluster, path, body).await;
    let shown = shown(body);
    assert_eq!(status, 400, "{path}: {shown:?}: {answer}");
    // A stream's error is one level deeper.
    let (error, code) = match answer["error"].as_object() {
        Some(error) => (&error["message"], &error["grpc_code"]),
        None => (&answer["error"], &answer["code"]),
    };
    assert!(error.is_string(), "{path}: {shown:?}: {answer}");
    assert_eq!(*code, 3, "{path}: {shown:?}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_refused_by_every_route() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    assert_eq!(
        ROUTES.len(),
        methods().len() - 1 + 3,
        "a method has no route here"
    );
    let deep = "[".repeat(100_000);
    let deep_objects = r#"{"a":"#.repeat(100_000);
    let deep_closed = format!("{deep}{}", "]".repeat(100_000));
    let bodies: [&[u8]; 17] = [
        b"{",
        b"}",
        b"[]",
        b"1",
        b"\"{}\"",
        b"nul",
        b"{\"a\":}",
        b"{\"a\" 1}",
        b"{'a':1}",
        b"{\"a\":1,}",
        b"{\"a\":1e999999}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
        deep.as_bytes(),
        deep_objects.as_bytes(),
        deep_closed.as_bytes(),
    ];
    for route in ROUTES {
        for body in bodies {
            check_refused(&cluster, &format!("/v3/{route}"), body).await;
        }
    }
    cluster.client(0).put("a", "1").await;
    assert_eq!(panics(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_the_wrong_kind_is_refused() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    let nested = |depth: usize| {
        let mut txn = "{}".to_owned();
        for _ in 0..depth {
            txn = format!(r#"{{"success":[{{"requestTxn":{txn}}}]}}"#);
        }
        txn
    };
    let deep = nested(1000);
    let cases = [
        ("kv/range", r#"{"key":"***"}"#),
        ("kv/range", r#"{"key":"YQ=YQ"}"#),
        ("kv/range", r#"{"key":1}"#),
        ("kv/range", r#"{"key":{}}"#),
        ("kv/range", r#"{"key":["YQ=="]}"#),
        ("kv/range", r#"{"limit":"99999999999999999999"}"#),
        ("kv/range", r#"{"limit":99999999999999999999}"#),
        ("kv/range", r#"{"limit":1.5}"#),
        ("kv/range", r#"{"limit":"x"}"#),
        ("kv/range", r#"{"limit":true}"#),
        ("kv/range", r#"{"sort_order":"SIDEWAYS"}"#),
        ("kv/range", r#"{"serializable":"yes"}"#),
        ("kv/put", r#"{"key":"YQ==","lease":"1e3x"}"#),
        ("kv/txn", r#"{"success":{}}"#),
        ("kv/txn", r#"{"success":[1]}"#),
        ("kv/txn", deep.as_str()),
        ("lease/grant", r#"{"TTL":9223372036854775808}"#),
        ("lease/keepalive", r#"{"ID":"-9223372036854775809"}"#),
        ("watch", r#"{"create_request":{"key":"***"}}"#),
        ("watch", r#"{"create_request":1}"#),
        ("auth/user/add", r#"{"name":1}"#),
        ("cluster/member/remove", r#"{"ID":-1}"#),
        ("election/observe", r#"{"name":"***"}"#),
    ];
    for (route, body) in cases {
        check_refused(&cluster, &format!("/v3/{route}"), body.as_bytes()).await;
    }
    cluster.client(0).put("a", "1").await;
    assert_eq!(panics(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_by_http_1_are_answered() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    let long_uri = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let cases = [
        "GARBAGE\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "PRI * HTTP/1.1\r\nconnection: close\r\n\r\n",
        "POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        "POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /v3/watch HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /v3/nothing HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /etcdserverpb.KV/Range HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0",
        long_uri.as_str(),
        many_headers.as_str(),
    ];
    for case in cases {
        let answer = exchange(&cluster, case.as_bytes()).await;
        let is_told = answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.0 4");
        assert!(is_told, "{:?}: {:?}", shown(case.as_bytes()), Bytes::from(answer));
    }
    cluster.client(0).put("a", "1").await;
    assert_eq!(panics(), before);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What is answered to these bytes, if nothing more comes.
async fn send_all(cluster: &Cluster, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(cluster.server(0).client_addr()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open: {:?}", shown(bytes));
    answer
}

/// Whether the server said that it ends a connection (GOAWAY) or a stream (RST_STREAM) before it did.
fn is_told(mut answer: &[u8]) -> bool {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = answer {
        if matches!(kind, 3 | 7) {
            return true;
        }
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        answer = rest.get(length..).unwrap_or_default();
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_end_the_connection_with_a_word() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    let cases = [
        (
            "a frame longer than allowed",
            [&[1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 100]].concat(),
        ),
        ("headers on no stream", frame(1, 4, 0, &[0x82])),
        ("headers on a server's stream", frame(1, 5, 2, &[0x82])),
        ("headers that are no HPACK", frame(1, 5, 1, &[0xff; 20])),
        ("padding longer than the frame", frame(1, 0xd, 1, &[200, 0x82])),
        ("data on no stream", frame(0, 0, 0, b"x")),
        ("data on an idle stream", frame(0, 0, 5, b"x")),
        ("a continuation of nothing", frame(9, 4, 1, &[0x82])),
        ("settings with an odd length", frame(4, 0, 0, &[1, 2, 3])),
        ("settings on a stream", frame(4, 0, 1, &[])),
        (
            "a window of no size",
            frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("a window that grows by nothing", frame(8, 0, 0, &[0; 4])),
        (
            "a window that overflows",
            frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        ("a ping of the wrong length", frame(6, 0, 0, &[0; 7])),
        ("a reset of an idle stream", frame(3, 0, 7, &[0; 4])),
        ("a priority of the wrong length", frame(2, 0, 1, &[0; 3])),
        ("a promise by a client", frame(5, 4, 1, &[0, 0, 0, 2, 0x82])),
    ];
    for (what, bad) in cases {
        let sent = [PREFACE, &frame(4, 0, 0, &[]), &bad].concat();
        let answer = send_all(&cluster, &sent).await;
        assert!(is_told(&answer), "{what}: {:?}", Bytes::from(answer));
    }
    cluster.client(0).put("a", "1").await;
    assert_eq!(panics(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_frames_harm_nobody() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for seed in 1..=300 {
        let mut dice = Dice(seed);
        let mut sent = [PREFACE, &frame(4, 0, 0, &[])].concat();
        for _ in 0..1 + dice.below(8) {
            let kind = dice.bytes(1)[0] % 11;
            let flags = dice.bytes(1)[0];
            let stream = u32::try_from(dice.below(6)).unwrap();
            let length = dice.below(60);
            sent.extend(frame(kind, flags, stream, &dice.bytes(length)));
        }
        let cut = sent.len() - dice.below(5);
        send_all(&cluster, &sent[..cut]).await;
    }
    client.put("a", "1").await;
    assert_eq!(panics(), before);
}
