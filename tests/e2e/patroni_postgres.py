#!/usr/bin/env python3
"""Two PostgreSQL servers under Patroni, with Quorate in the place of etcd:

- While Quorate's leader is killed again and again, the primary stays primary and a writer's every write succeeds.
- When the primary's Patroni and PostgreSQL are killed, the standby takes over when the dead one's lease has ended, with
  every acknowledged row. The dead one comes back as its standby.
- A switchover by patronictl loses no row either.

    patroni_postgres.py ENDPOINTS CLUSTER-DIRECTORY DATABASE-DIRECTORY POSTGRESQL-PROGRAMS

patroni_postgres.sh beside it prepares all that and calls it. Ends with the line "N passed, N failed".
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path

import psycopg

HERE = Path(__file__).parent
# The least that Patroni takes.
TTL_SECONDS = 20
LEADER_KILLS = 5
PATIENCE_SECONDS = 120
NAMES = ("db1", "db2")


def free_port():
    """One that Linux gives to nobody who connects: a killed server finds its own still free."""
    while True:
        port = random.randrange(10240, 32768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def await_true(what, get):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := get()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for this: {what}"
        time.sleep(0.2)
    return found


class Database:
    """One Patroni with its PostgreSQL."""

    def __init__(self, name, directory, endpoints, programs):
        self.name = name
        self.home = directory / name
        self.port, self.api = free_port(), free_port()
        self.config = directory / f"{name}.yml"
        self.config.write_text(json.dumps(self.settings(endpoints, programs)))
        self.process = None

    def settings(self, endpoints, programs):
        """Patroni's settings; JSON is YAML too."""
        user = {"username": "postgres", "password": "postgres"}
        return {
            "scope": "accounts",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.api}", "connect_address": f"127.0.0.1:{self.api}"},
            "etcd3": {"hosts": endpoints},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SECONDS,
                    "loop_wait": 2,
                    "retry_timeout": 6,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.home),
                "bin_dir": programs,
                "pgpass": str(self.home.parent / f"{self.name}.pgpass"),
                "authentication": {"superuser": user, "replication": user, "rewind": user},
                "pg_hba": ["host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"],
                "parameters": {"unix_socket_directories": str(self.home.parent), "shared_buffers": "16MB"},
            },
        }

    def start(self):
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        with open(self.config.with_suffix(".log"), "a") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).parent / "patroni", self.config],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.home.parent, start_new_session=True, **as_user,
            )

    def kill(self):
        """kill -9 of Patroni and of PostgreSQL, at once."""
        postmaster = int((self.home / "postmaster.pid").read_text().split()[0])
        self.process.kill()
        os.kill(postmaster, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """In good order: Patroni stops its PostgreSQL."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def status(self):
        """What Patroni says of its database, or nothing."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api}/patroni", timeout=3) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as answer:
            return json.load(answer)
        except OSError:
            return {}

    def leads(self):
        status = self.status()
        return status.get("role") == "primary" and status.get("state") == "running"

    def timeline(self):
        return self.status()["timeline"]

    def connect(self):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", password="postgres", dbname="postgres",
            autocommit=True, connect_timeout=5, options="-c statement_timeout=30000",
        )

    def rows(self):
        with self.connect() as connection:
            return {number for (number,) in connection.execute("select number from written")}


class Writer:
    """Writes numbers one after the other, to whichever of the databases takes them."""

    def __init__(self, databases):
        self.databases = databases
        self.acknowledged, self.failures, self.longest_gap = [], [], 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    def run(self):
        number, connection, last = 0, None, time.monotonic()
        while not self.stopping.is_set():
            number += 1
            try:
                connection = connection or self.primary()
                connection.execute("insert into written values (%s)", (FIRST + number,))
                self.acknowledged.append(FIRST + number)
                self.longest_gap = max(self.longest_gap, time.monotonic() - last)
                last = time.monotonic()
            except psycopg.Error as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection = None
            time.sleep(0.02)

    def primary(self):
        for database in self.databases:
            try:
                connection = database.connect()
                if not connection.execute("select pg_is_in_recovery()").fetchone()[0]:
                    return connection
            except psycopg.Error:
                continue
        raise psycopg.OperationalError("no database takes writes")

    def wait_for(self, count):
        """Until so many more writes were acknowledged."""
        enough = len(self.acknowledged) + count
        await_true(f"{count} writes", lambda: len(self.acknowledged) >= enough)


