//! Range, Put and DeleteRange.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::*;

use crate::harness::{Cluster, check_error, keys, put, range, text};

#[tokio::test]
async fn a_put_is_read_back_with_its_revisions() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let first = client.put("a", "1").await;
    let second = client.put("a", "2").await;
    assert_eq!(second, first + 1);

    let response = client.range(range("a", "")).await;
    let header = response.header.unwrap();
    assert_eq!(header.revision, second);
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
    assert_eq!((response.count, response.more), (1, false));
    let kv = &response.kvs[0];
    assert_eq!((text(&kv.key), text(&kv.value)), ("a".to_owned(), "2".to_owned()));
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (first, second, 2)
    );
}

#[tokio::test]
async fn the_first_write_has_revision_2() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let response = client.range(range("a", "")).await;
    assert_eq!((response.header.unwrap().revision, response.count), (1, 0));
    assert_eq!(client.put("a", "1").await, 2);
}

#[tokio::test]
async fn a_put_returns_what_was_before_if_asked() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.put("a", "1").await;
    let request = PutRequest {
        prev_kv: true,
        ..put("a", "2")
    };
    let response = client.kv.put(request).await.unwrap().into_inner();
    assert_eq!(text(&response.prev_kv.unwrap().value), "1");
}

#[tokio::test]
async fn a_put_can_keep_the_value_or_the_lease() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let lease = client.grant(100, 7).await.id;
    let request = PutRequest {
        lease,
        ..put("a", "1")
    };
    client.kv.put(request).await.unwrap();

    let keep_lease = PutRequest {
        ignore_lease: true,
        ..put("a", "2")
    };
    client.kv.put(keep_lease).await.unwrap();
    let kv = client.get("a").await.unwrap();
    assert_eq!((text(&kv.value), kv.lease), ("2".to_owned(), 7));

    let keep_value = PutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    client.kv.put(keep_value).await.unwrap();
    let kv = client.get("a").await.unwrap();
    assert_eq!((text(&kv.value), kv.lease), ("2".to_owned(), 0));
}

#[tokio::test]
async fn a_delete_says_what_it_deleted_and_spends_a_revision_only_then() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for key in ["a", "b", "c"] {
        client.put(key, key).await;
    }
    let response = client.delete("a", "c").await;
    assert_eq!(response.deleted, 2);
    let deleted: Vec<String> = response.prev_kvs.iter().map(|kv| text(&kv.key)).collect();
    assert_eq!(deleted, ["a", "b"]);
    let revision = response.header.unwrap().revision;
    assert_eq!(revision, 5);

    let nothing = client.delete("a", "c").await;
    assert_eq!((nothing.deleted, nothing.header.unwrap().revision), (0, revision));
    assert_eq!(keys(&client.range(range("\0", "\0")).await), ["c"]);
}

#[tokio::test]
async fn a_range_is_limited_sorted_and_filtered_as_etcd_does() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2")] {
        client.put(key, value).await;
    }
    let limited = RangeRequest {
        limit: 2,
        ..range("a", "z")
    };
    let response = client.range(limited).await;
    assert_eq!(
        (keys(&response), response.more, response.count),
        (vec!["a".into(), "b".into()], true, 3)
    );

    let by_value = RangeRequest {
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Value.into(),
        ..range("a", "z")
    };
    assert_eq!(keys(&client.range(by_value).await), ["a", "c", "b"]);

    let newer = RangeRequest {
        min_mod_revision: 3,
        ..range("a", "z")
    };
    let response = client.range(newer).await;
    assert_eq!(
        (keys(&response), response.count),
        (vec!["b".into(), "c".into()], 3)
    );

    let keys_only = RangeRequest {
        keys_only: true,
        ..range("a", "z")
    };
    assert!(
        client
            .range(keys_only)
            .await
            .kvs
            .iter()
            .all(|kv| kv.value.is_empty())
    );

    let count_only = RangeRequest {
        count_only: true,
        ..range("a", "z")
    };
    let response = client.range(count_only).await;
    assert_eq!((response.count, response.kvs.len()), (3, 0));
}

#[tokio::test]
async fn a_range_reads_the_past_until_it_is_compacted() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let first = client.put("a", "1").await;
    let second = client.put("a", "2").await;
    let third = client.put("a", "3").await;
    let at = |revision| RangeRequest {
        revision,
        ..range("a", "")
    };
    let past = client.range(at(first)).await;
    assert_eq!(text(&past.kvs[0].value), "1");
    assert_eq!(past.header.unwrap().revision, third);

    client.compact(second).await;
    check_error(client.kv.range(at(first)).await, EtcdError::Compacted);
    assert_eq!(text(&client.range(at(second)).await.kvs[0].value), "2");
    check_error(client.kv.range(at(third + 1)).await, EtcdError::FutureRev);
}

#[tokio::test]
async fn compaction_refuses_what_is_compacted_and_what_is_to_come() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.put("a", "1").await;
    let revision = client.put("a", "2").await;
    client.compact(revision).await;
    let request = |revision| CompactionRequest {
        revision,
        physical: false,
    };
    check_error(client.kv.compact(request(revision)).await, EtcdError::Compacted);
    check_error(
        client.kv.compact(request(revision + 1)).await,
        EtcdError::FutureRev,
    );
}

#[tokio::test]
async fn bad_requests_get_etcds_errors() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    check_error(client.kv.put(put("", "x")).await, EtcdError::EmptyKey);
    check_error(client.kv.range(range("", "")).await, EtcdError::EmptyKey);
    check_error(
        client.kv.delete_range(DeleteRangeRequest::default()).await,
        EtcdError::EmptyKey,
    );
    let value_given = PutRequest {
        ignore_value: true,
        ..put("a", "x")
    };
    check_error(client.kv.put(value_given).await, EtcdError::ValueProvided);
    let lease_given = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("a", "x")
    };
    check_error(client.kv.put(lease_given).await, EtcdError::LeaseProvided);
    let nothing_to_keep = PutRequest {
        ignore_value: true,
        ..put("missing", "")
    };
    check_error(client.kv.put(nothing_to_keep).await, EtcdError::KeyNotFound);
    let unknown_lease = PutRequest {
        lease: 404,
        ..put("a", "x")
    };
    check_error(client.kv.put(unknown_lease).await, EtcdError::LeaseNotFound);
    let unknown_sort = RangeRequest {
        sort_order: 9,
        ..range("a", "")
    };
    check_error(client.kv.range(unknown_sort).await, EtcdError::InvalidSortOption);
    assert_eq!(client.range(range("a", "")).await.header.unwrap().revision, 1);
}

#[tokio::test]
async fn what_one_member_wrote_every_member_reads() {
    let cluster = Cluster::start(3).await;
    for writer in 0..3 {
        let key = format!("k{writer}");
        let revision = cluster.client(writer).put(&key, "v").await;
        for reader in 0..3 {
            let mut client = cluster.client(reader);
            let kv = client
                .get(&key)
                .await
                .expect("a linearizable read misses an acknowledged write");
            assert_eq!(kv.mod_revision, revision);
        }
    }
}

#[tokio::test]
async fn a_restarted_member_finds_its_data() {
    let mut cluster = Cluster::start(1).await;
    let revision = cluster.client(0).put("a", "1").await;
    cluster.stop(0).await;
    cluster.restart(0).await;
    cluster.server(0).ready().await;
    let kv = cluster.client(0).get("a").await.unwrap();
    assert_eq!((text(&kv.value), kv.mod_revision), ("1".to_owned(), revision));
}
