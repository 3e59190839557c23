#!/usr/bin/env bash
# `quorate ctl` against a cluster of its own, every command, and beside etcdctl where that is installed: what the
# two print, and how they exit, must be the same.
#
#   tests/e2e/ctl.sh target/release/quorate [ETCDCTL]
#
# Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
set -uo pipefail

[ $# -ge 1 ] || { echo "usage: $0 QUORATE [ETCDCTL]" >&2; exit 2; }
quorate=$(realpath "$1")
etcdctl=$(command -v "${2:-etcdctl}" || true)
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
version=$([ -z "$etcdctl" ] || ETCDCTL_API=3 "$etcdctl" version | sed -n 's/^etcdctl version: //p')
here=$(realpath "$(dirname "$0")")
cd "$scratch" || exit 2
for name in $(compgen -e ETCDCTL_); do unset "$name"; done
export ETCDCTL_API=3
# A loopback address of its own, so that it meets no other program's ports.
one=127.0.79.1:2379
all=127.0.79.1:2379,127.0.79.1:22379,127.0.79.1:32379
export ETCDCTL_ENDPOINTS=$all

# Runs a command, bounded, with its errors and its exit code in the text.
ctl() {
    timeout 60 "$quorate" ctl "$@" 2>&1
    local code=$?
    [ $code -eq 0 ] || echo "exit $code"
}

revision() {
    ctl get none -w json | sed -E 's/.*"revision":([0-9]+).*/\1/'
}

mod_revision() {
    ctl get "$1" -w json | sed -E 's/.*"mod_revision":([0-9]+).*/\1/'
}

# What differs from one time to the next: revisions, durations, ids that were just made, what the Go client logs.
plain() {
    sed -E -e '/"level":"(warn|info)"/d' -e 's/"([Rr]evision|[a-z]+_revision)"( ?: ?)[0-9]+/"\1"\2N/g' \
        -e 's/"([A-Za-z]*Revision|raftIndex|raftAppliedIndex|RaftIndex|RaftAppliedIndex)" ?: ?[0-9]+/"\1" N/g' \
        -e 's/"version":[0-9]+/"version":N/g' -e 's/"((Prev)?Version)" : [0-9]+/"\1" N/g' \
        -e 's/[0-9.]+(ms|µs|s)\b/TIME/g' -e 's/(took|Took"? :) *TIME/\1 TIME/'
}

# same NAME ARGUMENT...: both programs print the same on standard output and on standard error, and exit alike.
# Both ask the same endpoint, unless $at says which: etcdctl picks one of many at random.
same() {
    local name=$1 theirs ours
    shift
    [ -n "$etcdctl" ] || return 0
    theirs=$(run_as theirs "$etcdctl" "$@")
    ours=$(run_as ours "$quorate" ctl "$@")
    check "as etcdctl: $name" "$theirs" "$ours"
    check "as etcdctl: $name: errors" "$(plain <theirs.err)" "$(plain <ours.err)"
}

# same, where etcdctl 3.4 does something else.
same_as_35() {
    [[ $version == 3.[0-4].* ]] || same "$@"
}

run_as() {
    local name=$1
    shift
    ETCDCTL_ENDPOINTS=${at:-$one} timeout 60 "$@" 2>"$name.err" <"${input:-/dev/null}" | plain | cat -v
    echo "exit ${PIPESTATUS[0]}"
}

# formats NAME ARGUMENT...: the same in all formats that both have.
formats() {
    local name=$1 format
    shift
    for format in simple json fields protobuf; do same "$name -w $format" "$@" -w "$format"; done
}

# formats without protobuf, where every revision would show.
changing() {
    local name=$1 format
    shift
    for format in simple fields; do same "$name -w $format" "$@" -w "$format"; done
    same_as_35 "$name -w json" "$@" -w json
}

keys() {
    check "put" "OK" "$(ctl put a 1)"
    check "get" $'a\n1' "$(ctl get a)"
    check "put --prev-kv" $'OK\na\n1' "$(ctl put --prev-kv a 2)"
    check "put from standard input" "OK" "$(printf 'two words\n' | ctl put in)"
    check "get of it" $'two words\n\n.' "$(ctl get --print-value-only in; echo .)"
    check "put --ignore-value" "OK" "$(ctl put --ignore-value a)"
    check "get --rev" "1" "$(ctl get --rev=3 --print-value-only a)"
    ctl put --hex=false $'b\n\xff' $'\x01\xfe' >out
    check "keys are bytes" '\x62\x0a\xff \x01\xfe' "$(ctl get --hex $'b\n\xff' | xargs -d '\n' | sed 's/\\x01/\\x01/')"
    check_like "bytes as fields" '"Key" : "b\\n\\xff"' "$(ctl get $'b\n\xff' -w fields)"
    check_like "bytes as JSON" '"key":"Ygr/"' "$(ctl get $'b\n\xff' -w json)"
    head -c 1000000 /dev/zero | tr '\0' x >big
    check "a big value" "OK" "$(ctl put big <big)"
    ctl get big --print-value-only | head -c 1000000 >out
    check "comes back" "same" "$(cmp big out && echo same)"
    check "a reader that goes" "a" "$(ctl get --prefix '' | head -1)"
    check "del --prev-kv" $'1\na\n2' "$(ctl del a --prev-kv)"
    check "del --prefix of all" "4" "$(ctl del --prefix '')"
    for key in k/1 k/2 k/3; do ctl put $key v >out; done
    changing "put" put x y
    changing "put --prev-kv" put --prev-kv x y
    formats "get" get x
    formats "get --prefix" get --prefix k/
    formats "get --limit" get --prefix k/ --limit 2
    formats "get --keys-only" get --prefix k/ --keys-only
    formats "get of nothing" get nothing
    same "get --hex" get --hex --prefix k/
    same "get --print-value-only" get --print-value-only --prefix k/
    same_as_35 "get --count-only" get --count-only --prefix k/ -w fields
    same "get --from-key" get --from-key k/2
    same "get of a range" get k/1 k/3
    same "get sorted" get --prefix k/ --sort-by=MODIFY --order=DESCEND
    same "get, lower case" get --prefix k/ --sort-by=key --order=descend
    same "get --consistency=s" get x --consistency=s
    same "a flag that is false" get --prefix=false k/1
    check "get --stream" "$(ctl get --prefix k/)" "$(ctl get --prefix k/ --stream)"
    check "get --stream --limit" "$(ctl get --prefix k/ --limit 2 -w fields | grep -v Revision)" \
        "$(ctl get --prefix k/ --limit 2 --stream -w fields | grep -v Revision)"
    check "get --min-mod-rev" $'k/2\nk/3' "$(ctl get --prefix k/ --keys-only --min-mod-rev "$(mod_revision k/2)" | grep .)"
    check "get --max-create-rev" "k/1" "$(ctl get --prefix k/ --keys-only --max-create-rev "$(($(mod_revision k/2) - 1))" | grep .)"
    formats "del of nothing" del nothing
    formats "del --prev-kv of nothing" del --prev-kv nothing
}

mistakes() {
    local words
    while read -r words; do
        # shellcheck disable=SC2086  # words are wanted
        same "$words" $words
    done <<'END'
put
put a
put a --ignore-value b
put nope --ignore-value
put --ignore-lease --lease 5 a b
put --lease zz a b
put --lease 1234 a b
get
get --prefix a b
get --prefix --from-key a
get --consistency=x a
get --order=x a
get --sort-by=x a
get --print-value-only a -w json
get --rev 99999 a
get a -w nope
get a -w table
del
del a b c
compaction
compaction x
compaction 99999
txn a
lease grant
lease grant x
lease grant 99999999999
lease revoke
lease revoke zz
lease revoke 1234
lease timetolive
lease timetolive 1234
lease keep-alive zz
lease keep-alive 1234
lease keep-alive --once 1234
member add
member add a
member add a --peer-urls=nope
member remove
member remove zz
member remove 1234
member update 1234
member promote 1234
move-leader
move-leader zz
snapshot save
alarm list x
auth enable
user add
user get a
user delete a
user grant-role a
user grant-role a b
role add
role get a
role delete a
role grant-permission a read
role grant-permission a nope k
role grant-permission a read k
role revoke-permission a
lock
elect
elect a
elect -l a b
watch
watch --prefix a b
watch a --
check perf --load x
check datascale --load x
END
    same_as_35 "keys or their number" get --keys-only --count-only a
    same_as_35 "a number of keys that is not shown" get --count-only a
    check "an unknown flag" "Error: unexpected argument '--nope' found (see \`quorate ctl get --help\`)"$'\nexit 1' \
        "$(ctl get a --nope | sed 's/ found.* (see/ found (see/')"
    check_like "an unknown command" "Error: .*nope.*exit 1" "$(ctl nope | xargs -d '\n')"
}

transactions() {
    ctl put t old >out
    printf 'value("t") = "old"\nversion("t") > "0"\n\nput t "new \\"one\\""\nget --prefix t\n\ndel t\n\n' >txn
    check "txn that succeeds" $'SUCCESS\n\nOK\n\nt\nnew "one"' "$(ctl txn <txn)"
    check "txn that fails" $'FAILURE\n\n1' "$(ctl txn <txn)"
    ctl put u 1 >out
    printf 'mod("u") > "0"\nlease("u") = "0"\n\nput u 1\nget u\n\nget none\n\n' >txn
    [ -z "$etcdctl" ] || sed -i /lease/d txn # etcdctl's own comparison of leases ends in a panic
    input=txn changing "txn that succeeds" txn
    printf 'create("u") = "0"\n\nput u 1\n\nget u\ndel none\n\n' >txn
    input=txn changing "txn that fails" txn
    printf 'mod("u") > "0"\n\nget u\n\n\n' >txn
    input=txn same "txn -i" txn -i
    local text
    while IFS= read -r text; do
        printf '%b' "$text" >txn
        input=txn same "txn of $text" txn
    done <<'END'

mod("a") = "1"
foo("a") = "1"\n
val("a")="b"\n
mod(a = "x"\n
mod("a") = "x"\n
\nfoo x\n
\nput x\n
\nput x 1\nput x 2\n\n\n
\n\n\n
END
}

# Waits until what was launched has printed EXPECTED, ends it, and checks what it printed.
printed() {
    await "$3" cat "$scratch/$2"
    finish "$2" TERM
    check "$1" "$3" "$(cat "$scratch/$2")"
}

watches() {
    local from format
    ctl put w/a before >out
    from=$(($(revision) + 1))
    ctl put w/a 1 >out
    ctl put w/b 2 >out
    ctl del w/a >out
    launch watch "$quorate" ctl watch --prefix w/ --rev "$from" --prev-kv
    printed "watch --prefix --rev --prev-kv" watch $'PUT\nw/a\nbefore\nw/a\n1\nPUT\nw/b\n2\nDELETE\nw/a\n1\nw/a'
    launch watch "$quorate" ctl watch w/b
    sleep 0.5
    ctl put w/b 3 >out
    printed "watch from now on" watch $'PUT\nw/b\n3'
    # shellcheck disable=SC2016  # the variables are the command's
    launch watch "$quorate" ctl watch w/a --rev "$from" -- sh -c 'echo "$ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"'
    printed "watch with a command" watch $'PUT\nw/a\n1\nDELETE\nw/a\n\n"PUT" "w/a" "1"\n"DELETE" "w/a" ""'
    mkfifo lines
    exec 3<>lines
    launch watch "$quorate" ctl watch -i <lines 3>&-
    printf 'watch --rev %s w/b\nnonsense\nprogress\n' "$from" >&3
    await "2" grep -c -E '^(PUT|progress notify)' "$scratch/watch" # the order of the two is the server's
    exec 3>&-
    finish watch
    check "watch -i ends with its input" 3 $?
    check_like "watch -i" $'PUT\nw/b\n2' "$(cat watch)"
    check_like "watch -i progress" "progress notify: [0-9]+" "$(cat watch)"
    check "watch -i complains" $'Invalid command nonsense (only support watch)\nError: error reading watch request line: EOF' "$(cat watch.err)"
    rm lines
    [ -n "$etcdctl" ] || return 0
    unset ETCDCTL_ENDPOINTS
    for format in simple json fields protobuf; do
        launch theirs "$etcdctl" --endpoints "$one" watch --prefix w/ --rev "$from" --prev-kv -w $format
        launch ours "$quorate" ctl --endpoints "$one" watch --prefix w/ --rev "$from" --prev-kv -w $format
        await 0 eval 'test -s theirs; echo $?'
        await "$(cat theirs)" cat ours
        finish theirs TERM
        finish ours TERM
        check "as etcdctl: watch -w $format" "$(cat -v theirs)" "$(cat -v ours)"
    done
    export ETCDCTL_ENDPOINTS=$all
}

leases() {
    local lease short
    lease=$(ctl lease grant 600 | sed -E 's/^lease ([0-9a-f]{16}) granted with TTL\(600s\)$/\1/')
    check_like "lease grant" "^[0-9a-f]{16}$" "$lease"
    check "put --lease" "OK" "$(ctl put --lease="$lease" leased x)"
    check "lease keep-alive --once" "lease $lease keepalived with TTL(600)" "$(ctl lease keep-alive --once "$lease")"
    check_like "lease timetolive --keys" "^lease $lease granted with TTL\(600s\), remaining\([0-9]+s\), attached keys\(\[leased\]\)$" \
        "$(ctl lease timetolive --keys "$lease")"
    # In protobuf etcdctl has only the headers of what is about leases.
    changing "lease list" lease list
    changing "lease keep-alive --once" lease keep-alive --once "$lease"
    same "lease timetolive" lease timetolive "$lease"
    formats "get of a leased key" get leased
    launch alive "$quorate" ctl lease keep-alive "$lease"
    await 1 grep -c keepalived "$scratch/alive"
    check "lease revoke" "lease $lease revoked" "$(ctl lease revoke "$lease")"
    check "its key is gone" "" "$(ctl get leased)"
    finish alive TERM
    short=$(ctl lease grant 2 | cut -d' ' -f2)
    launch alive "$quorate" ctl lease keep-alive "$short"
    sleep 4
    check_like "keep-alive keeps it alive" "remaining" "$(ctl lease timetolive "$short")"
    ctl lease revoke "$short" >out
    finish alive
    check_like "keep-alive ends with it" "lease $short expired or revoked.$" "$(cat alive)"
}

locks() {
    local code
    # shellcheck disable=SC2016  # the variables are the command's
    check_like "lock with a command" "^lock/[0-9a-f]+ [0-9]+$" "$(ctl lock lock -- sh -c 'echo $ETCD_LOCK_KEY $ETCD_LOCK_REV')"
    check "lock passes on an exit code" $'Error: exit status 3\nexit 3' "$(ctl lock lock -- sh -c 'exit 3')"
    same "lock without such a command" lock lock no-such-command
    launch first "$quorate" ctl lock lock
    await 1 grep -c ^lock/ "$scratch/first"
    launch second "$quorate" ctl lock lock
    await 2 eval "ctl get --prefix lock/ --keys-only | grep -c ."
    check "the second waits" "" "$(cat second)"
    finish first INT
    check "lock ends well when it is interrupted" 0 $?
    await 1 grep -c ^lock/ "$scratch/second"
    check "the second has it then" 1 "$(grep -c ^lock/ second)"
    launch third "$quorate" ctl lock lock
    await 2 eval "ctl get --prefix lock/ --keys-only | grep -c ."
    finish third TERM
    check "one that waits is interrupted" "Error: context canceled" "$(cat third.err)"
    finish second TERM
    check "nobody is left" "" "$(ctl get --prefix lock/)"
    launch leader "$quorate" ctl elect election me
    await 1 grep -c ^me "$scratch/leader"
    check_like "elect" $'^election/[0-9a-f]+\nme$' "$(cat leader)"
    launch observer "$quorate" ctl elect -l election
    await 1 grep -c ^me "$scratch/observer"
    launch next "$quorate" ctl elect election you
    await 2 eval "ctl get --prefix election/ --keys-only | grep -c ."
    finish leader INT
    check "elect ends well when it is interrupted" 0 $?
    await 1 grep -c ^you "$scratch/observer"
    check "elect -l shows who leads after" "me you" "$(grep -v / observer | xargs)"
    finish next INT
    finish observer TERM
    check "nobody leads" "" "$(ctl get --prefix election/)"
}

cluster() {
    local leader follower format
    for format in simple json fields table protobuf; do same "member list -w $format" member list -w $format; done
    same_as_35 "member list --hex" member list --hex -w json
    for format in simple json fields table; do
        same "endpoint status -w $format" endpoint status -w $format
        same "endpoint hashkv -w $format" endpoint hashkv -w $format
    done
    same_as_35 "endpoint status --cluster" endpoint status --cluster
    same_as_35 "endpoint hashkv --cluster" endpoint hashkv --cluster
    check "endpoint health" 3 "$(ctl endpoint health | grep -cE '^127.0.79.1:[0-9]+ is healthy: successfully committed proposal: took = [0-9.]+(ms|µs|s)$')"
    check_like "endpoint health -w json" '^\[\{"endpoint":"127.0.79.1:2379","health":true,"took":"[0-9.]+(ms|µs|s)"\},' "$(ctl endpoint health -w json)"
    check_like "endpoint health -w table" 'ENDPOINT +\| HEALTH +\| +TOOK +\| ERROR' "$(ctl endpoint health -w table)"
    check "alarm list" "" "$(ctl alarm list)"
    same "alarm disarm" alarm disarm
    same "alarm list -w json" alarm list -w json
    same "defrag" defrag
    same_as_35 "defrag --cluster" defrag --cluster
    leader=$(ctl endpoint status | awk -F', ' '$5 == "true" {print $2}')
    follower=$(ctl endpoint status | awk -F', ' '$5 == "false" {print $2; exit}')
    check "move-leader" "Leadership transferred from $leader to $follower" "$(ctl move-leader "$follower")"
    check_like "move-leader to nobody" "bad leader transferee" "$(ctl move-leader 1234)"
    check "downgrade validate" $'Error: etcdserver: invalid downgrade target version\nexit 1' "$(ctl downgrade validate 3.4)"
    check "downgrade enable of none" $'Error: etcdserver: wrong downgrade target version format\nexit 1' "$(ctl downgrade enable v3)"
    check "downgrade cancel" $'Error: etcdserver: no inflight downgrade job\nexit 1' "$(ctl downgrade cancel)"
    check "compaction" "compacted revision $(revision)" "$(ctl compaction "$(revision)")"
    check_like "watch of what is compacted" $'watch was canceled \(etcdserver: mvcc: required revision has been compacted\)\nError: watch is canceled by the server\nexit 5' \
        "$(ctl watch --rev 1 a | grep -v '^$')"
    same "watch of what is compacted -w json" watch --rev 1 a -w json
    check_like "version" "^quorate version: [0-9.]+"$'\n'"API version: 3.5$" "$(ctl version)"
}

# The command line itself.
words() {
    [ -z "$etcdctl" ] || check "all commands and flags of etcdctl $version" "" "$("$here/ctl_surface.py" "$quorate" "$etcdctl")"
    check_like "options" $'^The following options can be passed to any command:\n.*--endpoints <LIST>.*--write-out' "$(ctl options)"
    check_like "help" "Usage: quorate ctl lease grant" "$(ctl help lease grant)"
    check "help of no command" $'Error: Unknown help topic "nope"\nexit 1' "$(ctl help nope)"
    check_like "completion" "complete -F _quorate" "$(ctl completion bash)"
    same "a command by the beginning of its name" mem li
    check "the beginning of two" 1 "$(ctl e 2>&1 | grep -c '^exit 1$')"
    check_like "--debug" $'ETCDCTL_ENDPOINTS=\\[127.0.79.1:2379\\].*\nETCDCTL_PASSWORD=\\.\\.\\.\nETCDCTL_USER=root\n' \
        "$(ETCDCTL_ENDPOINTS=$one ctl get k/1 --debug --user root:secret --password secret)"
    check "limits of the Go client" $'k/1\nv' "$(ctl get k/1 --max-request-bytes 1 --max-recv-bytes 1)"
    check_like "--discovery-srv of no domain" "^Error: dns lookup errors: _etcd-client-ssl-n._tcp.no.invalid: .* and _etcd-client-n._tcp.no.invalid: " \
        "$(ctl get k/1 --discovery-srv no.invalid --discovery-srv-name n --insecure-discovery=false)"
    check_like "check datascale" $'^Start data scale check for work load \\[10000 key-value pairs, 1024 bytes per key-value, 50 concurrent clients\\].\nCompacted with revision [0-9]+\nPASS: Approximate system memory used : -?[0-9.]+ MB.$' \
        "$(ETCDCTL_ENDPOINTS=$one ctl check datascale --auto-compact --command-timeout 30s)"
    check "its keys are gone" "" "$(ctl get --prefix /etcdctl-check-datascale/ --keys-only)"
    check "defrag --data-dir" "Finished defragmenting directory[$scratch/data-first/n1]" "$(ctl defrag --data-dir "$(dirname "$(find "$scratch/data-first" -name IDENTITY | sort | head -1)")" | sed "s,\[.*\],[$scratch/data-first/n1],")"
    check "defrag of no data directory" $'Error: Failed to defragment etcd data[/nowhere] (it is no data directory)\nexit 1' "$(ctl defrag --data-dir /nowhere)"
}

snapshots() {
    local saved format
    saved=$(ETCDCTL_ENDPOINTS=$one ctl snapshot save saved.db)
    if [[ $saved =~ "not supported"|Unimplemented ]]; then
        check "no snapshot leaves no file" "" "$(ls saved.db saved.db.part 2>/dev/null)"
    else
        check "snapshot save" "Snapshot saved at saved.db" "$saved"
        check "its sum is that of the rest" "$(tail -c 32 saved.db | od -An -tx1 | tr -d ' \n')" \
            "$(head -c -32 saved.db | sha256sum | cut -d' ' -f1)"
    fi
    for format in simple table json fields; do
        [ -z "$etcdctl" ] || check "as etcdctl: snapshot status -w $format" "$("$etcdctl" snapshot status saved.db -w $format 2>status.err)" \
            "$(ctl snapshot status saved.db -w $format)"
    done
    check "snapshot status of no file" $'Error: snapshot status requires exactly one argument\nexit 128' "$(ctl snapshot status)"
    check_like "snapshot status of none" "^Error: .*nothing.db" "$(ctl snapshot status nothing.db)"
    check_like "snapshot restore" "is m of the new cluster" "$(ctl snapshot restore saved.db --name m --data-dir restored --wal-dir w \
        --initial-cluster m=http://127.0.79.1:1 --initial-advertise-peer-urls http://127.0.79.1:1 --initial-cluster-token t)"
    check "what is restored is a node's" "restored/IDENTITY" "$(ls restored/IDENTITY)"
    check "snapshot save to nowhere" $'Error: could not open /nowhere/a.part (open /nowhere/a.part: no such file or directory)\nexit 5' \
        "$(ETCDCTL_ENDPOINTS=$one ctl snapshot save /nowhere/a)"
    same "snapshot save of many endpoints" snapshot save x
}

as_root() {
    ctl --user root:pw "$@"
}

authentication() {
    local token
    check "user add" "User root created" "$(ctl user add root:pw)"
    check "user add, password from standard input" "User reader created" "$(printf 'secret\n' | ctl user add reader --interactive=false)"
    check "user add --no-password" "User bare created" "$(ctl user add bare --no-password)"
    check "role add" "Role reading created" "$(ctl role add reading)"
    check "grant a prefix" "Role reading updated" "$(ctl role grant-permission reading read --prefix k/)"
    check "grant a range" "Role reading updated" "$(ctl role grant-permission reading write a c)"
    check "grant what follows" "Role reading updated" "$(ctl role grant-permission reading readwrite --from-key q)"
    check "grant a key" "Role reading updated" "$(ctl role grant-permission reading read one)"
    check "user grant-role" "Role reading is granted to user reader" "$(ctl user grant-role reader reading)"
    for format in simple json fields protobuf; do
        same "role get -w $format" role get reading -w $format
        same "role list -w $format" role list -w $format
    done
    for format in simple json; do
        same "user get -w $format" user get reader -w $format
        same "user get --detail -w $format" user get reader --detail -w $format
        same "user list -w $format" user list -w $format
    done
    check "revoke a range" "Permission of range [a, c) is revoked from role reading" "$(ctl role revoke-permission reading a c)"
    check "revoke what follows" "Permission of range [q, <open ended> is revoked from role reading" "$(ctl role revoke-permission reading --from-key q)"
    check "revoke a key" "Permission of key one is revoked from role reading" "$(ctl role revoke-permission reading one)"
    check_like "auth status" $'^Authentication Status: false\nAuthRevision: [0-9]+$' "$(ctl auth status)"
    check "auth enable" "Authentication Enabled" "$(ctl auth enable)"
    same "get of nobody" get k/1
    same "get with a wrong password" get k/1 --user root:wrong
    same "get of a reader" get k/1 --user reader:secret
    same "put of a reader" put k/1 x --user reader --password secret
    check_like "get, asked for a password" $'k/1\nv$' "$(printf 'secret\n' | ctl get k/1 --user reader)"
    check_like "a watch that is not allowed" "permission denied" "$(ctl watch x --user reader:secret)"
    token=$(curl -s "$one/v3/auth/authenticate" -d '{"name":"reader","password":"secret"}' | sed -E 's/.*"token": ?"([^"]+)".*/\1/')
    check "get with a token" $'k/1\nv' "$(ETCDCTL_ENDPOINTS=$one ctl get k/1 --auth-jwt-token "$token")"
    check_like "get with a token that is none" "invalid auth token" "$(ETCDCTL_ENDPOINTS=$one ctl get k/1 --auth-jwt-token x)"
    check "endpoint health of nobody" 3 "$(ctl endpoint health | grep -c 'is unhealthy')"
    check "endpoint health of root" 3 "$(as_root endpoint health | grep -c 'is healthy')"
    check "lock of root" "held" "$(as_root lock lock echo held)"
    check "user passwd" "Password updated" "$(printf 'other\n' | as_root user passwd reader --interactive=false)"
    check_like "the old password" "authentication failed" "$(ctl get k/1 --user reader:secret)"
    check "user revoke-role" "Role reading is revoked from user reader" "$(as_root user revoke-role reader reading)"
    check "auth disable" "Authentication Disabled" "$(as_root auth disable)"
    check "user delete" "User reader deleted" "$(ctl user delete reader)"
    check "role delete" "Role reading deleted" "$(ctl role delete reading)"
    for name in root bare; do ctl user delete $name >out; done
    ctl role delete root >out
}

mirrors() {
    ctl put m/1 a >out
    launch mirror "$quorate" ctl make-mirror "$one" --prefix m/ --dest-prefix n/
    await $'n/1\na' eval "ctl get --prefix n/"
    ctl put m/2 b >out
    await $'n/1\na\nn/2\nb' eval "ctl get --prefix n/"
    ctl del m/1 >out
    await $'n/2\nb' eval "ctl get --prefix n/"
    check "make-mirror" $'n/2\nb' "$(ctl get --prefix n/)"
    finish mirror TERM
}

connections() {
    check "the next endpoint when one is dead" $'k/1\nv' "$(ETCDCTL_ENDPOINTS=127.0.0.1:1,$one ctl get k/1)"
    check_like "none that lives" $'^quorate: cannot reach 127.0.0.1:1: .*refused.*\nError: context deadline exceeded\nexit 1$' \
        "$(ETCDCTL_ENDPOINTS=127.0.0.1:1 ctl get k/1 --command-timeout 500ms)"
    check_like "endpoint health of a dead one" $'127.0.0.1:1 is unhealthy: failed to commit proposal: context deadline exceeded.*is healthy.*unhealthy cluster' \
        "$(ETCDCTL_ENDPOINTS=127.0.0.1:1,$one ctl endpoint health --command-timeout 1s | xargs -d '\n')"
    check_like "endpoint status of a dead one" 'Failed to get the status of endpoint 127.0.0.1:1 \(context deadline exceeded\).*exit 1' \
        "$(ETCDCTL_ENDPOINTS=127.0.0.1:1,$one ctl endpoint status --command-timeout 1s | xargs -d '\n')"
    check "flag and variable" 'Error: conflicting environment variable "ETCDCTL_ENDPOINTS" is shadowed by corresponding command-line flag (either unset environment variable or disable flag)'$'\nexit 1' \
        "$(ctl get k/1 --endpoints "$one")"
    check_like "a variable" '"k/1"' "$(ETCDCTL_WRITE_OUT=fields ctl get k/1)"
    same "a certificate without its key" get k/1 --cert /nowhere
    check_like "no such authority" "Error: .*/nowhere.*exit 128" "$(ctl get k/1 --cacert /nowhere | xargs -d '\n')"
    check_like "TLS to who does not speak it" "context deadline exceeded" \
        "$(ctl get k/1 --insecure-transport=false --insecure-skip-tls-verify --command-timeout 1s)"
    check_like "completion bash" "complete -F _quorate" "$("$quorate" completion bash)"
    check_like "completion zsh" "^#compdef quorate" "$("$quorate" completion zsh)"
    check_like "completion fish" "complete -c quorate" "$("$quorate" completion fish)"
}

# What these two change stays so: each is the last of its cluster.
members() {
    local id
    check_like "member add" $'^Member +[0-9a-f]+ added to cluster +[0-9a-f]+\n\nETCD_NAME="d"\nETCD_INITIAL_CLUSTER="[^ ]*d=http://127.0.79.1:42380[^ ]*"\nETCD_INITIAL_ADVERTISE_PEER_URLS="http://127.0.79.1:42380"\nETCD_INITIAL_CLUSTER_STATE="existing"$' \
        "$(ctl member add d --peer-urls=http://127.0.79.1:42380 --learner)"
    id=$(ctl member list | grep 42380 | cut -d, -f1)
    check_like "member list of one that was never there" "^$id, unstarted, , http://127.0.79.1:42380, , true$" "$(ctl member list | grep 42380)"
    check_like "member promote of it" "in sync with leader" "$(ctl member promote "$id")"
}

leaving() {
    local id
    id=$(ctl endpoint status | awk -F', ' '$5 == "false" {print $2; exit}')
    check_like "member remove" "^Member +$id removed from cluster +[0-9a-f]+$" "$(ctl member remove "$id" --command-timeout 50s)"
}

# Three processes; the one at the first endpoint is killed, which is where all that is launched is connected.
failover() {
    local dir=$scratch/three first rest
    "$here/cluster.sh" start "$dir" "$quorate" >out
    first=$(sed -n 1p "$dir/clients")
    rest=$(sed -n '2,3p' "$dir/clients" | paste -sd,)
    ETCDCTL_ENDPOINTS=$first,$rest
    launch watch "$quorate" ctl watch --prefix w/ --rev 1
    launch lock "$quorate" ctl lock l
    await 1 grep -c ^l/ "$scratch/lock"
    launch next "$quorate" ctl lock l
    # shellcheck disable=SC2016  # it is the command's
    launch run "$quorate" ctl lock other -- sh -c 'echo held; until [ -e go ]; do sleep 0.1; done'
    await held cat "$scratch/run"
    launch leader "$quorate" ctl elect e me
    await 1 grep -c ^me "$scratch/leader"
    launch observer "$quorate" ctl elect -l e
    await 1 grep -c ^me "$scratch/observer"
    await 2 eval "ctl get --prefix l/ --keys-only | grep -c ."
    ctl put w/1 a >out
    await 3 eval "wc -l <watch"
    kill -9 "$(cat "$dir/n1.pid")"
    await OK eval "ETCDCTL_ENDPOINTS=$rest ctl put w/2 b"
    ETCDCTL_ENDPOINTS=$rest
    await yes eval 'grep -q ^w/2 watch && echo yes'
    ctl put w/3 c >out
    printed "watch goes on at another endpoint, with each event once" watch "$(printf 'PUT\nw/1\na\n%s\nPUT\nw/3\nc' "$(events_of_2)")"
    check "a lock is held on" "$(grep ^l/ lock)" "$(ctl get "$(grep ^l/ lock)" --keys-only | head -1)"
    check "and nobody else has it" "" "$(cat next)"
    finish lock INT
    check "it is freed" 0 $?
    await 1 grep -c ^l/ "$scratch/next"
    check "the next has it then" 1 "$(grep -c ^l/ next)"
    finish next INT
    touch go
    finish run
    check "the command's lock is freed too" 0 $?
    ctl put e/none x >out
    ctl del e/none >out
    finish leader INT
    check "the leader ends well" 0 $?
    launch last "$quorate" ctl elect e you
    await 1 grep -c ^you "$scratch/observer"
    check "elect -l shows each leader once" "me you" "$(grep -v / observer | xargs)"
    finish last INT
    finish observer TERM
    check "nothing is left" "" "$(ctl get --prefix l/; ctl get --prefix other/; ctl get --prefix e/)"
    "$here/cluster.sh" stop "$dir" >out
    check "the nodes stop" 0 $?
    ETCDCTL_ENDPOINTS=$all
}

# What was put while it was tried again until a server answered.
events_of_2() {
    local count
    count=$(($(ctl get w/2 -w json | sed -E 's/.*"version":([0-9]+).*/\1/')))
    for _ in $(seq "$count"); do printf 'PUT\nw/2\nb\n'; done
}

# start_cluster NAME: a cluster with a directory of its own.
start_cluster() {
    launch dev "$quorate" dev --data-dir "$scratch/data-$1" --listen-client "$one"
    await 1 grep -c Ctrl-C "$scratch/dev"
    grep -q Ctrl-C dev || { cat dev dev.err; exit 1; }
}

[ -n "$etcdctl" ] || echo "SKIPPED the comparison: etcdctl is not installed"
[[ $version != 3.[0-4].* ]] || echo "SKIPPED the comparison of what etcdctl $version does otherwise than 3.5"
start_cluster first
ctl put k/1 v >out
for section in keys mistakes transactions watches leases locks cluster words snapshots authentication mirrors connections failover members; do
    [ -n "${ONLY:-}" ] && [ "$ONLY" != $section ] && continue
    $section
done
finish dev TERM
check "quorate dev stops" 0 $?
start_cluster second
leaving
# It ends by itself when one of its nodes is no member any more.
finish dev TERM
summary
