package main

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/namespace"
	"go.etcd.io/etcd/clientv3/ordering"
	"go.etcd.io/etcd/etcdserver/api/v3rpc/rpctypes"
)

var basicChecks = []check{
	{"put, get and delete", putGetDelete},
	{"transactions", transactions},
	{"history and compaction", historyAndCompaction},
	{"leases", leases},
	{"members and maintenance", membersAndMaintenance},
	{"namespace", inNamespace},
	{"ordering", ordered},
}

func putGetDelete(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	for i := 0; i < 5; i++ {
		if _, err := cli.Put(ctx, fmt.Sprint(p, i), fmt.Sprint("v", i)); err != nil {
			return err
		}
	}
	old, err := cli.Put(ctx, p+"0", "new", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	page, err := cli.Get(ctx, p, clientv3.WithPrefix(), clientv3.WithLimit(2),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return err
	}
	local, err := cli.Get(ctx, p, clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithSerializable())
	if err != nil {
		return err
	}
	last, err := cli.Get(ctx, p, clientv3.WithLastRev()...)
	if err != nil {
		return err
	}
	gone, err := cli.Delete(ctx, p, clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	return first(
		equal("previous value", "v0", string(old.PrevKv.Value)),
		equal("page", []string{p + "4", p + "3"}, []string{string(page.Kvs[0].Key), string(page.Kvs[1].Key)}),
		equal("more, count", "true 5", fmt.Sprint(page.More, " ", page.Count)),
		// A node that follows may be behind.
		equal("serializable count is within bounds", true, local.Count <= 5),
		equal("last revision", "new", string(last.Kvs[0].Value)),
		equal("deleted", "5 5", fmt.Sprint(gone.Deleted, " ", len(gone.PrevKvs))),
	)
}

func transactions(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	missing := clientv3.Compare(clientv3.CreateRevision(p+"a"), "=", 0)
	put := clientv3.OpPut(p+"a", "1")
	created, err := cli.Txn(ctx).If(missing).Then(put).Else(clientv3.OpGet(p + "a")).Commit()
	if err != nil {
		return err
	}
	again, err := cli.Txn(ctx).If(missing).Then(put).Else(clientv3.OpGet(p + "a")).Commit()
	if err != nil {
		return err
	}
	nested, err := cli.Txn(ctx).If(clientv3.Compare(clientv3.Value(p), ">", "0").WithPrefix()).Then(
		clientv3.OpPut(p+"b", "2"),
		clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version(p+"b"), "=", 1)},
			[]clientv3.Op{clientv3.OpDelete(p + "a")}, nil),
		clientv3.OpGet(p, clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return err
	}
	_, twice := cli.Txn(ctx).Then(put, clientv3.OpPut(p+"a", "2")).Commit()
	inner := nested.Responses[1].GetResponseTxn()
	left := nested.Responses[2].GetResponseRange()
	return first(
		equal("succeeded", "true false", fmt.Sprint(created.Succeeded, again.Succeeded)),
		equal("else", "1", string(again.Responses[0].GetResponseRange().Kvs[0].Value)),
		// The comparisons of a transaction within are made before anything is written.
		equal("within", false, inner.Succeeded),
		equal("left", 2, len(left.Kvs)),
		equal("the same key twice", rpctypes.ErrDuplicateKey, twice),
	)
}

