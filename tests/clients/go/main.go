// What the Go client of etcd and its recipes do, on three nodes of Quorate whose leader is killed meanwhile.
//
//	go_client ENDPOINTS CLUSTER-DIRECTORY CLUSTER.SH
//
// tests/e2e/go_client.sh starts the cluster and calls it. Every check has keys of its own. Ends with the line
// "N passed, N failed"; the exit code is 0 if nothing failed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.uber.org/zap"
)

// How long a check may take in all.
const patience = 120 * time.Second

// The cluster under test.
type cluster struct {
	endpoints []string
	directory string
	script    string
}

// A check gets a client of its own, and a prefix for its keys.
type check struct {
	name string
	run  func(ctx context.Context, c *cluster, cli *clientv3.Client, prefix string) error
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "hold" {
		hold(strings.Split(os.Args[2], ","), os.Args[3])
		return
	}
	if len(os.Args) != 4 {
		fmt.Fprintf(os.Stderr, "usage: %s ENDPOINTS CLUSTER-DIRECTORY CLUSTER.SH\n", os.Args[0])
		os.Exit(2)
	}
	c := &cluster{strings.Split(os.Args[1], ","), os.Args[2], os.Args[3]}
	checks := append(append(append(append([]check{}, basicChecks...), watchChecks...), recipeChecks...), leaderChecks...)
	passed := 0
	for _, one := range checks {
		started := time.Now()
		if err := perform(c, one); err != nil {
			fmt.Printf("FAILED %s: %v\n", one.name, err)
			continue
		}
		passed++
		fmt.Printf("  %s (%.1f s)\n", one.name, time.Since(started).Seconds())
	}
	fmt.Printf("%d passed, %d failed\n", passed, len(checks)-passed)
	if passed != len(checks) {
		os.Exit(1)
	}
}

func perform(c *cluster, one check) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cli, err := connect(c.endpoints)
	if err != nil {
		return err
	}
	defer cli.Close()
	return one.run(ctx, c, cli, "go/"+strings.ReplaceAll(one.name, " ", "-")+"/")
}

func connect(endpoints []string) (*clientv3.Client, error) {
	// The client warns of each answer that is an error, and many are meant to be.
	log := zap.NewProductionConfig()
	log.Level = zap.NewAtomicLevelAt(zap.ErrorLevel)
	return clientv3.New(clientv3.Config{
		LogConfig:            &log,
		Endpoints:            endpoints,
		DialTimeout:          10 * time.Second,
		DialKeepAliveTime:    2 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
	})
}

// Calls cluster.sh; what it prints.
func (c *cluster) call(command string) (string, error) {
	cmd := exec.Command(c.script, command, c.directory)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// equal fails if what was found is not what was expected.
func equal(what string, expected, found interface{}) error {
	if e, f := fmt.Sprint(expected), fmt.Sprint(found); e != f {
		return fmt.Errorf("%s: expected %s, found %s", what, e, f)
	}
	return nil
}

// first is the first of the errors that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
