# For etcdctl.sh: keys, transactions, watches, history. Sourced, not run.

keys() {
    check "put" "OK" "$(ctl put a 1)"
    check "get" $'a\n1' "$(ctl get a)"
    check "get of a missing key" "" "$(ctl get missing)"
    local old
    old=$(revision)
    ctl put a 2 >out
    check "put --prev-kv" $'OK\na\n2' "$(ctl put --prev-kv a 3)"
    check "get --rev" "1" "$(ctl get --print-value-only --rev="$old" a)"
    check "put --ignore-value" $'OK\na\n3' "$(ctl put --prev-kv --ignore-value a)"
    check "put --ignore-lease" "OK" "$(ctl put --ignore-lease a 3)"
    check_like "put --ignore-value of a missing key" "key not found" "$(ctl put --ignore-value missing)"
    check "put from standard input" "OK" "$(printf 'two words' | ctl put stdin)"
    check "get of it" "two words" "$(ctl get --print-value-only stdin)"
    check "put of a value like a flag" "OK" "$(ctl put -- dash -v)"
    check "get of it" $'dash\n-v' "$(ctl get dash)"
    check "put of bytes" "OK" "$(printf 'x\xff\x01' | ctl put bytes)"
    check "get --hex" '\x62\x79\x74\x65\x73'$'\n''\x78\xff\x01' "$(ctl get --hex bytes)"
    check "del" "1" "$(ctl del stdin)"
    check "del of a missing key" "0" "$(ctl del stdin)"
    check "del --prev-kv" $'1\na\n3' "$(ctl del --prev-kv a)"
    check_like "put of no key" "key is not provided" "$(ctl put "" x)"
    check_like "put of too much" "request is too large" "$(head -c 1600000 /dev/zero | tr '\0' x | ctl put large)"
}

ranges() {
    local key
    for key in b d a c; do ctl put "range/$key" "$key$key" >out; done
    local keys=(get --keys-only --prefix range/)
    check "get --prefix" "range/a range/b range/c range/d" "$(ctl "${keys[@]}" | xargs)"
    check "get --limit" "range/a range/b" "$(ctl "${keys[@]}" --limit=2 | xargs)"
    check "get --order" "range/d range/c range/b range/a" "$(ctl "${keys[@]}" --order=DESCEND | xargs)"
    check "get --sort-by=CREATE" "range/b range/d range/a range/c" \
        "$(ctl "${keys[@]}" --sort-by=CREATE --order=ASCEND | xargs)"
    check "get --sort-by=MODIFY --limit" "range/c" \
        "$(ctl "${keys[@]}" --sort-by=MODIFY --order=DESCEND --limit=1 | xargs)"
    check "get --sort-by=VALUE" "range/d range/c range/b range/a" \
        "$(ctl get --prefix range/ --sort-by=VALUE --order=DESCEND | grep / | xargs)"
    ctl put range/d dd >out
    check "get --sort-by=VERSION" "range/d" \
        "$(ctl "${keys[@]}" --sort-by=VERSION --order=DESCEND --limit=1 | xargs)"
    check "get --sort-by=KEY" "range/a" "$(ctl "${keys[@]}" --sort-by=KEY --limit=1 | xargs)"
    check "get of a range" "aa bb" "$(ctl get --print-value-only range/a range/c | xargs)"
    check "get --from-key" "range/c" "$(ctl get --keys-only --from-key --limit=1 range/c | xargs)"
    check "get of a count" '"Count" : 4' "$(ctl get --prefix range/ --write-out=fields --limit=1 | grep Count)"
    is_34 || check "get --count-only" '"Count" : 4' "$(ctl get --prefix range/ --count-only -w fields | grep Count)"
    check "get --consistency=s" "aa" "$(ctl get --consistency=s --print-value-only range/a)"
    check "get --prefix of all" "range/a" "$(ctl get --prefix --keys-only "" | grep range/a)"
    check "del of a range" "2" "$(ctl del range/a range/c)"
    check "del --prefix" "1" "$(ctl del --prefix range/c)"
    check "del --from-key" "1" "$(ctl put zz x >out; ctl del --from-key zz)"
    check "del --prefix --prev-kv" $'1\nrange/d\ndd' "$(ctl del --prefix --prev-kv range/)"
}

