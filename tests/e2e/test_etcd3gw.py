#!/usr/bin/env python3
"""What programs do with the Python client etcd3gw, which speaks to the JSON gateway, against a running cluster.

    python tests/e2e/test_etcd3gw.py 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379

Needs the packages of tests/e2e/requirements-etcd3gw.txt. Every key it writes is below a prefix of its own.
Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
"""

import base64
import os
import queue
import sys
import threading
import time
import traceback

import etcd3gw
from etcd3gw import exceptions

PATIENCE_SECONDS = 60
PREFIX = f"etcd3gw/{os.getpid()}"


def members(etcd, others):
    found = etcd.members()
    assert len(found) == len({etcd, *others}), found
    for member in found:
        assert member["name"] and member["ID"] and member["clientURLs"] and member["peerURLs"], member
    status = etcd.status()
    assert int(status["raftIndex"]) > 0 and status["leader"] in {member["ID"] for member in found}, status
    assert status["version"].startswith("3."), status


def put_get_delete(etcd, others):
    key = f"{PREFIX}/a"
    assert etcd.put(key, "1") is True
    assert etcd.get(key) == [b"1"]
    assert all(other.get(key) == [b"1"] for other in others)
    etcd.put(key, "2")
    [(value, meta)] = etcd.get(key, metadata=True)
    assert value == b"2" and meta["key"] == key.encode() and meta["version"] == "2", meta
    assert etcd.get(f"{PREFIX}/missing") == []
    binary = bytes(range(256))
    etcd.put(key, binary)
    assert etcd.get(key) == [binary]
    assert etcd.delete(key) is True
    assert etcd.delete(key) is False


def ranges(etcd, _):
    for name in "bdac":
        etcd.put(f"{PREFIX}/range/{name}", name * 2)
    prefix = f"{PREFIX}/range/"
    assert sorted(value for value, _ in etcd.get_prefix(prefix)) == [b"aa", b"bb", b"cc", b"dd"]
    down = etcd.get_prefix(prefix, sort_order="descend", sort_target="key")
    assert [value for value, _ in down] == [b"dd", b"cc", b"bb", b"aa"]
    made = etcd.get_prefix(prefix, sort_order="ascend", sort_target="create")
    assert [value for value, _ in made] == [b"bb", b"dd", b"aa", b"cc"]
    assert len(etcd.get(prefix, range_end=f"{prefix}~", limit=3)) == 3
    assert etcd.delete_prefix(prefix) is True
    assert etcd.get_prefix(prefix) == []


def creation_and_replacement(etcd, others):
    key = f"{PREFIX}/once"
    assert etcd.create(key, "1") is True
    assert etcd.create(key, "2") is False
    assert etcd.replace(key, "wrong", "3") is False
    assert others[-1].replace(key, "1", "3") is True
    assert etcd.get(key) == [b"3"]


def transactions(etcd, _):
    encode = lambda text: base64.b64encode(text.encode()).decode()
    key = encode(f"{PREFIX}/txn")
    txn = {
        "compare": [{"key": key, "result": "EQUAL", "target": "VERSION", "version": 0}],
        "success": [{"request_put": {"key": key, "value": encode("1")}}],
        "failure": [{"request_range": {"key": key}}],
    }
    assert etcd.transaction(txn)["succeeded"] is True
    second = etcd.transaction(txn)
    assert "succeeded" not in second, second
    assert second["responses"][0]["response_range"]["kvs"][0]["value"] == encode("1"), second


def leases(etcd, others):
    lease = etcd.lease(ttl=100)
    key = f"{PREFIX}/leased"
    etcd.put(key, "1", lease=lease)
    assert 90 <= lease.ttl() <= 100
    assert lease.keys() == [key.encode()]
    assert lease.refresh() == 100
    assert others[-1].get(key, metadata=True)[0][1]["lease"] == str(lease.id)
    assert lease.revoke() is True
    assert etcd.get(key) == []
    short = etcd.lease(ttl=1)
    etcd.put(key, "2", lease=short)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while etcd.get(key):
        assert time.monotonic() < deadline, "the lease has not ended"
        time.sleep(0.1)
    assert short.refresh() == -1


def locks(etcd, others):
    with etcd.lock(f"{PREFIX}-lock", ttl=60) as held:
        assert held.is_acquired()
        other = others[-1].lock(f"{PREFIX}-lock", ttl=60)
        assert other.acquire() is False
    assert not held.is_acquired()
    assert other.acquire() is True
    assert other.release() is True


def watches(etcd, others):
    key = f"{PREFIX}/watched"
    events, cancel = others[-1].watch(key)
    happened = queue.Queue()
    threading.Thread(target=lambda: [happened.put(event) for event in events], daemon=True).start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    # The client does not say when it has begun to watch.
    while happened.empty():
        assert time.monotonic() < deadline, "nothing was heard of any put"
        etcd.put(key, "begun")
        time.sleep(0.1)
    etcd.put(key, "last")
    etcd.delete(key)
    values = []
    while True:
        event = happened.get(timeout=PATIENCE_SECONDS)
        assert event["kv"]["key"] == key.encode(), event
        if event.get("type") == "DELETE":
            break
        values.append(event["kv"]["value"])
    assert values[0] == b"begun" and values[-1] == b"last", values
    cancel()


def watch_of_one_event(etcd, others):
    key = f"{PREFIX}/once-watched"
    timer = threading.Timer(0.5, lambda: others[-1].put(f"{key}/below", "1"))
    timer.start()
    # Its method for prefixes encodes the end of the range twice.
    event = etcd.watch_once(key, range_end=f"{key}0", timeout=PATIENCE_SECONDS)
    assert event["kv"]["value"] == b"1", event
    try:
        etcd.watch_once(f"{PREFIX}/quiet", timeout=0.3)
    except exceptions.WatchTimedOut:
        return
    raise AssertionError("something was heard of a key that nobody has written")


def errors(etcd, _):
    try:
        etcd.post(etcd.get_url("/lease/revoke"), json={"ID": "404"})
    except exceptions.Etcd3Exception as error:
        assert "requested lease not found" in error.detail_text, error.detail_text
        return
    raise AssertionError("a lease that is not there was revoked")


def main():
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} HOST:PORT[,HOST:PORT...]", file=sys.stderr)
        return 2
    clients = []
    for endpoint in sys.argv[1].split(","):
        host, port = endpoint.rsplit(":", 1)
        clients.append(etcd3gw.client(host=host, port=int(port), timeout=PATIENCE_SECONDS, api_path="/v3/"))
    tests = [
        members,
        put_get_delete,
        ranges,
        creation_and_replacement,
        transactions,
        leases,
        locks,
        watches,
        watch_of_one_event,
        errors,
    ]
    failed = 0
    for test in tests:
        try:
            test(clients[0], clients[1:] or clients)
        except Exception:
            failed += 1
            print(f"FAILED {test.__name__}", file=sys.stderr)
            traceback.print_exc()
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
