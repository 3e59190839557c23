# For etcdctl.sh: --write-out json, fields, table and protobuf. Sourced, not run.

header='\{"cluster_id":[0-9]+,"member_id":[0-9]+(,"revision":[0-9]+)?,"raft_term":[0-9]+\}'

# json NAME PATTERN ARGUMENT...: the header is left out of the pattern.
json() {
    local name=$1 pattern=$2 said
    shift 2
    said=$(ctl "$@" -w json)
    check_like "$name -w json" "^\{\"header\":$header$pattern\}\$" "$said"
    echo "$said" >>said.json
}

# fields NAME PATTERN ARGUMENT...: the lines after those of the header, on one line.
fields() {
    local name=$1 pattern=$2
    shift 2
    check_like "$name -w fields" "^\"ClusterID\" : [0-9]+ \"MemberID\" : [0-9]+ \"Revision\" : [0-9]+ \"RaftTerm\" : [0-9]+$pattern\$" \
        "$(ctl "$@" -w fields | xargs -d '\n')"
}

# protobuf NAME TEXT ARGUMENT...: bytes, among them this text, with the lengths of a message's fields around it.
protobuf() {
    local name=$1 text=$2
    shift 2
    printf '%s\n' "$*" >>"$scratch/ran"
    check_like "$name -w protobuf" "^0a[0-9a-f]*($text)" \
        "$(timeout 60 "$etcdctl" --endpoints "$asked" "$@" -w protobuf 2>&1 | od -An -v -tx1 | tr -d ' \n')"
}

formats() {
    ctl put format old >out
    local kv='\{"key":"Zm9ybWF0","create_revision":[0-9]+,"mod_revision":[0-9]+,"version":[0-9]+,"value":"[a-zA-Z0-9=]+"\}'
    json "put" "" put format new
    json "put --prev-kv" ",\"prev_kv\":$kv" put --prev-kv format new
    fields "put" "" put format new
    # Field 2 is the key "format".
    protobuf "put --prev-kv" "120a06666f726d6174|0a06666f726d6174" put --prev-kv format new
    json "get" ",\"kvs\":\[$kv\],\"count\":1" get format
    json "get of none" "" get no-format
    fields "get" ' "Key" : "format" "CreateRevision" : [0-9]+ "ModRevision" : [0-9]+ "Version" : [0-9]+ "Value" : "new" "Lease" : 0 "More" : false "Count" : 1 ?' get format
    protobuf "get" "0a06666f726d6174.*2a036e6577" get format
    check_like "get -w table" "table is not supported|not supported" "$(ctl get format -w table)"
    fields "del --prev-kv" ' "Deleted" : 1 "PrevKey" .*|.*"Deleted" : 1.*' del --prev-kv format
    json "del" ',"deleted":1' del "$(ctl put format x >out; echo format)"
    protobuf "del" "" del format
    formats_of_sessions
    formats_of_the_cluster
    formats_of_auth
    check "all that was to be JSON is" "" "$(python3 -c 'import json; [json.loads(line) for line in open("said.json")]' 2>&1)"
    check_like "a format that there is not" "unsupported output format|Error" "$(ctl get format -w xml)"
    check_like "put -w json, from a variable" '^\{"header"' "$(ETCDCTL_WRITE_OUT=json ctl put format x)"
}

