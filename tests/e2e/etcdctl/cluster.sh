# For etcdctl.sh: endpoints, maintenance, alarms, snapshots, mirrors, and what asks no server. Sourced, not run.

different_hashes() { ctl endpoint hashkv "$@" | cut -d, -f2 | sort -u | wc -l; }

healthy() { ctl endpoint health "$@" | grep -c 'is healthy: successfully committed proposal'; }

endpoints() {
    local table at_revision
    table=$(ctl endpoint status -w table)
    check_like "endpoint status -w table" "ENDPOINT.*ID.*VERSION.*DB SIZE.*IS LEADER.*RAFT TERM.*RAFT INDEX" "$table"
    check "endpoint status: members" 3 "$(grep -c ':[0-9]* |' <<<"$table")"
    check "endpoint status: one leader" 1 "$(awk -F'|' '$6 ~ /true/' <<<"$table" | grep -c .)"
    check "endpoint status" 3 "$(ctl endpoint status | grep -cE "^$host:[0-9]+, [0-9a-f]+, [0-9.]+, [0-9.]+ [kM]?B, (true|false), false, [0-9]+, [0-9]+, [0-9]+, \$")"
    check "endpoint status --cluster" 3 "$(at 1 endpoint status --cluster | grep -c "^http://$host:")"
    check "endpoint health" 3 "$(healthy)"
    check "endpoint health --cluster" 3 "$(asked=$(endpoint 1) healthy --cluster)"
    check_like "endpoint health of a dead one" 'is unhealthy.*unhealthy cluster.*exit 1' \
        "$(asked=127.0.0.1:1 ctl endpoint health --command-timeout 1s --dial-timeout 1s | xargs -d '\n')"
    # A follower may be one revision behind at any moment.
    await 1 different_hashes
    check "endpoint hashkv" 1 "$(different_hashes)"
    check "endpoint hashkv --cluster" 3 "$(at 1 endpoint hashkv --cluster | grep -cE "^http://$host:[0-9]+, [0-9]+\$")"
    # At the compacted revision etcd has no hash.
    ctl put hashed 1 >out
    at_revision=$(revision)
    await 1 different_hashes --rev "$at_revision"
    check "endpoint hashkv --rev" 1 "$(different_hashes --rev "$at_revision")"
    check "member list" 3 "$(ctl member list | grep -cE '^[0-9a-f]+, started, n[123], http://[^,]+, http://[^,]+, false$')"
}

# Endpoints with a scheme: this etcdctl may send them as the request's :authority.
schemes() {
    local asked leader target
    asked=$(client_url 1),$(client_url 2),$(client_url 3)
    check "http://: put" "OK" "$(ctl put scheme 1)"
    check "http://: get" $'scheme\n1' "$(ctl get scheme)"
    check "http://: txn" $'SUCCESS\n\nscheme\n1' "$(printf '\nget scheme\n\n\n' | ctl txn)"
    check "http://: del" 1 "$(ctl del scheme)"
    check_like "http://: lease grant" "granted with TTL" "$(ctl lease grant 1)"
    check "http://: lock" "held" "$(ctl lock scheme-lock echo held)"
    check "http://: member list" 3 "$(ctl member list | grep -c started)"
    check "http://: endpoint health" 3 "$(healthy)"
    check "http://: endpoint status" 3 "$(ctl endpoint status | grep -c "^http://$host:")"
    check "http://: endpoint hashkv" 3 "$(ctl endpoint hashkv | grep -cE ', [0-9]+$')"
    check "http://: defrag" 3 "$(ctl defrag | grep -c '^Finished defragmenting')"
    check "http://: alarm list" "" "$(ctl alarm list)"
    check_like "http://: role list" "^$" "$(ctl role list)"
    local from
    from=$(ctl put scheme-watch 1 -w json | grep -o '"revision":[0-9]*' | cut -d: -f2)
    watch "http://: watch" $'PUT\nscheme-watch\n1' --rev="$from" scheme-watch
    leader=$(ctl endpoint status | awk -F', ' '$5 == "true" {print $2}')
    target=$(ctl endpoint status | awk -F', ' '$5 == "false" {print $2; exit}')
    check "http://: move-leader" "Leadership transferred from $leader to $target" "$(ctl move-leader "$target")"
    asked=$(client_url 1)
    check_like "http://: snapshot save" "Snapshot saved at scheme.db" "$(ctl snapshot save scheme.db)"
}

