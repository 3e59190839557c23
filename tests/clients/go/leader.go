package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

var leaderChecks = []check{
	{"watch across changes of the leader", watchAcross},
	{"session, mutex and election across changes of the leader", sessionAcross},
}

const leaderKills = 3

// One event as text.
func text(event *clientv3.Event) string {
	return fmt.Sprintf("%d %s=%s", event.Kv.ModRevision, event.Kv.Key, event.Kv.Value)
}

// Watches of the client go on by themselves: what they show is the history, no event lost, doubled or out of order.
func watchAcross(ctx context.Context, c *cluster, cli *clientv3.Client, p string) error {
	begin, err := cli.Put(ctx, p+"begin", "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// One client goes from node to node. The others have one each, so that some streams are cut for sure.
	clients := []*clientv3.Client{cli}
	for i := range c.endpoints {
		one, err := connect(c.endpoints[i : i+1])
		if err != nil {
			return err
		}
		defer one.Close()
		clients = append(clients, one)
	}
	seen := make(chan []string, len(clients))
	for _, watcher := range clients {
		go func(watcher *clientv3.Client) { seen <- collect(ctx, watcher, p, begin.Header.Revision+1) }(watcher)
	}
	var acknowledged, unknown int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	writer, err := connect(c.endpoints)
	if err != nil {
		return err
	}
	defer writer.Close()
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			within, cancel := context.WithTimeout(ctx, 3*time.Second)
			_, err := writer.Put(within, fmt.Sprint(p, "k", i%10), fmt.Sprint(i))
			cancel()
			if err == nil {
				atomic.AddInt64(&acknowledged, 1)
			} else {
				atomic.AddInt64(&unknown, 1)
			}
		}
	}()
	for i := 0; i < leaderKills; i++ {
		before := atomic.LoadInt64(&acknowledged)
		if err := killLeader(ctx, c, func() bool { return atomic.LoadInt64(&acknowledged) > before+200 }); err != nil {
			return err
		}
	}
	close(stop)
	<-stopped
	if _, err = cli.Put(ctx, p+"end", "end"); err != nil {
		return err
	}
	history := collect(ctx, cli, p, begin.Header.Revision+1)
	for range clients {
		if err := same(history, <-seen); err != nil {
			return err
		}
	}
	fmt.Printf("  %d writes acknowledged, %d of unknown outcome, %d events\n", acknowledged, unknown, len(history))
	return first(
		equal("every acknowledged write is an event", true, int64(len(history)-1) >= acknowledged),
		equal("no other is", true, int64(len(history)-1) <= acknowledged+unknown),
	)
}

// same fails if a watch did not show what the history is.
func same(history, found []string) error {
	for i := range history {
		if i >= len(found) || history[i] != found[i] {
			return fmt.Errorf("event %d of the history is %q; seen were %d events of %d", i, history[i], len(found), len(history))
		}
	}
	return equal("events", len(history), len(found))
}

// collect is all events from a revision until the key "end" is written.
func collect(ctx context.Context, cli *clientv3.Client, p string, from int64) []string {
	var found []string
	for response := range cli.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if response.Err() != nil {
			return append(found, response.Err().Error())
		}
		for _, event := range response.Events {
			found = append(found, text(event))
			if string(event.Kv.Key) == p+"end" {
				return found
			}
		}
	}
	return found
}

// killLeader kills the leader and starts it again; before and after, it waits until there is progress.
func killLeader(ctx context.Context, c *cluster, progress func() bool) error {
	await := func() error {
		for !progress() {
			select {
			case <-ctx.Done():
				return fmt.Errorf("nothing goes on")
			case <-time.After(10 * time.Millisecond):
			}
		}
		return nil
	}
	if err := await(); err != nil {
		return err
	}
	if _, err := c.call("kill-leader"); err != nil {
		return err
	}
	time.Sleep(time.Second)
	if _, err := c.call("restart"); err != nil {
		return err
	}
	return await()
}

// A session's lease outlives the leaders that kept it, with the lock that is held and the office that was won.
func sessionAcross(ctx context.Context, c *cluster, cli *clientv3.Client, p string) error {
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(5))
	if err != nil {
		return err
	}
	defer s.Close()
	m, e := concurrency.NewMutex(s, p+"lock"), concurrency.NewElection(s, p+"election")
	if err := first(m.Lock(ctx), e.Campaign(ctx, "me")); err != nil {
		return err
	}
	for i := 0; i < leaderKills; i++ {
		if err := killLeader(ctx, c, func() bool { return true }); err != nil {
			return err
		}
		select {
		case <-s.Done():
			return fmt.Errorf("the session has ended")
		case <-time.After(2 * time.Second):
		}
	}
	owned, err := cli.Txn(ctx).If(m.IsOwner()).Commit()
	if err != nil {
		return err
	}
	leader, err := e.Leader(ctx)
	if err != nil {
		return err
	}
	return first(
		equal("the lock is held", true, owned.Succeeded),
		equal("it leads", "me", string(leader.Kvs[0].Value)),
		e.Resign(ctx),
		m.Unlock(ctx),
	)
}
