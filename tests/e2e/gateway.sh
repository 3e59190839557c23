#!/usr/bin/env bash
# What people do with curl and etcd's JSON gateway, against a running cluster.
#
#   tests/e2e/gateway.sh 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379
#
# Asserts what curl prints. Every key it writes is below a prefix of its own. Ends with the line
# "N passed, N failed"; the exit code is 0 if nothing failed.
set -uo pipefail

[ $# -eq 1 ] || { echo "usage: $0 HOST:PORT[,HOST:PORT...]" >&2; exit 2; }
IFS=, read -ra endpoints <<<"$1"
last=$((${#endpoints[@]} - 1))
p="gateway/$$"
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

b64() { printf '%s' "$1" | base64 -w0; }

# ask MEMBER PATH BODY [CURL-ARGUMENT...]: the body of the answer.
ask() {
    local url="http://${endpoints[$1]}$2" body=$3
    shift 3
    curl --silent --show-error --max-time 60 "$@" --data "$body" "$url"
}

# follow MEMBER PATH BODY: the same as it comes, until it is killed: for the background, whose process becomes curl.
follow() {
    exec curl --silent --show-error --no-buffer --max-time 60 --data "$3" "http://${endpoints[$1]}$2"
}

# headless MEMBER PATH BODY: the answer without its header, whose numbers differ from run to run.
headless() {
    ask "$@" | sed -E 's/^\{"header":\{[^}]*\},?/{/'
}

# status MEMBER PATH BODY [CURL-ARGUMENT...]: the HTTP status of the answer.
status() {
    ask "$@" --output "$scratch/body" --write-out '%{http_code}'
}

# string FIELD JSON: the first value of a field that is a string.
string() {
    grep -o "\"$1\":\"[^\"]*\"" <<<"$2" | head -n1 | cut -d'"' -f4
}

# Waits until a file has so many lines.
await_lines() {
    for _ in $(seq 300); do
        [ "$(wc -l <"$1")" -ge "$2" ] && return
        sleep 0.1
    done
}

keys() {
    local key value answer
    key=$(b64 "$p/a")
    value=$(b64 "hello, wörld")
    check_like "put" '^\{"header":\{"cluster_id":"[0-9]+","member_id":"[0-9]+","revision":"[0-9]+","raft_term":"[0-9]+"\}\}$' \
        "$(ask 0 /v3/kv/put "{\"key\":\"$key\",\"value\":\"$value\"}")"
    answer=$(ask $last /v3/kv/range "{\"key\":\"$key\"}")
    check_like "range from another member" \
        "\"kvs\":\[\{\"key\":\"$key\",\"create_revision\":\"[0-9]+\",\"mod_revision\":\"[0-9]+\",\"version\":\"1\",\"value\":\"$value\"\}\],\"count\":\"1\"\}\$" \
        "$answer"
    check "range of a missing key" "{}" "$(headless 0 /v3/kv/range "{\"key\":\"$(b64 "$p/missing")\"}")"
    ask 0 /v3/kv/put "{\"key\":\"$(b64 "$p/b")\"}" >/dev/null
    local both="\"key\":\"$(b64 "$p/")\",\"range_end\":\"$(b64 "${p}0")\""
    check "count" '{"count":"2"}' "$(headless 0 /v3/kv/range "{$both,\"count_only\":true}")"
    check "count, in camel case" '{"count":"2"}' \
        "$(headless 0 /v3/kv/range "{\"key\":\"$(b64 "$p/")\",\"rangeEnd\":\"$(b64 "${p}0")\",\"countOnly\":true}")"
    answer=$(ask 0 /v3/kv/range "{$both,\"sort_order\":\"DESCEND\",\"sort_target\":\"KEY\",\"limit\":\"1\"}")
    check "range in descending order" "$(b64 "$p/b")" "$(string key "$answer")"
    check_like "range with a limit" '"more":true,"count":"2"' "$answer"
    check_like "put with the previous value" "\"prev_kv\":\{\"key\":\"$key\".*\"value\":\"$value\"" \
        "$(ask 0 /v3/kv/put "{\"key\":\"$key\",\"value\":\"Mg==\",\"prev_kv\":true}")"
    check_like "deleterange" '"deleted":"2","prev_kvs":\[\{.*\},\{.*\}\]\}$' \
        "$(ask 0 /v3/kv/deleterange "{$both,\"prev_kv\":true}")"
    check "deleterange of nothing" "{}" "$(headless 0 /v3/kv/deleterange "{$both}")"
}

transactions() {
    local key txn
    key=$(b64 "$p/txn")
    txn="{\"compare\":[{\"key\":\"$key\",\"target\":\"CREATE\",\"result\":\"EQUAL\",\"create_revision\":\"0\"}],
        \"success\":[{\"request_put\":{\"key\":\"$key\",\"value\":\"MQ==\"}}],
        \"failure\":[{\"request_range\":{\"key\":\"$key\"}}]}"
    check_like "txn that creates" '^\{"succeeded":true,"responses":\[\{"response_put":\{"header":\{"revision":"[0-9]+"\}\}\}\]\}$' \
        "$(headless 0 /v3/kv/txn "$txn")"
    check_like "txn that finds" '^\{"responses":\[\{"response_range":\{.*"kvs":\[\{.*"value":"MQ==".*\}\],"count":"1"\}\}\]\}$' \
        "$(headless $last /v3/kv/txn "$txn")"
    local old
    old=$(string mod_revision "$(ask 0 /v3/kv/range "{\"key\":\"$key\"}")")
    local new
    new=$(string revision "$(ask 0 /v3/kv/put "{\"key\":\"$key\",\"value\":\"Mg==\"}")")
    check "range of the past" "MQ==" \
        "$(string value "$(ask 0 /v3/kv/range "{\"key\":\"$key\",\"revision\":\"$old\"}")")"
    check "compaction" "{}" "$(headless 0 /v3/kv/compaction "{\"revision\":\"$new\",\"physical\":true}")"
    local text="etcdserver: mvcc: required revision has been compacted"
    check_like "range of what was compacted" "\"error\":\"$text\"" \
        "$(ask 0 /v3/kv/range "{\"key\":\"$key\",\"revision\":\"$old\"}")"
    check "its status" 400 "$(status 0 /v3/kv/range "{\"key\":\"$key\",\"revision\":\"$old\"}")"
}

leases() {
    local answer id
    answer=$(ask 0 /v3/lease/grant '{"TTL":"120"}')
    id=$(string ID "$answer")
    check "grant" "{\"ID\":\"$id\",\"TTL\":\"120\"}" "$(sed -E 's/"header":\{[^}]*\},//' <<<"$answer")"
    ask 0 /v3/kv/put "{\"key\":\"$(b64 "$p/leased")\",\"lease\":\"$id\"}" >/dev/null
    check_like "timetolive" "\"ID\":\"$id\",\"TTL\":\"1[0-9][0-9]\",\"grantedTTL\":\"120\",\"keys\":\[\"$(b64 "$p/leased")\"\]" \
        "$(ask $last /v3/lease/timetolive "{\"ID\":\"$id\",\"keys\":true}")"
    check_like "leases" "\"ID\":\"$id\"" "$(ask 0 /v3/lease/leases '{}')"
    check_like "leases, by the older path" "\"ID\":\"$id\"" "$(ask 0 /v3/kv/lease/leases '{}')"
    check_like "keepalive" "^\{\"result\":\{\"header\":\{.*\},\"ID\":\"$id\",\"TTL\":\"120\"\}\}\$" \
        "$(ask $last /v3/lease/keepalive "{\"ID\":\"$id\"}")"
    check "revoke" "{}" "$(headless 0 /v3/kv/lease/revoke "{\"ID\":\"$id\"}")"
    check "its key is gone" "{}" "$(headless 0 /v3/kv/range "{\"key\":\"$(b64 "$p/leased")\"}")"
    check_like "revoke of a missing lease" '"error":"etcdserver: requested lease not found",.*"code":5' \
        "$(ask 0 /v3/lease/revoke "{\"ID\":\"$id\"}")"
    check "its status" 404 "$(status 0 /v3/lease/revoke "{\"ID\":\"$id\"}")"
}

watches() {
    local key start
    key=$(b64 "$p/watched")
    start=$(string revision "$(ask 0 /v3/kv/put "{\"key\":\"$key\",\"value\":\"MQ==\"}")")
    follow $last /v3/watch "{\"create_request\":{\"key\":\"$key\",\"start_revision\":\"$start\",\"prev_kv\":true}}" \
        >"$scratch/watch" &
    running[stream]=$!
    await_lines "$scratch/watch" 2
    ask 0 /v3/kv/put "{\"key\":\"$key\",\"value\":\"Mg==\"}" >/dev/null
    await_lines "$scratch/watch" 3
    ask 0 /v3/kv/deleterange "{\"key\":\"$key\"}" >/dev/null
    await_lines "$scratch/watch" 4
    finish stream TERM
    check_like "watch: created" '^\{"result":\{"header":\{.*\},"created":true\}\}$' "$(sed -n 1p "$scratch/watch")"
    check_like "watch: history" "\"events\":\[\{\"kv\":\{\"key\":\"$key\".*\"value\":\"MQ==\"\}\}\]\}\}\$" \
        "$(sed -n 2p "$scratch/watch")"
    check_like "watch: a put" '"value":"Mg==".*"prev_kv":\{.*"value":"MQ=="' "$(sed -n 3p "$scratch/watch")"
    check_like "watch: a deletion" "\"events\":\[\{\"type\":\"DELETE\",\"kv\":\{\"key\":\"$key\",\"mod_revision\":\"[0-9]+\"\}" \
        "$(sed -n 4p "$scratch/watch")"
    check_like "watch of what was compacted" '"canceled":true,"compact_revision":"[0-9]+"' \
        "$(timeout 3 curl --silent --no-buffer "http://${endpoints[0]}/v3/watch" \
            --data "{\"create_request\":{\"key\":\"$key\",\"start_revision\":\"1\"}}" | sed -n 2p)"
}

locks() {
    local name first key
    name=$(b64 "$p/lock")
    first=$(ask 0 /v3/lock/lock "{\"name\":\"$name\"}")
    key=$(string key "$first")
    check_like "lock" "^$p/lock/[0-9a-f]+\$" "$(base64 -d <<<"$key")"
    follow $last /v3/lock/lock "{\"name\":\"$name\"}" >"$scratch/lock" &
    running[stream]=$!
    for _ in $(seq 100); do
        [ "$(headless 0 /v3/kv/range "{\"key\":\"$(b64 "$p/lock/")\",\"range_end\":\"$(b64 "$p/lock0")\",\"count_only\":true}")" \
            == '{"count":"2"}' ] && break
        sleep 0.1
    done
    check "lock: the second waits" "" "$(cat "$scratch/lock")"
    check "unlock" "{}" "$(headless 0 /v3/lock/unlock "{\"key\":\"$key\"}")"
    finish stream
    key=$(string key "$(cat "$scratch/lock")")
    check_like "lock: the second has it" "^$p/lock/[0-9a-f]+\$" "$(base64 -d <<<"$key")"
    ask 0 /v3/lock/unlock "{\"key\":\"$key\"}" >/dev/null
}

elections() {
    local name leader
    name=$(b64 "$p/election")
    check_like "leader of nobody" '"error":"election: no leader".*"code":2' \
        "$(ask 0 /v3/election/leader "{\"name\":\"$name\"}")"
    leader=$(ask 0 /v3/election/campaign "{\"name\":\"$name\",\"value\":\"MQ==\"}" | sed -E 's/.*("leader":\{[^}]*\}).*/\1/')
    check_like "campaign" "^\"leader\":\{\"name\":\"$name\",\"key\":\"[^\"]+\",\"rev\":\"[0-9]+\",\"lease\":\"[0-9]+\"\}\$" "$leader"
    follow $last /v3/election/observe "{\"name\":\"$name\"}" >"$scratch/observe" &
    running[stream]=$!
    await_lines "$scratch/observe" 1
    check "proclaim" "{}" "$(headless 0 /v3/election/proclaim "{$leader,\"value\":\"Mg==\"}")"
    await_lines "$scratch/observe" 2
    finish stream TERM
    check "observe" '"value":"MQ==" "value":"Mg=="' "$(grep -o '"value":"[^"]*"' "$scratch/observe" | xargs -d'\n')"
    check "leader" "Mg==" "$(string value "$(ask 0 /v3/election/leader "{\"name\":\"$name\"}")")"
    check "resign" "{}" "$(headless 0 /v3/election/resign "{$leader}")"
    check_like "proclaim of one who resigned" '"error":"election: not leader"' \
        "$(ask 0 /v3/election/proclaim "{$leader,\"value\":\"Mw==\"}")"
}

cluster() {
    local members
    members=$(ask 0 /v3/cluster/member/list '{}')
    check "member list" "${#endpoints[@]}" "$(grep -o '"peerURLs":\["http' <<<"$members" | wc -l)"
    check_like "status" '"version":"[0-9.]+","dbSize":"[0-9]+","leader":"[0-9]+","raftIndex":"[0-9]+","raftTerm":"[0-9]+"' \
        "$(ask 0 /v3/maintenance/status '{}')"
    check_like "hash" '"hash":[0-9]+' "$(ask 0 /v3/maintenance/hash '{}')"
    check "alarms" "{}" "$(headless 0 /v3/maintenance/alarm '{}')"
    check_like "authenticate" '"error":"etcdserver: authentication is not enabled".*"code":9' \
        "$(ask 0 /v3/auth/authenticate '{"name":"a","password":"b"}')"
}

bad_requests() {
    check "no JSON" 400 "$(status 0 /v3/kv/put '{')"
    check "no base64" 400 "$(status 0 /v3/kv/put '{"key":"?"}')"
    check "an empty body has no key" 400 "$(status 0 /v3/kv/put '')"
    check_like "what it says" '"error":"etcdserver: key is not provided".*"code":3' "$(cat "$scratch/body")"
    check "a field that nobody knows" 200 "$(status 0 /v3/kv/range '{"key":"YQ==","new":{"a":[1]}}')"
    check "a path that nobody knows" 404 "$(status 0 /v3/kv/nothing '{}')"
    check "an order that nobody knows" 400 "$(status 0 /v3/kv/range '{"key":"YQ==","sort_order":"DOWN"}')"
    check "GET" 405 "$(curl --silent --output "$scratch/body" --write-out '%{http_code}' "http://${endpoints[0]}/v3/kv/range")"
    check "the path of the beta" "{}" "$(headless 0 /v3beta/kv/range "{\"key\":\"$(b64 "$p/none")\"}")"
    head -c 3000000 /dev/zero | base64 -w0 | sed 's/.*/{"key":"YQ==","value":"&"}/' >"$scratch/large"
    check "a value that is too large" 400 "$(status 0 /v3/kv/put "@$scratch/large")"
    check_like "what it says" '"error":"etcdserver: request is too large".*"code":3' "$(cat "$scratch/body")"
    head -c 16000000 /dev/zero | base64 -w0 | sed 's/.*/{"key":"YQ==","value":"&"}/' >"$scratch/larger"
    check "a body that is too long" 413 "$(status 0 /v3/kv/put "@$scratch/larger")"
    check_like "what it says" '"code":8' "$(cat "$scratch/body")"
}

keys
transactions
leases
watches
locks
elections
cluster
bad_requests

summary
