#!/usr/bin/env python3
"""What programs do with the Python client etcd3, against a running cluster.

    python tests/e2e/test_etcd3.py 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379

Needs the packages of tests/e2e/requirements.txt. Every key it writes is below a prefix of its own.
Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
"""

import os
import queue
import sys
import time
import traceback

import etcd3

PATIENCE_SECONDS = 60
PREFIX = f"python/{os.getpid()}"


def put_get_delete(etcd):
    key = f"{PREFIX}/a"
    first = etcd.put(key, "1").header.revision
    value, meta = etcd.get(key)
    assert value == b"1" and meta.key == key.encode()
    assert (meta.version, meta.create_revision, meta.mod_revision) == (1, first, first)
    etcd.put(key, "2")
    replaced = etcd.put(key, "3", prev_kv=True)
    assert replaced.prev_kv.value == b"2"
    assert etcd.get(key)[1].version == 3
    assert etcd.get(key, serializable=True)[0] is not None
    assert etcd.get(f"{PREFIX}/missing") == (None, None)
    assert etcd.delete(key) is True
    assert etcd.delete(key) is False


def ranges(etcd):
    for name in "bdac":
        etcd.put(f"{PREFIX}/range/{name}", name * 2)
    found = [value for value, _ in etcd.get_prefix(f"{PREFIX}/range/")]
    assert sorted(found) == [b"aa", b"bb", b"cc", b"dd"]
    down = etcd.get_prefix(f"{PREFIX}/range/", sort_order="descend", sort_target="key")
    assert [value for value, _ in down] == [b"dd", b"cc", b"bb", b"aa"]
    made = etcd.get_prefix(f"{PREFIX}/range/", sort_order="ascend", sort_target="create")
    assert [value for value, _ in made] == [b"bb", b"dd", b"aa", b"cc"]
    part = etcd.get_range(f"{PREFIX}/range/b", f"{PREFIX}/range/d")
    assert sorted(value for value, _ in part) == [b"bb", b"cc"]
    assert etcd.get_prefix_response(f"{PREFIX}/range/", keys_only=True).count == 4
    assert etcd.delete_prefix(f"{PREFIX}/range/").deleted == 4


def old_revisions(etcd):
    key = f"{PREFIX}/history".encode()
    old = etcd.put(key, "old").header.revision
    new = etcd.put(key, "new").header.revision
    at = lambda revision: etcd.kvstub.Range(etcd3.etcdrpc.RangeRequest(key=key, revision=revision))
    assert at(old).kvs[0].value == b"old"
    assert at(new).kvs[0].value == b"new"
    etcd.compact(new)
    must_fail(lambda: at(old), "etcdserver: mvcc: required revision has been compacted")
    must_fail(lambda: at(new + 10**9), "etcdserver: mvcc: required revision is a future revision")


def transactions(etcd):
    key = f"{PREFIX}/txn"
    etcd.put(key, "old")
    done, answers = etcd.transaction(
        compare=[etcd.transactions.value(key) == "old", etcd.transactions.version(key) > 0],
        success=[etcd.transactions.put(key, "new"), etcd.transactions.get(key)],
        failure=[etcd.transactions.delete(key)],
    )
    assert done is True and answers[1][0][0] == b"new"
    done, answers = etcd.transaction(
        compare=[etcd.transactions.create(key) == 0],
        success=[],
        failure=[etcd.transactions.get(key), etcd.transactions.delete(key)],
    )
    assert done is False and answers[0][0][0] == b"new" and etcd.get(key)[0] is None
    assert etcd.put_if_not_exists(key, "first") is True
    assert etcd.put_if_not_exists(key, "second") is False
    assert etcd.replace(key, "first", "third") is True
    assert etcd.replace(key, "first", "fourth") is False
    puts = [etcd.transactions.put(f"{PREFIX}/many/{n}", "x") for n in range(129)]
    must_fail(lambda: etcd.transaction([], puts, []), "etcdserver: too many operations in txn request")
    twice = [etcd.transactions.put(key, "x"), etcd.transactions.put(key, "y")]
    must_fail(lambda: etcd.transaction([], twice, []), "etcdserver: duplicate key given in txn request")


def watch_from_a_revision(etcd):
    prefix = f"{PREFIX}/watch/"
    start = etcd.put(f"{prefix}a", "1").header.revision
    etcd.put(f"{prefix}b", "2")
    seen, stop = watched(etcd, prefix, start_revision=start)
    etcd.delete(f"{prefix}a")
    events = [seen.get(timeout=PATIENCE_SECONDS) for _ in range(3)]
    stop()
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["PutEvent", "PutEvent", "DeleteEvent"], kinds
    assert [event.key for event in events] == [f"{prefix}{k}".encode() for k in "aba"]
    assert [event.value for event in events] == [b"1", b"2", b""]


