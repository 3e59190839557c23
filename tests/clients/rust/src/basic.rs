//! Keys, members, maintenance, TLS.

use crate::{Cluster, Outcome, ensure, equal, options, refusal};
use etcd_client::{
    AlarmAction, AlarmType, Certificate, Client, Compare, CompareOp, DeleteOptions, GetOptions,
    KvClientPrefix, PutOptions, SortOrder, SortTarget, TlsOptions, Txn, TxnOp, TxnOpResponse,
};

pub async fn put_get_delete(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    for number in 0..5 {
        client
            .put(format!("basic/{number}"), format!("v{number}"), None)
            .await?;
    }
    let put = client
        .put("basic/0", "new", Some(PutOptions::new().with_prev_key()))
        .await?;
    equal(
        "previous value",
        put.prev_key().map(|kv| kv.value().to_vec()),
        Some(b"v0".to_vec()),
    )?;
    let descending = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Key, SortOrder::Descend)
        .with_limit(2);
    let page = client.get("basic/", Some(descending)).await?;
    let keys: Vec<&str> = page.kvs().iter().filter_map(|kv| kv.key_str().ok()).collect();
    equal("page", keys, ["basic/4", "basic/3"])?;
    equal("more, count", (page.more(), page.count()), (true, 5))?;
    let kv = &page.kvs()[1];
    equal("version", kv.version(), 1)?;
    equal("create and mod revision", kv.create_revision(), kv.mod_revision())?;
    let deleted = client
        .delete("basic/", Some(DeleteOptions::new().with_prefix().with_prev_key()))
        .await?;
    equal("deleted", (deleted.deleted(), deleted.prev_kvs().len()), (5, 5))?;
    let counted = client
        .get("basic/", Some(GetOptions::new().with_prefix().with_count_only()))
        .await?;
    equal("left", counted.count(), 0)
}

pub async fn transactions(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let create = || {
        Txn::new()
            .when([Compare::create_revision("txn/a", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("txn/a", "1", None), TxnOp::put("txn/b", "2", None)])
            .or_else([TxnOp::get("txn/", Some(GetOptions::new().with_prefix()))])
    };
    equal("first", client.txn(create()).await?.succeeded(), true)?;
    let second = client.txn(create()).await?;
    equal("second", second.succeeded(), false)?;
    match second.op_responses().as_slice() {
        [TxnOpResponse::Get(get)] => equal("found", get.count(), 2)?,
        other => return Err(format!("not one answer to a get: {other:?}").into()),
    }
    let nested = Txn::new()
        .when([Compare::value("txn/", CompareOp::Greater, "0").with_prefix()])
        .and_then([
            TxnOp::txn(Txn::new().and_then([TxnOp::delete("txn/a", None)])),
            TxnOp::get("txn/a", None),
        ]);
    match client.txn(nested).await?.op_responses().as_slice() {
        [TxnOpResponse::Txn(_), TxnOpResponse::Get(get)] => {
            equal("deleted before it is read", get.count(), 0)?
        }
        other => return Err(format!("not the answers to a transaction and a get: {other:?}").into()),
    }
    let twice = Txn::new().and_then([TxnOp::put("txn/a", "", None), TxnOp::put("txn/a", "", None)]);
    let refused = refusal(client.txn(twice).await);
    equal(
        "twice",
        refused.as_str(),
        "InvalidArgument: etcdserver: duplicate key given in txn request",
    )
}

pub async fn compaction(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let mut revisions = Vec::new();
    for value in ["1", "2"] {
        let put = client.put("compacted", value, None).await?;
        revisions.push(put.header().ok_or("no header")?.revision());
    }
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    equal(
        "then",
        client.get("compacted", at(revisions[0])).await?.kvs()[0].value(),
        b"1",
    )?;
    client.compact(revisions[1], None).await?;
    let refused = refusal(client.get("compacted", at(revisions[0])).await);
    let expected = "OutOfRange: etcdserver: mvcc: required revision has been compacted";
    equal("compacted", refused.as_str(), expected)?;
    let refused = refusal(client.get("compacted", at(revisions[1] + 100_000)).await);
    equal(
        "future",
        refused.as_str(),
        "OutOfRange: etcdserver: mvcc: required revision is a future revision",
    )
}

pub async fn namespaces(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let mut within = KvClientPrefix::new(client.kv_client(), "space/".into());
    within.put("a", "1", None).await?;
    let inside = within.get("a", None).await?;
    equal(
        "inside",
        inside.kvs().first().map(|kv| kv.key()),
        Some(b"a".as_slice()),
    )?;
    equal("outside", client.get("space/a", None).await?.count(), 1)
}

pub async fn members(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let members = client.member_list().await?;
    let mut names: Vec<&str> = members.members().iter().map(|member| member.name()).collect();
    names.sort_unstable();
    equal("names", names, ["n1", "n2", "n3"])?;
    for member in members.members() {
        equal("client URLs", member.client_urls().len(), 1)?;
        ensure(!member.is_learner(), || format!("{} is a learner", member.name()))?;
    }
    Ok(())
}

pub async fn maintenance(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let put = client.put("maintenance", "1", None).await?;
    let revision = put.header().ok_or("no header")?.revision();
    let (mut leaders, mut hashes) = (Vec::new(), Vec::new());
    for endpoint in &cluster.endpoints {
        let mut one = Client::connect([endpoint], Some(options())).await?;
        // A linearizable read: the node has then applied the write.
        one.get("maintenance", None).await?;
        let status = one.status().await?;
        leaders.push(status.leader());
        ensure(status.db_size() > 0 && status.raft_term() > 0, || {
            format!("{status:?}")
        })?;
        hashes.push(one.hash_kv(revision).await?.hash());
        one.defragment().await?;
    }
    equal("leaders", (leaders[1], leaders[2]), (leaders[0], leaders[0]))?;
    equal("hashes", (hashes[1], hashes[2]), (hashes[0], hashes[0]))?;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    equal("alarms", alarms.alarms().len(), 0)
}

/// By TLS, to a server whose certificate is by an authority of ours; not by another.
pub async fn tls(cluster: &Cluster) -> Outcome {
    let authority = Certificate::from_pem(std::fs::read(&cluster.ca_file)?);
    let trusting = options().with_tls(TlsOptions::new().ca_certificate(authority));
    let mut client = Client::connect([&cluster.tls_endpoint], Some(trusting)).await?;
    client.put("tls", "1", None).await?;
    equal("read back", client.get("tls", None).await?.kvs()[0].value(), b"1")?;
    let strict = options().with_tls(TlsOptions::new());
    let refused = match Client::connect([&cluster.tls_endpoint], Some(strict)).await {
        Ok(mut client) => client.get("tls", None).await.is_err(),
        Err(_) => true,
    };
    ensure(refused, || "a certificate by nobody known is believed".to_owned())
}
