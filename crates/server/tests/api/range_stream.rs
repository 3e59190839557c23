//! RangeStream: a range in pieces.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::*;
use tonic::Code;

use crate::harness::{Client, Cluster, check_error, put, range};

async fn pieces(client: &mut Client, request: RangeRequest) -> Vec<RangeResponse> {
    let mut stream = client.kv.range_stream(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        pieces.push(piece.range_response.unwrap());
    }
    pieces
}

/// The pieces as the one answer that Range gives. Only the last may say anything but keys.
fn joined(pieces: Vec<RangeResponse>) -> RangeResponse {
    let mut whole = RangeResponse::default();
    let last = pieces.len() - 1;
    for (number, piece) in pieces.into_iter().enumerate() {
        assert_eq!(piece.header.is_some(), number == last, "piece {number} of {last}");
        assert!(number == last || (piece.count == 0 && !piece.more));
        let kvs = [whole.kvs, piece.kvs].concat();
        whole = RangeResponse { kvs, ..piece };
    }
    whole
}

async fn filled(cluster: &Cluster) -> Client {
    let mut client = cluster.client(0);
    for n in 0..300 {
        client.put(&format!("k{n:03}"), "value").await;
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pieces_are_what_range_answers() {
    let cluster = Cluster::start(3).await;
    let mut client = filled(&cluster).await;
    let requests = [
        range("\0", "\0"),
        range("k100", "k200"),
        range("k100", ""),
        range("none", ""),
        RangeRequest {
            limit: 25,
            ..range("k", "l")
        },
        RangeRequest {
            limit: 300,
            ..range("k", "l")
        },
        RangeRequest {
            keys_only: true,
            serializable: true,
            ..range("k", "l")
        },
        RangeRequest {
            count_only: true,
            ..range("k", "l")
        },
        RangeRequest {
            revision: 50,
            limit: 30,
            ..range("k", "l")
        },
    ];
    for request in requests {
        let expected = client.range(request.clone()).await;
        let found = joined(pieces(&mut client, request.clone()).await);
        assert_eq!(found, expected, "{request:?}");
    }
    let sizes: Vec<usize> = pieces(&mut client, range("k", "l"))
        .await
        .iter()
        .map(|piece| piece.kvs.len())
        .collect();
    assert_eq!(sizes, [10, 20, 40, 80, 150]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_is_bounded_in_bytes() {
    let cluster = Cluster::start_with(1, |config| config.limits.max_request_bytes = 40_000).await;
    let mut client = cluster.client(0);
    for n in 0..40 {
        client.put(&format!("k{n:02}"), &"x".repeat(15_000)).await;
    }
    let found = pieces(&mut client, range("k", "l")).await;
    assert!(found.iter().all(|piece| piece.kvs.len() <= 3), "{}", found.len());
    assert_eq!(joined(found).count, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_whole_range_first_is_refused() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let sorted = |order: SortOrder, target: SortTarget| RangeRequest {
        sort_order: order.into(),
        sort_target: target.into(),
        ..range("k", "l")
    };
    let refused = [
        sorted(SortOrder::Descend, SortTarget::Key),
        sorted(SortOrder::Ascend, SortTarget::Mod),
        RangeRequest {
            min_mod_revision: 2,
            ..range("k", "l")
        },
    ];
    for request in refused {
        let status = client.kv.range_stream(request).await.map(|_| ()).unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert!(!status.message().contains("etcdserver"), "{status}");
    }
    check_error(client.kv.range_stream(range("", "")).await, EtcdError::EmptyKey);
    let future = RangeRequest {
        revision: 99,
        ..range("k", "")
    };
    check_error(client.kv.range_stream(future).await, EtcdError::FutureRev);
}

/// What is overwritten meanwhile is not seen; what is compacted meanwhile ends the stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_its_revision_or_ends() {
    let cluster = Cluster::start_with(1, |config| config.limits.max_request_bytes = 200_000).await;
    let mut client = cluster.client(0);
    for n in 0..200 {
        client.put(&format!("k{n:03}"), &"x".repeat(100_000)).await;
    }
    let begin = async |client: &mut Client| {
        let mut stream = client
            .kv
            .range_stream(range("k", "l"))
            .await
            .unwrap()
            .into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    };
    let mut stream = begin(&mut cluster.client(0)).await;
    let revision = client.put("k199", "overwritten").await;
    let mut last = RangeResponse::default();
    while let Some(piece) = stream.message().await.unwrap() {
        last = piece.range_response.unwrap();
    }
    assert_eq!(last.header.unwrap().revision, revision - 1);
    assert_eq!(last.kvs.last().unwrap().value.len(), 100_000);

    let mut stream = begin(&mut cluster.client(0)).await;
    client.kv.put(put("k199", "once more")).await.unwrap();
    client.compact(revision + 1).await;
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("20 MB were on their way before the client took them"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.message(), EtcdError::Compacted.message());
}
