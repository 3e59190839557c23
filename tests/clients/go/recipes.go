package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	recipe "go.etcd.io/etcd/contrib/recipes"
)

// Seconds that the lease of a killed process goes on.
const holderTTL = 3

var recipeChecks = []check{
	{"session", session},
	{"mutex of two", mutexOfTwo},
	{"mutex whose holder is killed", mutexOfKilled},
	{"election", election},
	{"transactional memory", transactionalMemory},
	{"queues", queues},
	{"barriers", barriers},
}

func session(ctx context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(2))
	if err != nil {
		return err
	}
	if _, err = cli.Put(ctx, p+"a", "", clientv3.WithLease(s.Lease())); err != nil {
		return err
	}
	time.Sleep(4 * time.Second)
	kept, err := cli.Get(ctx, p+"a")
	if err != nil {
		return err
	}
	if _, err = cli.Revoke(ctx, s.Lease()); err != nil {
		return err
	}
	select {
	case <-s.Done():
	case <-ctx.Done():
		return fmt.Errorf("a session does not learn that its lease has ended")
	}
	return equal("kept", 1, len(kept.Kvs))
}

// Two that want the lock take turns; never both have it.
func mutexOfTwo(ctx context.Context, c *cluster, _ *clientv3.Client, p string) error {
	const turns = 25
	var inside, total int
	var guard sync.Mutex
	enter := func(by int) error {
		guard.Lock()
		defer guard.Unlock()
		inside += by
		if inside > 1 {
			return fmt.Errorf("both hold the lock")
		}
		return nil
	}
	work := func() error {
		cli, err := connect(c.endpoints)
		if err != nil {
			return err
		}
		defer cli.Close()
		s, err := concurrency.NewSession(cli)
		if err != nil {
			return err
		}
		defer s.Close()
		m := concurrency.NewMutex(s, p+"lock")
		for i := 0; i < turns; i++ {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			err := enter(1)
			time.Sleep(time.Millisecond)
			total++ // Guarded by the lock under test; the race would show in the sum.
			if err = first(err, enter(-1), m.Unlock(ctx)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := together(work, work); err != nil {
		return err
	}
	return equal("turns", 2*turns, total)
}

// hold is another process that takes a lock, and keeps it until it is killed.
func hold(endpoints []string, name string) {
	cli, err := connect(endpoints)
	if err == nil {
		var s *concurrency.Session
		if s, err = concurrency.NewSession(cli, concurrency.WithTTL(holderTTL)); err == nil {
			err = concurrency.NewMutex(s, name).Lock(context.Background())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("held")
	time.Sleep(2 * patience)
}

func mutexOfKilled(ctx context.Context, c *cluster, cli *clientv3.Client, p string) error {
	endpoints := c.endpoints[0]
	for _, endpoint := range c.endpoints[1:] {
		endpoints += "," + endpoint
	}
	holder := exec.Command(os.Args[0], "hold", endpoints, p+"lock")
	holder.Stderr = os.Stderr
	said, err := holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err = holder.Start(); err != nil {
		return err
	}
	defer holder.Wait()
	defer holder.Process.Kill()
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || line != "held\n" {
		return fmt.Errorf("the holder said %q: %v", line, err)
	}
	s, err := concurrency.NewSession(cli)
	if err != nil {
		return err
	}
	defer s.Close()
	m := concurrency.NewMutex(s, p+"lock")
	taken := make(chan error, 1)
	go func() { taken <- m.Lock(ctx) }()
	select {
	case err := <-taken:
		return fmt.Errorf("the lock was taken from its holder: %v", err)
	case <-time.After((holderTTL + 2) * time.Second):
	}
	if err = holder.Process.Kill(); err != nil {
		return err
	}
	if err = <-taken; err != nil {
		return err
	}
	return m.Unlock(ctx)
}

func election(ctx context.Context, c *cluster, cli *clientv3.Client, p string) error {
	var sessions []*concurrency.Session
	for i := 0; i < 3; i++ {
		s, err := concurrency.NewSession(cli)
		if err != nil {
			return err
		}
		defer s.Close()
		sessions = append(sessions, s)
	}
	a, b := concurrency.NewElection(sessions[0], p), concurrency.NewElection(sessions[1], p)
	observer := concurrency.NewElection(sessions[2], p)
	_, nobody := observer.Leader(ctx)
	if err := equal("before anybody leads", concurrency.ErrElectionNoLeader, nobody); err != nil {
		return err
	}
	observed := observer.Observe(ctx)
	if err := a.Campaign(ctx, "a"); err != nil {
		return err
	}
	seen := []string{string((<-observed).Kvs[0].Value)}
	elected := make(chan error, 1)
	go func() { elected <- b.Campaign(ctx, "b") }()
	if err := a.Proclaim(ctx, "a2"); err != nil {
		return err
	}
	seen = append(seen, string((<-observed).Kvs[0].Value))
	select {
	case err := <-elected:
		return fmt.Errorf("there are two leaders: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	if err := a.Resign(ctx); err != nil {
		return err
	}
	if err := <-elected; err != nil {
		return err
	}
	seen = append(seen, string((<-observed).Kvs[0].Value))
	leader, err := observer.Leader(ctx)
	if err != nil {
		return err
	}
	return first(
		equal("observed", []string{"a", "a2", "b"}, seen),
		equal("leader", "b", string(leader.Kvs[0].Value)),
		equal("proclaiming when one has resigned", concurrency.ErrElectionNotLeader, a.Proclaim(ctx, "a3")),
		b.Resign(ctx),
	)
}

// Money moves between accounts; none is made or lost.
func transactionalMemory(ctx context.Context, c *cluster, cli *clientv3.Client, p string) error {
	const accounts, movers, moves, money = 5, 6, 25, 100
	account := func(i int) string { return fmt.Sprint(p, i%accounts) }
	for i := 0; i < accounts; i++ {
		if _, err := cli.Put(ctx, account(i), strconv.Itoa(money)); err != nil {
			return err
		}
	}
	var work []func() error
	for mover := 0; mover < movers; mover++ {
		mover := mover
		// Each at one node: the recipe reads at the revision of its first read, and another node may not be there yet.
		// It takes that for a failure, with etcd as well.
		own, err := connect(c.endpoints[mover%len(c.endpoints) : mover%len(c.endpoints)+1])
		if err != nil {
			return err
		}
		defer own.Close()
		work = append(work, func() error {
			for i := 0; i < moves; i++ {
				from, to := account(mover+i), account(mover+2*i+1)
				_, err := concurrency.NewSTM(own, func(stm concurrency.STM) error {
					if from == to {
						return nil
					}
					have, _ := strconv.Atoi(stm.Get(from))
					has, _ := strconv.Atoi(stm.Get(to))
					stm.Put(from, strconv.Itoa(have-1))
					stm.Put(to, strconv.Itoa(has+1))
					return nil
				}, concurrency.WithIsolation(concurrency.SerializableSnapshot))
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := together(work...); err != nil {
		return err
	}
	got, err := cli.Get(ctx, p, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	sum, changed := 0, false
	for _, kv := range got.Kvs {
		value, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return err
		}
		sum += value
		changed = changed || kv.Version > 1
	}
	return first(equal("money", accounts*money, sum), equal("some has moved", true, changed))
}

func queues(_ context.Context, _ *cluster, cli *clientv3.Client, p string) error {
	queue, priority := recipe.NewQueue(cli, p+"queue"), recipe.NewPriorityQueue(cli, p+"priority")
	for i, value := range []string{"a", "b", "c"} {
		if err := first(queue.Enqueue(value), priority.Enqueue(value, uint16(3-i))); err != nil {
			return err
		}
	}
	var in, by []string
	for i := 0; i < 3; i++ {
		one, err := queue.Dequeue()
		if err != nil {
			return err
		}
		other, err := priority.Dequeue()
		if err != nil {
			return err
		}
		in, by = append(in, one), append(by, other)
	}
	return first(
		equal("in order", []string{"a", "b", "c"}, in),
		equal("by priority", []string{"c", "b", "a"}, by),
	)
}

func barriers(_ context.Context, c *cluster, cli *clientv3.Client, p string) error {
	barrier := recipe.NewBarrier(cli, p+"barrier")
	if err := barrier.Hold(); err != nil {
		return err
	}
	passed := make(chan error, 1)
	go func() { passed <- recipe.NewBarrier(cli, p+"barrier").Wait() }()
	select {
	case err := <-passed:
		return fmt.Errorf("the barrier does not hold: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := first(barrier.Release(), <-passed); err != nil {
		return err
	}
	work := func() error {
		own, err := connect(c.endpoints)
		if err != nil {
			return err
		}
		defer own.Close()
		s, err := concurrency.NewSession(own)
		if err != nil {
			return err
		}
		defer s.Close()
		both := recipe.NewDoubleBarrier(s, p+"double", 2)
		return first(both.Enter(), both.Leave())
	}
	return together(work, work)
}

// together runs all at once; the first error of any.
func together(work ...func() error) error {
	done := make(chan error, len(work))
	for _, one := range work {
		go func(one func() error) { done <- one() }(one)
	}
	var failed error
	for range work {
		failed = first(failed, <-done)
	}
	return failed
}