transactions() {
    ctl put txn old >out
    check "txn that succeeds" $'SUCCESS\n\nOK\n\ntxn\nnew' \
        "$(printf 'value("txn") = "old"\nversion("txn") = "1"\n\nput txn new\nget txn\n\ndel txn\n\n' | ctl txn)"
    check "txn that fails" $'FAILURE\n\n1' \
        "$(printf 'mod("txn") = "1"\n\nput txn never\n\ndel txn\nget txn\n\n' | ctl txn | sed -e '/^$/{$d}')"
    check_like "txn with a key twice" "duplicate key given in txn request" \
        "$(printf '\nput txn 1\nput txn 2\n\n\n' | ctl txn)"
    ctl put txn 5 >out
    check_like "txn -i" $'compares:\nsuccess requests \(get, put, del\):\nfailure requests \(get, put, del\):\nSUCCESS\n\ntxn\n5$' \
        "$(printf 'create("txn") > "1"\n\nget txn\n\n\n' | ctl txn -i)"
    check "txn of ranges" $'SUCCESS\n\n2' "$(printf '\nput t/1 a\nput t/2 b\n\n\n' | ctl txn >out
        printf 'val("txn") < "6"\n\ndel --prefix t/\n\n\n' | ctl txn)"
}

# watch NAME EXPECTED ARGUMENT...: etcdctl watch must print EXPECTED; ends it then.
watch() {
    local name=$1 expected=$2
    shift 2
    launch_ctl watcher watch "$@"
    await "$expected" cat "$scratch/watcher"
    finish watcher TERM
    check "$name" "$expected" "$(cat "$scratch/watcher")"
}

watches() {
    ctl put watch/a before >out
    local from
    from=$(($(revision) + 1))
    ctl put watch/a 1 >out
    ctl put watch/b 2 >out
    ctl put other x >out
    ctl del watch/a >out
    watch "watch --rev --prefix" $'PUT\nwatch/a\n1\nPUT\nwatch/b\n2\nDELETE\nwatch/a' --rev="$from" --prefix watch/
    watch "watch --rev of a range" $'PUT\nwatch/a\n1\nDELETE\nwatch/a' --rev="$from" watch/a watch/b
    watch "watch --rev --prev-kv" $'PUT\nwatch/a\nbefore\nwatch/a\n1\nDELETE\nwatch/a\n1\nwatch/a' --rev="$from" --prev-kv watch/a
    watch "watch that runs a command" $'PUT\nwatch/b\n2\n"PUT" "watch/b" "2"' --rev="$from" watch/b -- \
        sh -c 'echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE'
    interactive_watch "$from"
    check_like "watch -w json" '"kv":\{"key":"d2F0Y2gvYg==","create_revision":[0-9]+,"mod_revision":[0-9]+,"version":1,"value":"Mg=="\}' \
        "$(timeout 2 "$etcdctl" --endpoints "$asked" watch --rev="$from" watch/b -w json)"
    check_like "watch -w fields" '"Key" : "watch/b"' "$(timeout 2 "$etcdctl" --endpoints "$asked" watch --rev="$from" watch/b -w fields)"
}

# interactive_watch REVISION: what is typed starts watchers on one stream, and asks for progress.
interactive_watch() {
    mkfifo typed
    exec 8<>typed
    launch_ctl watcher watch -i <&8
    printf 'watch watch/a --rev=%s\nwatch watch/b --rev=%s\n' "$1" "$1" >&8
    await 3 eval "grep -cE '^(PUT|DELETE)' watcher"
    check "watch -i" "DELETE PUT PUT" "$(grep -E '^(PUT|DELETE)' watcher | sort | xargs)"
    printf 'progress\n' >&8
    await yes eval "grep -q '^progress notify: [0-9]' watcher && echo yes"
    check "watch -i: progress" 1 "$(grep -cm1 '^progress notify: [0-9]' watcher)"
    finish watcher TERM
    exec 8>&-
    rm typed
}

compactions() {
    ctl put compact 1 >out
    local old
    old=$(revision)
    ctl put compact 2 >out
    check "compaction" "compacted revision $((old + 1))" "$(ctl compaction $((old + 1)))"
    check_like "get at a compacted revision" "required revision has been compacted" "$(ctl get --rev="$old" compact)"
    check_like "get at a future revision" "required revision is a future revision" \
        "$(ctl get --rev=$((old + 1000000)) compact)"
    check_like "compact twice" "required revision has been compacted" "$(ctl compact "$old")"
    check_like "watch from a compacted revision" "required revision has been compacted" "$(ctl watch --rev=1 compact)"
    ctl put compact 3 >out
    check "compaction --physical" "compacted revision $((old + 2))" "$(ctl compaction --physical $((old + 2)))"
}