# endpoint_of yes|no: the endpoint of a node that leads, or of one that does not.
endpoint_of() {
    local is=true
    [ "$1" == yes ] || is=false
    ctl endpoint status | awk -F', ' -v "is=$is" '$5 == is {print $1; exit}'
}

id_at() { asked=$1 ctl endpoint status | cut -d, -f2 | tr -d ' '; }

moves() {
    local from to leader target
    from=$(endpoint_of yes) to=$(endpoint_of no)
    leader=$(id_at "$from") target=$(id_at "$to")
    check_like "move-leader without the leader's endpoint" "no leader endpoint given at \[$to\]" \
        "$(asked=$to ctl move-leader "$target")"
    check "move-leader" "Leadership transferred from $leader to $target" "$(ctl move-leader "$target")"
    await "$to" endpoint_of yes
    check "it leads" "$to" "$(endpoint_of yes)"
    check_like "move-leader to nobody" "leader|exit 1" "$(ctl move-leader bad | xargs -d '\n')"
}

maintenance() {
    check "defrag" 3 "$(ctl defrag | grep -cE "^Finished defragmenting etcd member\[$host:[0-9]+\]\$")"
    check "defrag --cluster" 3 "$(at 1 defrag --cluster | grep -cE "^Finished defragmenting etcd member\[http://$host:[0-9]+\]\$")"
    check_like "defrag of a dead one" "Failed to defragment etcd member\[127.0.0.1:1\].*exit 1" \
        "$(asked=127.0.0.1:1 ctl defrag --command-timeout 1s | xargs -d '\n')"
}

# alarm ACTION: raises or ends the alarm of the first node, which etcdctl has no command for.
alarm() {
    curl -sS "$(client_url 1)/v3/maintenance/alarm" \
        -d "{\"action\":\"$1\",\"memberID\":\"$(printf '%u' "0x$(id_at "$(endpoint 1)")")\",\"alarm\":\"NOSPACE\"}" >out
}

alarms() {
    local id
    check "alarm list" "" "$(ctl alarm list)"
    if ! command -v curl >/dev/null; then
        echo "SKIPPED alarms: curl raises them"
        ctl alarm disarm >out
        return
    fi
    # Ids are decimal here and nowhere else.
    id=$(printf '%u' "0x$(id_at "$(endpoint 1)")")
    alarm ACTIVATE
    check "alarm list of one" "memberID:$id alarm:NOSPACE " "$(ctl alarm list)"
    check_like "put under the alarm" "database space exceeded" "$(ctl put a 1)"
    check_like "endpoint status under it" "NOSPACE" "$(at 1 endpoint status)"
    check "alarm disarm" "memberID:$id alarm:NOSPACE " "$(ctl alarm disarm)"
    check "alarm list after it" "" "$(ctl alarm list)"
    check "put after it" "OK" "$(ctl put a 1)"
}

snapshots() {
    local hash keys size at_revision
    ctl put snapshot x >out
    at_revision=$(revision)
    check_like "snapshot save" "Snapshot saved at saved.db" "$(at 2 snapshot save saved.db)"
    check_like "snapshot save of many endpoints" "snapshot must be requested to one selected node" "$(ctl snapshot save no.db)"
    IFS=', ' read -r hash _ keys size < <(ctl snapshot status saved.db | tail -1)
    check_like "snapshot status" "^[0-9a-f]+ [0-9]+ [0-9]+" "$hash $keys $size"
    check_like "snapshot status -w json" "\"revision\":$at_revision,\"totalKey\":$keys," "$(ctl snapshot status saved.db -w json)"
    check_like "snapshot status -w table" "HASH.*REVISION.*TOTAL KEYS.*TOTAL SIZE.*$hash" "$(ctl snapshot status saved.db -w table)"
    check_like "snapshot restore" "^(Deprecated.*)?" "$(ctl snapshot restore saved.db --data-dir restored 2>&1 | head -1)"
    check "its files" yes "$([ -s restored/member/snap/db ] && [ -n "$(ls restored/member/wal)" ] && echo yes)"
    check_like "snapshot restore to where there is something" "exists|not empty" \
        "$(ctl snapshot restore saved.db --data-dir restored)"
    printf 'x' | dd of=saved.db bs=1 seek=5000 conv=notrunc 2>dd.err
    check_like "snapshot restore of a damaged file" "expected sha256" "$(ctl snapshot restore saved.db --data-dir damaged)"
    check_like "defrag --data-dir of what was restored" "^(Use .etcdutl defrag. instead.*)?$" \
        "$(ctl defrag --data-dir restored)"
}

# A server alone, as the destination.
mirrors() {
    start_node 4 "n4=$(peer_url 4)"
    await_service "$(endpoint 4)"
    ctl put m/1 a >out
    launch_ctl mirror make-mirror --prefix m/ --dest-prefix n/ "$(endpoint 4)"
    await $'n/1\na' at 4 get --prefix n/
    ctl put m/2 b >out
    ctl put other b >out
    await $'n/1\na\nn/2\nb' at 4 get --prefix n/
    check "make-mirror: what is there, and a put" $'n/1\na\nn/2\nb' "$(at 4 get --prefix "")"
    ctl del m/1 >out
    await $'n/2\nb' at 4 get --prefix n/
    check "make-mirror: a deletion" $'n/2\nb' "$(at 4 get --prefix n/)"
    printf '\nput m/3 c\nput m/4 d\n\n\n' | ctl txn >out
    await 3 eval "at 4 get --prefix n/ --keys-only | grep -c n/"
    check "make-mirror: a transaction" "n/2 n/3 n/4" "$(at 4 get --prefix n/ --keys-only | xargs)"
    finish mirror TERM
    launch_ctl mirror make-mirror --prefix m/ --no-dest-prefix "$(endpoint 4)"
    await b at 4 get 2 --print-value-only
    check "make-mirror --no-dest-prefix" b "$(at 4 get 2 --print-value-only)"
    finish mirror TERM
    finish n4 TERM
    rm -rf "$scratch/n4.data"
}

# What etcdctl does by itself.
offline() {
    check_like "version" $'^etcdctl version: 3\\.[0-9]+\\.[0-9]+\nAPI version: 3\\.[0-9]+$' "$(ctl version)"
    check "endpoints from the environment" "OK" "$(ETCDCTL_ENDPOINTS=$asked "$etcdctl" put offline 1)"
    check_like "help" "Gets the key or a range of keys" "$(ctl help get)"
    check_like "a command that there is not" "unknown command" "$(ctl nothing)"
    [ -z "$(commands | grep '^completion')" ] && return
    check_like "completion bash" "__etcdctl" "$(ctl completion bash)"
    check_like "completion zsh" "compdef" "$(ctl completion zsh)"
    check_like "completion fish" "complete -c etcdctl" "$(ctl completion fish)"
    check_like "completion powershell" "Register-ArgumentCompleter" "$(ctl completion powershell)"
}

# It puts 10,000 keys, and looks at how much memory that takes in /metrics.
loads() {
    check_like "check datascale" "PASS: Approximate system memory used : [0-9.]+ MB" \
        "$(at 1 check datascale --load s --auto-compact --auto-defrag)"
    [ -n "${CHECK_PERF:-}" ] || return 0
    check_like "check perf" "Throughput is [0-9]+ writes/s.*Slowest request took [0-9.]+s.*Stddev is" \
        "$(ctl check perf --load s --auto-compact | tr '\r' '\n' | grep -v '%' | xargs -d '\n')"
}
