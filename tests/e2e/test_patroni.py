#!/usr/bin/env python3
"""What Patroni does with its coordination store, by Patroni's own code for etcd's JSON gateway, but without a
database: two nodes that find each other, lead, hand over, and take over from a leader that has died.

    python tests/e2e/test_patroni.py 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379

Needs the packages of tests/e2e/requirements-patroni.txt. Every key it writes is below a prefix of its own.
Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
"""

import json
import logging
import os
import sys
import time
import traceback

from patroni.dcs import get_dcs

PATIENCE_SECONDS = 60
SCOPE = f"scope-{os.getpid()}"
# What a node that has died keeps the others waiting for.
TTL_SECONDS = 20


def node(hosts, name):
    return get_dcs({
        "etcd3": {"hosts": hosts},
        "scope": SCOPE,
        "namespace": "/patroni/",
        "name": name,
        "ttl": TTL_SECONDS,
        "loop_wait": 5,
        "retry_timeout": 5,
        "postgresql": {},
    })


# Nodes know the cluster by their watches: what one of these finds has come by one.
def leader(dcs):
    found = dcs.get_cluster().leader
    return found.name if found else None


def await_equal(expected, get):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := get()) != expected:
        assert time.monotonic() < deadline, f"{found} instead of {expected}"
        time.sleep(0.1)


def touch(dcs, role):
    # What has not changed is not written.
    state = {"conn_url": f"postgres://{dcs._name}/", "state": "running", "role": role, "at": time.monotonic()}
    assert dcs.touch_member(state)


def only_one_initializes(first, second):
    assert first.initialize(create_new=True, sysid="1")
    assert not second.initialize(create_new=True, sysid="2")


def members_see_each_other(first, second):
    touch(first, "primary")
    touch(second, "replica")
    for dcs in (first, second):
        await_equal(["first", "second"], lambda: sorted(member.name for member in dcs.get_cluster().members))


def only_one_leads(first, second):
    assert first.attempt_to_acquire_leader()
    assert not second.attempt_to_acquire_leader()
    for dcs in (first, second):
        await_equal("first", lambda: leader(dcs))
    assert first.update_leader(first.get_cluster(), 42)
    await_equal(42, lambda: second.get_cluster().status.last_lsn)


def settings_are_shared(first, second):
    assert first.set_config_value(json.dumps({"ttl": TTL_SECONDS}))
    await_equal({"ttl": TTL_SECONDS}, lambda: getattr(second.get_cluster().config, "data", None))
    version = second.get_cluster().config.version
    assert first.set_config_value("{}", version)
    assert not first.set_config_value("[]", version), "it was written over what it had not seen"


def a_leader_hands_over(first, second):
    assert first.manual_failover("first", "second")
    await_equal("second", lambda: getattr(second.get_cluster().failover, "candidate", None))
    assert first.delete_leader(first.get_cluster().leader)
    assert second.attempt_to_acquire_leader()
    await_equal("second", lambda: leader(first))


def a_dead_leader_is_replaced(first, _):
    started = time.monotonic()
    while not first.attempt_to_acquire_leader():
        touch(first, "replica")
        assert time.monotonic() - started < TTL_SECONDS + PATIENCE_SECONDS, "the dead leader's lease has not ended"
        time.sleep(1)
    assert time.monotonic() - started > TTL_SECONDS / 2, "it was replaced while its lease ran"
    await_equal("first", lambda: leader(first))
    assert first.delete_cluster()


def main():
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} HOST:PORT[,HOST:PORT...]", file=sys.stderr)
        return 2
    # Patroni breaks off its own watch after each failure to lead, and logs that as an error.
    logging.disable(logging.ERROR)
    nodes = [node(sys.argv[1].split(","), name) for name in ("first", "second")]
    tests = [
        only_one_initializes,
        members_see_each_other,
        only_one_leads,
        settings_are_shared,
        a_leader_hands_over,
        a_dead_leader_is_replaced,
    ]
    failed = 0
    for test in tests:
        try:
            test(*nodes)
        except Exception:
            failed += 1
            print(f"FAILED {test.__name__}", file=sys.stderr)
            traceback.print_exc()
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