def watch_what_comes(etcd):
    prefix = f"{PREFIX}/live/"
    seen, stop = watched(etcd, prefix, prev_kv=True)
    for number in range(100):
        etcd.put(f"{prefix}key", str(number))
    events = [seen.get(timeout=PATIENCE_SECONDS) for _ in range(100)]
    stop()
    assert [event.value for event in events] == [str(n).encode() for n in range(100)]
    assert [event.prev_value for event in events][1:] == [str(n).encode() for n in range(99)]


def leases(etcd):
    key = f"{PREFIX}/leased"
    lease = etcd.lease(600)
    etcd.put(key, "x", lease=lease)
    assert lease.granted_ttl == 600 and 500 < lease.remaining_ttl <= 600
    assert [bytes(k) for k in lease.keys] == [key.encode()]
    assert [answer.TTL for answer in lease.refresh()] == [600]
    lease.revoke()
    assert etcd.get(key) == (None, None)
    assert [answer.TTL for answer in etcd.refresh_lease(lease.id)] == [0]
    must_fail(lambda: etcd.put(key, "x", lease=lease.id), "etcdserver: requested lease not found")
    must_fail(lambda: etcd.revoke_lease(lease.id), "etcdserver: requested lease not found")


def a_lease_expires(etcd):
    key = f"{PREFIX}/expires"
    seen, stop = watched(etcd, key)
    etcd.put(key, "x", lease=etcd.lease(1))
    kinds = [type(seen.get(timeout=PATIENCE_SECONDS)).__name__ for _ in range(2)]
    stop()
    assert kinds == ["PutEvent", "DeleteEvent"], kinds
    assert etcd.get(key) == (None, None)


def locks(etcd):
    mine = etcd.lock(f"{PREFIX}-lock", ttl=600)
    other = etcd.lock(f"{PREFIX}-lock", ttl=600)
    assert mine.acquire(timeout=PATIENCE_SECONDS) and mine.is_acquired()
    assert other.acquire(timeout=1) is False
    assert mine.release() and other.acquire(timeout=PATIENCE_SECONDS)
    assert other.release()


def errors(etcd):
    must_fail(lambda: etcd.put("", "x"), "etcdserver: key is not provided")
    large = "x" * (1536 * 1024 + 1)
    must_fail(lambda: etcd.put(f"{PREFIX}/large", large), "etcdserver: request is too large")


def cluster(etcd, size):
    members = list(etcd.members)
    assert len(members) == size, members
    assert all(member.name and member.peer_urls and member.client_urls for member in members)
    status = etcd.status()
    assert status.leader is not None and status.version.startswith("3.")
    assert status.raft_index > 0 and status.raft_term > 0
    assert list(etcd.list_alarms()) == []
    assert etcd.hash() is not None
    etcd.defragment()


def watched(etcd, prefix, **options):
    """A queue of the events below a prefix, and what ends the watch."""
    seen = queue.Queue()

    def take(answer):
        for event in getattr(answer, "events", [answer]):
            seen.put(event)

    watch = etcd.add_watch_prefix_callback(prefix, take, **options)
    return seen, lambda: etcd.cancel_watch(watch)


def must_fail(action, text):
    try:
        action()
    except Exception as error:  # The client wraps some errors and not others.
        said = f"{error!r} {error.__cause__!r} {error.__context__!r}"
        assert text in said, f"{text!r} is not in {said}"
    else:
        raise AssertionError(f"no error, expected {text!r}")


def every_endpoint(clients):
    """What is written at one endpoint is read at each."""
    for number, writer in enumerate(clients):
        key = f"{PREFIX}/everywhere/{number}"
        writer.put(key, "x")
        assert [reader.get(key)[0] for reader in clients] == [b"x"] * len(clients)


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT[,HOST:PORT...]")
    endpoints = [endpoint.rsplit(":", 1) for endpoint in sys.argv[1].split(",")]
    clients = [etcd3.client(host, int(port), timeout=PATIENCE_SECONDS) for host, port in endpoints]
    checks = [put_get_delete, ranges, old_revisions, transactions, watch_from_a_revision]
    checks += [watch_what_comes, leases, a_lease_expires, locks, errors]
    runs = [(check.__name__, lambda check=check: check(clients[0])) for check in checks]
    runs.append(("every_endpoint", lambda: every_endpoint(clients)))
    runs.append(("cluster", lambda: cluster(clients[0], len(clients))))
    failed = 0
    for name, run in runs:
        started = time.monotonic()
        try:
            run()
        except Exception:
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", file=sys.stderr)
        else:
            print(f"ok {name} ({time.monotonic() - started:.2f} s)")
    print(f"{len(runs) - failed} passed, {failed} failed")
    # The client's watch threads may outlive its connections.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