class Setup:
    def __init__(self, arguments):
        endpoints, self.cluster_directory, directory, programs = arguments
        self.databases = [Database(name, Path(directory), endpoints, programs) for name in NAMES]
        self.acknowledged = set()

    def quorate(self, command):
        done = subprocess.run([HERE / "cluster.sh", command, self.cluster_directory], check=True, stdout=subprocess.PIPE)
        return done.stdout.decode().strip()

    def primary(self):
        return await_true("one primary", lambda: next((d for d in self.databases if d.leads()), None))

    def standby(self):
        primary = self.primary()
        return next(database for database in self.databases if database is not primary)

    def await_standby(self):
        """Until the standby is synchronous: then a fail-over loses nothing."""
        def synchronous():
            listed = self.primary().status().get("replication", [])
            return any(standby["sync_state"] == "sync" for standby in listed)
        await_true("a synchronous standby", synchronous)

    def check_rows(self, *databases):
        for database in databases:
            await_true(
                f"all {len(self.acknowledged)} acknowledged rows in {database.name}",
                lambda: self.acknowledged <= database.rows(),
            )

    def keep(self, writer):
        global FIRST
        self.acknowledged |= set(writer.acknowledged)
        FIRST += 1_000_000


def a_primary_and_its_standby(setup):
    first, second = setup.databases
    first.start()
    await_true("the first database", first.leads)
    second.start()
    setup.await_standby()
    with first.connect() as connection:
        connection.execute("create table written (number bigint primary key)")


def no_failover_while_quorates_leader_is_killed(setup):
    primary = setup.primary()
    timeline = primary.timeline()
    with Writer([primary]) as writer:
        writer.wait_for(50)
        for turn in range(LEADER_KILLS):
            killed = setup.quorate("kill-leader")
            # Patroni renews its lease many times, without the dead node and then with it.
            time.sleep(5)
            setup.quorate("restart")
            time.sleep(2)
            writer.wait_for(50)
            print(f"  kill {turn + 1} of Quorate's leader: n{killed}; {len(writer.acknowledged)} writes, longest gap "
                  f"{writer.longest_gap:.2f} s")
    setup.keep(writer)
    assert not writer.failures, writer.failures
    assert setup.primary() is primary and primary.timeline() == timeline, "the databases have changed roles"
    setup.check_rows(*setup.databases)


def the_standby_takes_over_from_a_killed_primary(setup):
    setup.await_standby()
    dead, heir = setup.primary(), setup.standby()
    timeline = dead.timeline()
    with Writer(setup.databases) as writer:
        writer.wait_for(50)
        started = time.monotonic()
        dead.kill()
        await_true("the standby leads", heir.leads)
        took = time.monotonic() - started
        writer.wait_for(50)
    print(f"  {heir.name} led {took:.1f} s after {dead.name} was killed; the writer's longest gap: {writer.longest_gap:.1f} s")
    setup.keep(writer)
    assert took > TTL_SECONDS / 2, f"it took over after {took:.1f} s, from one whose lease was of {TTL_SECONDS} s"
    assert heir.timeline() > timeline
    setup.check_rows(heir)


def a_killed_primary_comes_back_as_a_standby(setup):
    heir, dead = setup.primary(), setup.standby()
    dead.start()
    setup.await_standby()
    assert setup.primary() is heir
    with Writer([heir]) as writer:
        writer.wait_for(50)
    setup.keep(writer)
    assert not writer.failures, writer.failures
    setup.check_rows(heir, dead)


def a_switchover_loses_nothing(setup):
    old, new = setup.primary(), setup.standby()
    with Writer(setup.databases) as writer:
        writer.wait_for(50)
        done = subprocess.run(
            [Path(sys.executable).parent / "patronictl", "-c", old.config, "switchover", "accounts", "--force",
             "--primary", old.name, "--candidate", new.name],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, done.stdout.decode()
        await_true("the new primary", new.leads)
        writer.wait_for(50)
    setup.keep(writer)
    setup.await_standby()
    setup.check_rows(new, old)


def main():
    if len(sys.argv) != 5:
        print(f"usage: {sys.argv[0]} ENDPOINTS CLUSTER-DIRECTORY DATABASE-DIRECTORY POSTGRESQL-PROGRAMS", file=sys.stderr)
        return 2
    # Whoever ends this ends the databases too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    setup = Setup(sys.argv[1:])
    tests = [
        a_primary_and_its_standby,
        no_failover_while_quorates_leader_is_killed,
        the_standby_takes_over_from_a_killed_primary,
        a_killed_primary_comes_back_as_a_standby,
        a_switchover_loses_nothing,
    ]
    passed = 0
    try:
        # Each goes on from where the one before left off.
        for test in tests:
            print(test.__name__.replace("_", " "), flush=True)
            test(setup)
            passed += 1
    except Exception:
        traceback.print_exc()
        for database in setup.databases:
            subprocess.run(["tail", "-n", "20", database.config.with_suffix(".log")])
    finally:
        for database in reversed(setup.databases):
            database.stop()
    print(f"{passed} passed, {len(tests) - passed} failed")
    return 0 if passed == len(tests) else 1


# Each writer's numbers begin where no other's are.
FIRST = 0

if __name__ == "__main__":
    sys.exit(main())
