#!/usr/bin/env bash
# What people do with Debian's etcdctl (package etcd-client), against a running cluster.
#
#   tests/e2e/etcdctl.sh 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379
#
# Asserts what etcdctl prints. Every key it writes is below a prefix of its own. Ends with the line
# "N passed, N failed"; the exit code is 0 if nothing failed.
set -uo pipefail

[ $# -eq 1 ] || { echo "usage: $0 HOST:PORT[,HOST:PORT...]" >&2; exit 2; }
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=$1
unset ETCDCTL_WRITE_OUT ETCDCTL_USER ETCDCTL_PASSWORD
members=$(tr ',' '\n' <<<"$1" | wc -l)
p="etcdctl/$$"
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Runs etcdctl, bounded, with its errors in the text.
ctl() {
    timeout 60 etcdctl "$@" 2>&1
}

# The revision that the cluster is at.
revision() {
    ctl get "$p/none" -w json | grep -o '"revision":[0-9]*' | cut -d: -f2
}

put_get_del() {
    check "put" "OK" "$(ctl put "$p/a" 1)"
    check "get" "$p/a"$'\n'"1" "$(ctl get "$p/a")"
    check "get of a missing key" "" "$(ctl get "$p/missing")"
    local old
    old=$(revision)
    ctl put "$p/a" 2 >"$scratch/out"
    check "put --prev-kv" "OK"$'\n'"$p/a"$'\n'"2" "$(ctl put --prev-kv "$p/a" 3)"
    check "get --rev" "1" "$(ctl get --print-value-only --rev="$old" "$p/a")"
    check "put --ignore-lease keeps nothing" "OK" "$(ctl put --ignore-lease "$p/a" 3)"
    check "put from standard input" "OK" "$(printf 'two words' | ctl put "$p/stdin")"
    check "get of it" "two words" "$(ctl get --print-value-only "$p/stdin")"
    check "del" "1" "$(ctl del "$p/stdin")"
    check "del of a missing key" "0" "$(ctl del "$p/stdin")"
    check "del --prev-kv" "1"$'\n'"$p/a"$'\n'"3" "$(ctl del --prev-kv "$p/a")"
}

ranges() {
    local key
    for key in b d a c; do ctl put "$p/range/$key" "$key$key" >"$scratch/out"; done
    local keys=(get --keys-only --prefix "$p/range/")
    check "get --prefix" "$p/range/a $p/range/b $p/range/c $p/range/d" "$(ctl "${keys[@]}" | xargs)"
    check "get --limit" "$p/range/a $p/range/b" "$(ctl "${keys[@]}" --limit=2 | xargs)"
    check "get --order" "$p/range/d $p/range/c $p/range/b $p/range/a" \
        "$(ctl "${keys[@]}" --order=DESCEND | xargs)"
    check "get --sort-by=CREATE" "$p/range/b $p/range/d $p/range/a $p/range/c" \
        "$(ctl "${keys[@]}" --sort-by=CREATE --order=ASCEND | xargs)"
    check "get --sort-by=MODIFY --limit" "$p/range/c" \
        "$(ctl "${keys[@]}" --sort-by=MODIFY --order=DESCEND --limit=1 | xargs)"
    check "get of a range" "aa bb" "$(ctl get --print-value-only "$p/range/a" "$p/range/c" | xargs)"
    check "get --from-key" "$p/range/c" "$(ctl get --keys-only --from-key --limit=1 "$p/range/c" | xargs)"
    check "get of a count" '"Count" : 4' \
        "$(ctl get --prefix "$p/range/" --write-out=fields --limit=1 | grep Count)"
    check "get --consistency=s" "aa" "$(ctl get --consistency=s --print-value-only "$p/range/a")"
    check "del --prefix" "4" "$(ctl del --prefix "$p/range/")"
}

transactions() {
    ctl put "$p/txn" old >"$scratch/out"
    local first second
    first=$(printf 'value("%s") = "old"\nversion("%s") = "1"\n\nput %s new\nget %s\n\ndel %s\n\n' \
        "$p/txn" "$p/txn" "$p/txn" "$p/txn" "$p/txn" | ctl txn)
    check "txn that succeeds" $'SUCCESS\n\nOK\n\n'"$p/txn"$'\nnew' "$first"
    second=$(printf 'mod("%s") = "1"\n\nput %s never\n\ndel %s\nget %s\n\n' \
        "$p/txn" "$p/txn" "$p/txn" "$p/txn" | ctl txn)
    check "txn that fails" $'FAILURE\n\n1' "$(sed -e '/^$/{$d}' <<<"$second")"
    check_like "txn with a key twice" "duplicate key given in txn request" \
        "$(printf '\nput %s 1\nput %s 2\n\n\n' "$p/txn" "$p/txn" | ctl txn)"
}

# watch NAME EXPECTED ARGUMENT...: etcdctl watch must print EXPECTED; ends it then.
watch() {
    local name=$1 expected=$2
    shift 2
    etcdctl watch "$@" >"$scratch/watch" 2>&1 &
    running[watcher]=$!
    await "$expected" cat "$scratch/watch"
    finish watcher TERM
    check "$name" "$expected" "$(cat "$scratch/watch")"
}

watches() {
    ctl put "$p/watch/a" before >"$scratch/out"
    local from
    from=$(($(revision) + 1))
    ctl put "$p/watch/a" 1 >"$scratch/out"
    ctl put "$p/watch/b" 2 >"$scratch/out"
    ctl put "$p/other" x >"$scratch/out"
    ctl del "$p/watch/a" >"$scratch/out"
    watch "watch --rev --prefix" \
        $'PUT\n'"$p/watch/a"$'\n1\nPUT\n'"$p/watch/b"$'\n2\nDELETE\n'"$p/watch/a" \
        --rev="$from" --prefix "$p/watch/"
    watch "watch --rev --prev-kv" $'PUT\n'"$p/watch/a"$'\nbefore\n'"$p/watch/a"$'\n1\nDELETE\n'"$p/watch/a"$'\n1\n'"$p/watch/a" \
        --rev="$from" --prev-kv "$p/watch/a"
}

leases() {
    local granted lease short
    granted=$(ctl lease grant 600)
    check_like "lease grant" "^lease [0-9a-f]{16} granted with TTL\(600s\)$" "$granted"
    lease=$(cut -d' ' -f2 <<<"$granted")
    check "put --lease" "OK" "$(ctl put --lease="$lease" "$p/leased" x)"
    check "lease keep-alive --once" "lease $lease keepalived with TTL(600)" \
        "$(ctl lease keep-alive --once "$lease")"
    check_like "lease timetolive --keys" \
        "^lease $lease granted with TTL\(600s\), remaining\((600|5[0-9][0-9])s\), attached keys\(\[$p/leased\]\)$" \
        "$(ctl lease timetolive --keys "$lease")"
    check_like "lease list" "$lease" "$(ctl lease list)"
    check "lease revoke" "lease $lease revoked" "$(ctl lease revoke "$lease")"
    check "its key is gone" "" "$(ctl get "$p/leased")"
    check "lease timetolive of none" "lease $lease already expired" "$(ctl lease timetolive "$lease")"
    check_like "put with no such lease" "requested lease not found" "$(ctl put --lease="$lease" "$p/leased" x)"
    short=$(ctl lease grant 1 | cut -d' ' -f2)
    ctl put --lease="$short" "$p/expires" x >"$scratch/out"
    await "" ctl get "$p/expires"
    check "a lease expires by itself" "" "$(ctl get "$p/expires")"
    check "lock" "held" "$(ctl lock "$p/lock" echo held)"
}

history() {
    ctl put "$p/compact" 1 >"$scratch/out"
    local old
    old=$(revision)
    ctl put "$p/compact" 2 >"$scratch/out"
    check "compact" "compacted revision $((old + 1))" "$(ctl compact $((old + 1)))"
    check_like "get at a compacted revision" "required revision has been compacted" \
        "$(ctl get --rev="$old" "$p/compact")"
    check_like "get at a future revision" "required revision is a future revision" \
        "$(ctl get --rev=$((old + 1000000)) "$p/compact")"
    check_like "compact twice" "required revision has been compacted" "$(ctl compact "$old")"
    check_like "watch from a compacted revision" "required revision has been compacted" \
        "$(ctl watch --rev=1 "$p/compact")"
}

different_hashes() {
    ctl endpoint hashkv | cut -d, -f2 | sort -u | wc -l
}

cluster() {
    local table list
    table=$(ctl endpoint status -w table)
    check_like "endpoint status -w table" "ENDPOINT.*ID.*VERSION.*DB SIZE.*IS LEADER.*RAFT TERM.*RAFT INDEX" "$table"
    check "endpoint status: members" "$members" "$(grep -c ':[0-9]* |' <<<"$table")"
    check "endpoint status: one leader" "1" "$(awk -F'|' '$6 ~ /true/' <<<"$table" | grep -c .)"
    list=$(ctl member list)
    check "member list: members" "$members" "$(grep -cE '^[0-9a-f]+, started, [^,]+, http://[^,]+, http://[^,]+, false$' <<<"$list")"
    check "endpoint health" "$members" "$(ctl endpoint health | grep -c 'is healthy: successfully committed proposal')"
    # A follower may be one revision behind at any moment.
    await 1 different_hashes
    check "endpoint hashkv" "1" "$(different_hashes)"
    check "alarm list" "" "$(ctl alarm list)"
}

# etcdctl as one of the users of the section below.
as_root() {
    ctl --user=root:root-pw "$@"
}

as_reader() {
    ctl --user=reader:reader-pw "$@"
}

# Authentication is on for the time of this section only.
authentication() {
    check "user add" "User root created" "$(ctl user add root:root-pw)"
    check "user add, a second one" "User reader created" "$(ctl user add reader:reader-pw)"
    check_like "user add twice" "user name already exists" "$(ctl user add reader:other)"
    check "role add" "Role reading created" "$(ctl role add reading)"
    check "role grant-permission" "Role reading updated" \
        "$(ctl role grant-permission reading read --prefix "$p/auth/")"
    check "user grant-role" "Role reading is granted to user reader" "$(ctl user grant-role reader reading)"
    check_like "auth enable gives root its role" "Authentication Enabled" "$(ctl auth enable)"
    check_like "get of nobody" "user name is empty" "$(ctl get "$p/auth/a")"
    check_like "member list of nobody" "user name is empty" "$(ctl member list)"
    check_like "a wrong password" "authentication failed, invalid user ID or password" \
        "$(ctl --user=root:wrong get "$p/auth/a")"
    check "put of root" "OK" "$(as_root put "$p/auth/a" 1)"
    check "get of a reader" "$p/auth/a"$'\n'"1" "$(as_reader get "$p/auth/a")"
    check_like "put of a reader" "permission denied" "$(as_reader put "$p/auth/a" 2)"
    check_like "get of a reader beyond its keys" "permission denied" "$(as_reader get "$p/other")"
    check_like "get of a reader of more than its keys" "permission denied" "$(as_reader get --from-key "$p/auth/")"
    check_like "txn of a reader" "permission denied" \
        "$(printf '\nput %s 2\n\n\n' "$p/auth/a" | as_reader txn)"
    check_like "watch of a reader beyond its keys" "permission denied" "$(as_reader watch --prefix "$p/")"
    check_like "compact of a reader" "permission denied" "$(as_reader compact 1)"
    check_like "user list of a reader" "permission denied" "$(as_reader user list)"
    check_like "user get of oneself" "Roles: reading" "$(as_reader user get reader)"
    check "user list" "reader root" "$(as_root user list | xargs)"
    check_like "role get" "KV Read:.*\[$p/auth/, $p/auth0\)" "$(as_root role get reading | tr '\n' ' ')"
    check "role revoke-permission" \
        "Permission of range [$p/auth/, $p/auth0) is revoked from role reading" \
        "$(as_root role revoke-permission reading --prefix "$p/auth/")"
    check_like "get without the permission" "permission denied" "$(as_reader get "$p/auth/a")"
    check "user passwd" "Password updated" "$(printf 'new-pw\n' | as_root user passwd reader --interactive=false)"
    check_like "the old password" "authentication failed" "$(as_reader get "$p/auth/a")"
    check "user revoke-role" "Role reading is revoked from user reader" "$(as_root user revoke-role reader reading)"
    check "user delete" "User reader deleted" "$(as_root user delete reader)"
    check_like "root is not deleted" "invalid auth management" "$(as_root user delete root)"
    check "endpoint health of root" "$members" "$(as_root endpoint health | grep -c 'is healthy')"
    check_like "auth disable" "Authentication Disabled" "$(as_root auth disable)"
    check "get of nobody again" "$p/auth/a"$'\n'"1" "$(ctl get "$p/auth/a")"
    check "role delete" "Role reading deleted" "$(ctl role delete reading)"
    check "user delete of root" "User root deleted" "$(ctl user delete root)"
    check "role delete of root" "Role root deleted" "$(ctl role delete root)"
}

put_get_del
ranges
transactions
watches
leases
history
cluster
authentication
summary