func historyAndCompaction(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	one, err := cli.Put(ctx, p+"a", "1")
	if err != nil {
		return err
	}
	two, err := cli.Put(ctx, p+"a", "2")
	if err != nil {
		return err
	}
	then, err := cli.Get(ctx, p+"a", clientv3.WithRev(one.Header.Revision))
	if err != nil {
		return err
	}
	_, future := cli.Get(ctx, p+"a", clientv3.WithRev(two.Header.Revision+1000))
	if _, err = cli.Compact(ctx, two.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	_, compacted := cli.Get(ctx, p+"a", clientv3.WithRev(one.Header.Revision))
	watched := <-cli.Watch(ctx, p+"a", clientv3.WithRev(one.Header.Revision))
	return first(
		equal("then", "1", string(then.Kvs[0].Value)),
		equal("future", rpctypes.ErrFutureRev, future),
		equal("compacted", rpctypes.ErrCompacted, compacted),
		equal("watch of what is compacted", rpctypes.ErrCompacted, watched.Err()),
		equal("from where a watch can start", two.Header.Revision, watched.CompactRevision),
	)
}

func leases(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	kept, err := cli.Grant(ctx, 2)
	if err != nil {
		return err
	}
	short, err := cli.Grant(ctx, 2)
	if err != nil {
		return err
	}
	for key, lease := range map[string]clientv3.LeaseID{"kept": kept.ID, "short": short.ID} {
		if _, err = cli.Put(ctx, p+key, "", clientv3.WithLease(lease)); err != nil {
			return err
		}
	}
	alive, err := cli.KeepAlive(ctx, kept.ID)
	if err != nil {
		return err
	}
	ended := <-cli.Watch(ctx, p+"short", clientv3.WithRev(short.Revision+1), clientv3.WithFilterPut())
	answer, open := <-alive
	ttl, err := cli.TimeToLive(ctx, kept.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	_, gone := cli.KeepAliveOnce(ctx, short.ID)
	listed, err := cli.Leases(ctx)
	if err != nil {
		return err
	}
	if _, err = cli.Revoke(ctx, kept.ID); err != nil {
		return err
	}
	left, err := cli.Get(ctx, p, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	return first(
		equal("a lease that ends deletes its key", "DELETE", ended.Events[0].Type),
		equal("kept alive", "true 2", fmt.Sprint(open, answer.TTL)),
		equal("time to live", "2 ["+p+"kept]", fmt.Sprintf("%d %s", ttl.GrantedTTL, ttl.Keys)),
		equal("keep-alive of one that has ended", rpctypes.ErrLeaseNotFound, gone),
		equal("one lease at least is listed", true, len(listed.Leases) > 0),
		equal("left when it is revoked", 0, len(left.Kvs)),
	)
}

func membersAndMaintenance(ctx context.Context, c *cluster, cli *clientv3.Client, p string) error {
	members, err := cli.MemberList(ctx)
	if err != nil {
		return err
	}
	put, err := cli.Put(ctx, p+"a", "1")
	if err != nil {
		return err
	}
	hashes, leader := map[uint32]bool{}, uint64(0)
	for _, endpoint := range c.endpoints {
		status, err := cli.Status(ctx, endpoint)
		if err != nil {
			return err
		}
		leader = status.Leader
		// Linearizable reads wait until the node has applied the write.
		one, err := connect([]string{endpoint})
		if err != nil {
			return err
		}
		if _, err = one.Get(ctx, p+"a"); err == nil {
			var hash *clientv3.HashKVResponse
			if hash, err = one.HashKV(ctx, endpoint, put.Header.Revision); err == nil {
				hashes[hash.Hash] = true
			}
		}
		if err == nil {
			_, err = one.Defragment(ctx, endpoint)
		}
		one.Close()
		if err != nil {
			return err
		}
	}
	alarms, err := cli.AlarmList(ctx)
	if err != nil {
		return err
	}
	if err = moveLeader(ctx, c, cli, leader, members); err != nil {
		return err
	}
	return first(
		equal("members", 3, len(members.Members)),
		equal("different hashes", 1, len(hashes)),
		equal("alarms", 0, len(alarms.Alarms)),
	)
}

// Moves the leadership to another member, by a client of the leader.
func moveLeader(ctx context.Context, c *cluster, cli *clientv3.Client, leader uint64, members *clientv3.MemberListResponse) error {
	var heir uint64
	var at string
	for _, member := range members.Members {
		if member.ID == leader {
			at = member.ClientURLs[0]
		} else {
			heir = member.ID
		}
	}
	one, err := connect([]string{at})
	if err != nil {
		return err
	}
	defer one.Close()
	if _, err = one.MoveLeader(ctx, heir); err != nil {
		return err
	}
	for {
		status, err := cli.Status(ctx, c.endpoints[0])
		if err == nil && status.Leader == heir {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%x does not lead", heir)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func inNamespace(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	kv, watcher, lease := namespace.NewKV(cli, p), namespace.NewWatcher(cli, p), namespace.NewLease(cli, p)
	granted, err := lease.Grant(ctx, 60)
	if err != nil {
		return err
	}
	put, err := kv.Put(ctx, "a", "1", clientv3.WithLease(granted.ID))
	if err != nil {
		return err
	}
	inside, err := kv.Get(ctx, "a", clientv3.WithFromKey())
	if err != nil {
		return err
	}
	outside, err := cli.Get(ctx, p+"a")
	if err != nil {
		return err
	}
	seen := <-watcher.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(put.Header.Revision))
	ttl, err := lease.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	return first(
		equal("inside", "a", string(inside.Kvs[0].Key)),
		equal("outside", "1", string(outside.Kvs[0].Value)),
		equal("watched", "a", string(seen.Events[0].Kv.Key)),
		equal("attached", "[a]", fmt.Sprintf("%s", ttl.Keys)),
	)
}

// Reads of any node, each of which is asked for what it has, that never go back.
func ordered(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	again := func(_ clientv3.Op, _ clientv3.OpResponse, _ int64) error {
		time.Sleep(10 * time.Millisecond)
		return nil
	}
	kv := ordering.NewKV(cli.KV, again)
	var last int64
	for i := 0; i < 200; i++ {
		put, err := kv.Put(ctx, p+"a", fmt.Sprint(i))
		if err != nil {
			return err
		}
		got, err := kv.Get(ctx, p+"a", clientv3.WithSerializable())
		if err != nil {
			return err
		}
		if got.Header.Revision < last {
			return fmt.Errorf("revision %d was read after %d", got.Header.Revision, last)
		}
		last = got.Header.Revision
		if i%10 == 0 {
			// A read of the latest: what follows may be no older.
			if got, err = kv.Get(ctx, p+"a"); err != nil {
				return err
			}
			if last = got.Header.Revision; last < put.Header.Revision {
				return fmt.Errorf("revision %d was read after %d was written", last, put.Header.Revision)
			}
		}
	}
	return nil
}
