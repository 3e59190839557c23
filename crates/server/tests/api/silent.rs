//! Clients that begin and do not go on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Cluster, PATIENCE};

/// Bytes that a client sends, after which it is silent; and what it is told before the connection ends.
async fn send_and_wait(addr: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(
        ended.is_ok(),
        "it is still open: {:?}",
        String::from_utf8_lossy(sent)
    );
    String::from_utf8(answer).unwrap()
}

/// A cluster of one whose clients must not dawdle.
async fn impatient_cluster() -> Cluster {
    Cluster::start_with(1, |config| config.client_patience = Duration::from_secs(1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_begins_and_does_not_go_on_is_cut() {
    let cluster = impatient_cluster().await;
    let addr = cluster.server(0).client_addr();
    let mut client = cluster.client(0);
    client.put("a", "1").await;
    let silent = ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"];
    let silent = silent.map(|sent| send_and_wait(addr, sent.as_bytes()));
    let header = send_and_wait(addr, b"POST /v3/kv/range HTTP/1.1\r\nhost: a");
    let bodies = [
        ("kv/range", "", "HTTP/1.1 408"),
        ("kv/range", "{\"key\":", "HTTP/1.1 408"),
        ("maintenance/snapshot", "{", "HTTP/1.1 408"),
        ("watch", "", "HTTP/1.1 408"),
        ("watch", "{\"create_request\":", "HTTP/1.1 408"),
        ("nothing", "{", "HTTP/1.1 404"),
    ];
    let stalled = bodies.map(|(path, body, expected)| async move {
        let head = format!("POST /v3/{path} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n");
        let answer = send_and_wait(addr, format!("{head}{body}").as_bytes()).await;
        assert!(answer.starts_with(expected), "{path} {body:?}: {answer}");
        assert!(
            answer.contains("\"message\":\"quorate: "),
            "{path} {body:?}: {answer}"
        );
    });
    let (silent, _, _) = tokio::join!(
        futures::future::join_all(silent),
        header,
        futures::future::join_all(stalled)
    );
    assert_eq!(silent, ["", "", ""], "there is nothing in which to say why");
    // Whoever has said what it speaks may be silent.
    client.put("a", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_by_the_gateway_may_be_silent_between_two_messages() {
    let cluster = impatient_cluster().await;
    let addr = cluster.server(0).client_addr();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let message = r#"{"create_request":{"key":"YQ=="}}"#;
    let head = "POST /v3/watch HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let first = format!("{head}{:x}\r\n{message}\r\n", message.len());
    stream.write_all(first.as_bytes()).await.unwrap();
    // Others that are silent are cut meanwhile, one after the other.
    for _ in 0..2 {
        send_and_wait(addr, b"").await;
    }
    cluster.client(0).put("a", "1").await;
    let mut answer = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&answer).contains("\"events\"") {
        assert!(Instant::now() < deadline);
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it was cut");
    }
}
