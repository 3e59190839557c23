package main

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/mirror"
)

var watchChecks = []check{
	{"watch from an old revision", watchOld},
	{"watch is canceled", watchCanceled},
	{"watch progress", watchProgress},
	{"watch large events in fragments", watchFragments},
	{"mirror", mirrored},
}

func watchOld(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	put, err := cli.Put(ctx, p+"a", "1")
	if err != nil {
		return err
	}
	if _, err = cli.Put(ctx, p+"a", "2"); err != nil {
		return err
	}
	if _, err = cli.Delete(ctx, p+"a"); err != nil {
		return err
	}
	var found []string
	for response := range cli.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(put.Header.Revision), clientv3.WithPrevKV()) {
		if response.Err() != nil {
			return response.Err()
		}
		for _, event := range response.Events {
			before := ""
			if event.PrevKv != nil {
				before = string(event.PrevKv.Value)
			}
			found = append(found, fmt.Sprintf("%s %q after %q", event.Type, event.Kv.Value, before))
		}
		if len(found) >= 3 {
			break
		}
	}
	return equal("events", []string{`PUT "1" after ""`, `PUT "2" after "1"`, `DELETE "" after "2"`}, found)
}

func watchCanceled(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	within, cancel := context.WithCancel(ctx)
	canceled := cli.Watch(within, p+"a", clientv3.WithCreatedNotify())
	other := cli.Watch(ctx, p+"a", clientv3.WithCreatedNotify())
	created := (<-canceled).Created && (<-other).Created
	cancel()
	for range canceled {
	}
	if _, err := cli.Put(ctx, p+"a", "1"); err != nil {
		return err
	}
	seen := <-other
	return first(
		equal("created", true, created),
		equal("the other goes on", "1", string(seen.Events[0].Kv.Value)),
	)
}

func watchProgress(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	watched := cli.Watch(ctx, p+"a", clientv3.WithCreatedNotify())
	<-watched
	put, err := cli.Put(ctx, p+"b", "not watched")
	if err != nil {
		return err
	}
	for {
		// The node that is asked may not have applied the write yet.
		if err := cli.RequestProgress(ctx); err != nil {
			return err
		}
		select {
		case response := <-watched:
			if response.IsProgressNotify() && response.Header.Revision >= put.Header.Revision {
				return nil
			}
			if len(response.Events) > 0 {
				return fmt.Errorf("an event of another key: %v", response.Events)
			}
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func watchFragments(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	const count, size = 10, 1 << 20
	value := string(make([]byte, size))
	var start int64
	for i := 0; i < count; i++ {
		put, err := cli.Put(ctx, fmt.Sprint(p, i), value)
		if err != nil {
			return err
		}
		if i == 0 {
			start = put.Header.Revision
		}
	}
	seen := 0
	for response := range cli.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(start), clientv3.WithFragment()) {
		if response.Err() != nil {
			return response.Err()
		}
		for _, event := range response.Events {
			if err := equal("key", fmt.Sprint(p, seen), string(event.Kv.Key)); err != nil {
				return err
			}
			seen++
		}
		if seen >= count {
			break
		}
	}
	_, err := cli.Delete(ctx, p, clientv3.WithPrefix())
	return first(equal("events", count, seen), err)
}

// The history and then the changes, as etcdctl make-mirror takes them.
func mirrored(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	const count = 2500
	for i := 0; i < count; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%04d", p, j), fmt.Sprint(j)))
		}
		if _, err := cli.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	syncer := mirror.NewSyncer(cli, p, 0)
	copied := map[string]string{}
	pages, errs := syncer.SyncBase(ctx)
	for page := range pages {
		for _, kv := range page.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	if err := <-errs; err != nil {
		return err
	}
	changes := syncer.SyncUpdates(ctx)
	if _, err := cli.Put(ctx, p+"later", "1"); err != nil {
		return err
	}
	change := <-changes
	return first(
		equal("copied", count, len(copied)),
		equal("a value", "1234", copied[p+"1234"]),
		equal("changed", p+"later", string(change.Events[0].Kv.Key)),
	)
}
