//! Transactions.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request as Op;
use quorate_etcd_api::etcdserverpb::response_op::Response as Answer;
use quorate_etcd_api::etcdserverpb::*;

use crate::harness::{Cluster, check_error, put, range, text};

fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    op(Op::RequestPut(put(key, value)))
}

fn compare(key: &str, target: CompareTarget, result: CompareResult, union: TargetUnion) -> Compare {
    Compare {
        key: key.to_owned().into(),
        target: target.into(),
        result: result.into(),
        target_union: Some(union),
        ..Default::default()
    }
}

fn missing(key: &str) -> Compare {
    let union = TargetUnion::CreateRevision(0);
    compare(key, CompareTarget::Create, CompareResult::Equal, union)
}

#[tokio::test]
async fn a_transaction_takes_one_branch_and_one_revision() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let txn = TxnRequest {
        compare: vec![missing("a")],
        success: vec![
            put_op("a", "1"),
            op(Op::RequestRange(range("a", ""))),
            put_op("b", "1"),
        ],
        failure: vec![op(Op::RequestRange(range("a", "")))],
    };
    let response = client.kv.txn(txn.clone()).await.unwrap().into_inner();
    assert!(response.succeeded);
    assert_eq!(response.header.unwrap().revision, 2);
    let Some(Answer::ResponseRange(inner)) = &response.responses[1].response else {
        panic!("the second answer is no range: {response:?}");
    };
    assert_eq!(text(&inner.kvs[0].value), "1");
    let header = inner.header.unwrap();
    assert_eq!(
        (
            header.revision,
            header.cluster_id,
            header.member_id,
            header.raft_term
        ),
        (2, 0, 0, 0)
    );

    let response = client.kv.txn(txn).await.unwrap().into_inner();
    assert!(!response.succeeded);
    assert_eq!(
        (response.header.unwrap().revision, response.responses.len()),
        (2, 1)
    );
}

#[tokio::test]
async fn every_target_compares() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let revision = client.put("a", "m").await;
    let holds = [
        compare(
            "a",
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(1),
        ),
        compare(
            "a",
            CompareTarget::Create,
            CompareResult::Equal,
            TargetUnion::CreateRevision(revision),
        ),
        compare(
            "a",
            CompareTarget::Mod,
            CompareResult::Less,
            TargetUnion::ModRevision(revision + 1),
        ),
        compare(
            "a",
            CompareTarget::Value,
            CompareResult::Greater,
            TargetUnion::Value("l".into()),
        ),
        compare(
            "a",
            CompareTarget::Lease,
            CompareResult::NotEqual,
            TargetUnion::Lease(1),
        ),
    ];
    for compare in holds {
        let txn = TxnRequest {
            compare: vec![compare.clone()],
            ..Default::default()
        };
        let response = client.kv.txn(txn).await.unwrap().into_inner();
        assert!(response.succeeded, "{compare:?}");
    }
    let never = compare(
        "none",
        CompareTarget::Value,
        CompareResult::NotEqual,
        TargetUnion::Value("x".into()),
    );
    let txn = TxnRequest {
        compare: vec![never],
        ..Default::default()
    };
    assert!(!client.kv.txn(txn).await.unwrap().into_inner().succeeded);
}

#[tokio::test]
async fn transactions_nest() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let inner = TxnRequest {
        compare: vec![missing("a")],
        success: vec![put_op("b", "inner")],
        ..Default::default()
    };
    let txn = TxnRequest {
        success: vec![put_op("a", "outer"), op(Op::RequestTxn(inner))],
        ..Default::default()
    };
    let response = client.kv.txn(txn).await.unwrap().into_inner();
    let Some(Answer::ResponseTxn(inner)) = &response.responses[1].response else {
        panic!("the second answer is no transaction: {response:?}");
    };
    // Compares of nested transactions see the state before all of it.
    assert!(inner.succeeded);
    assert_eq!(text(&client.get("b").await.unwrap().value), "inner");
}

#[tokio::test]
async fn bad_transactions_get_etcds_errors_and_change_nothing() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let txn = |success: Vec<RequestOp>| TxnRequest {
        success,
        ..Default::default()
    };
    let many = (0..129).map(|n| put_op(&format!("k{n}"), "")).collect();
    check_error(client.kv.txn(txn(many)).await, EtcdError::TooManyOps);
    let twice = vec![put_op("a", "1"), put_op("a", "2")];
    check_error(client.kv.txn(txn(twice)).await, EtcdError::DuplicateKey);
    let overlap = vec![
        put_op("b", "1"),
        op(Op::RequestDeleteRange(DeleteRangeRequest {
            key: "a".into(),
            range_end: "c".into(),
            prev_kv: false,
        })),
    ];
    check_error(client.kv.txn(txn(overlap)).await, EtcdError::DuplicateKey);
    check_error(
        client.kv.txn(txn(vec![put_op("", "1")])).await,
        EtcdError::EmptyKey,
    );
    check_error(
        client.kv.txn(txn(vec![RequestOp::default()])).await,
        EtcdError::KeyNotFound,
    );
    let leased = PutRequest {
        lease: 404,
        ..put("z", "1")
    };
    let half_bad = vec![put_op("a", "1"), op(Op::RequestPut(leased))];
    check_error(client.kv.txn(txn(half_bad)).await, EtcdError::LeaseNotFound);
    let future = RangeRequest {
        revision: 99,
        ..range("a", "")
    };
    let half_bad = vec![put_op("a", "1"), op(Op::RequestRange(future))];
    check_error(client.kv.txn(txn(half_bad)).await, EtcdError::FutureRev);
    assert_eq!(client.range(range("\0", "\0")).await.count, 0);
    let fitting = (0..128).map(|n| put_op(&format!("k{n}"), "")).collect();
    client.kv.txn(txn(fitting)).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_only_reads_spends_no_revision() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(1);
    let revision = client.put("a", "1").await;
    let txn = TxnRequest {
        compare: vec![missing("a")],
        success: vec![],
        failure: vec![op(Op::RequestRange(range("a", "")))],
    };
    let response = client.kv.txn(txn).await.unwrap().into_inner();
    assert!(!response.succeeded);
    assert_eq!(response.header.unwrap().revision, revision);
    let Some(Answer::ResponseRange(inner)) = &response.responses[0].response else {
        panic!("the answer is no range: {response:?}");
    };
    assert_eq!(text(&inner.kvs[0].value), "1");
}