formats_of_sessions() {
    local lease
    check_like "txn -w json" "\"succeeded\":true,\"responses\":\[\{\"Response\":\{\"(ResponsePut|response_put)\":" \
        "$(printf '\nput format 1\n\n\n' | ctl txn -w json)"
    check_like "txn -w fields" '"Succeeded" : true.*"RaftTerm"' "$(printf '\nput format 1\n\n\n' | ctl txn -w fields | xargs -d '\n')"
    check_like "lease grant -w json" "^\{\"cluster_id\":|\"(ID|id)\":[0-9]+,\"(TTL|ttl)\":1" "$(ctl lease grant 1 -w json)"
    lease=$(ctl lease grant 100 | cut -d' ' -f2)
    check_like "lease timetolive -w json" '"id":[0-9]+,"ttl":[0-9]+,"granted-ttl":100,"keys":null' "$(ctl lease timetolive "$lease" -w json)"
    check_like "lease timetolive -w fields" '"TTL" : [0-9]+ "GrantedTTL" : 100' "$(ctl lease timetolive "$lease" -w fields | xargs -d '\n')"
    check_like "lease list -w json" "\"leases\":\[.*\{\"id\":[0-9]+\}" "$(ctl lease list -w json)"
    check_like "lease keep-alive -w json" '"TTL":100|"ttl":100' "$(ctl lease keep-alive --once "$lease" -w json)"
    json "lease revoke" "" lease revoke "$lease"
}

formats_of_the_cluster() {
    json "member list" ',"members":\[(,?\{"ID":[0-9]+,"name":"n[123]","peerURLs":\["http[^]]+"\],"clientURLs":\["http[^]]+"\]\}){3}\]' member list
    check_like "member list -w table" '\| +ID +\| STATUS +\| NAME +\| +PEER ADDRS +\| +CLIENT ADDRS +\| IS LEARNER \|' "$(ctl member list -w table)"
    check "member list -w fields" 3 "$(ctl member list -w fields | grep -c '"IsLearner" : false')"
    protobuf "member list" ".*6e31.*6e33|.*6e3[123]" member list
    check "member list --hex" 3 "$(ctl member list --hex -w json | grep -o '"ID":"\?[0-9a-f]*' | wc -l)"
    check_like "endpoint status -w json" "^\[\{\"Endpoint\":\"$host:12379\",\"Status\":\{\"header\":.*\"version\":\"[0-9.]+\",\"dbSize\":[0-9]+,\"leader\":[0-9]+,\"raftIndex\":[0-9]+,\"raftTerm\":[0-9]+,\"raftAppliedIndex\":[0-9]+,\"dbSizeInUse\":[0-9]+\}\}" \
        "$(ctl endpoint status -w json)"
    check "endpoint status -w fields" 3 "$(ctl endpoint status -w fields | grep -c '^"RaftIndex" :')"
    check_like "endpoint health -w json" "^\[(,?\{\"endpoint\":\"$host:[0-9]+\",\"health\":true,\"took\":\"[^\"]+\"\}){3}\]\$" "$(ctl endpoint health -w json)"
    check_like "endpoint health -w table" 'ENDPOINT +\| HEALTH +\| +TOOK +\| ERROR' "$(ctl endpoint health -w table)"
    check_like "endpoint hashkv -w json" "^\[\{\"Endpoint\":\"$host:12379\",\"HashKV\":\{\"header\":.*\"hash\":[0-9]+,\"compact_revision\":-?[0-9]+" "$(ctl endpoint hashkv -w json)"
    check_like "endpoint hashkv -w table" 'ENDPOINT +\| +HASH' "$(ctl endpoint hashkv -w table)"
    check "endpoint hashkv -w fields" 3 "$(ctl endpoint hashkv -w fields | grep -c '"Hash" :')"
    # etcd 3.4 gives no header here.
    check_like "alarm list -w json" "^(\{\}|\{\"header\":$header\})\$" "$(ctl alarm list -w json)"
}

formats_of_auth() {
    json "user add" "" user add format:x
    json "role add" "" role add format
    json "role grant-permission" "" role grant-permission format read a
    json "user grant-role" "" user grant-role format format
    json "user get" ',"roles":\["format"\]' user get format
    json "user list" ',"users":\["format"\]' user list
    json "role get" ',"perm":\[\{"key":"YQ=="\}\]' role get format
    json "role list" ',"roles":\["format"\]' role list
    protobuf "role get" "120161" role get format
    json "role revoke-permission" "" role revoke-permission format a
    json "user revoke-role" "" user revoke-role format format
    json "user delete" "" user delete format
    json "role delete" "" role delete format
}
