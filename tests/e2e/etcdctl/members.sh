# For etcdctl.sh: members that come, vote, move, and go. Sourced, not run.

# member_line ID: what the list says of a member.
member_line() { ctl member list | grep "^$1"; }

# until_like PATTERN COMMAND...: the first of its outputs that matches, or the last. etcd takes no change before its
# members have been connected for five seconds.
until_like() {
    local pattern=$1 said
    shift
    for _ in $(seq 100); do
        said=$("$@")
        [[ "$said" =~ $pattern ]] && break
        sleep 0.2
    done
    echo "$said"
}

members() {
    local added id other
    added=$(until_like added ctl member add n4 --learner --peer-urls="$(peer_url 4)")
    check_like "member add --learner" "^Member +[0-9a-f]+ added to cluster +[0-9a-f]+"$'\n\n'"ETCD_NAME=\"n4\""$'\n'"ETCD_INITIAL_CLUSTER=\"[^ ]*n4=$(peer_url 4)[^ ]*\""$'\n'"ETCD_INITIAL_ADVERTISE_PEER_URLS=\"$(peer_url 4)\""$'\n'"ETCD_INITIAL_CLUSTER_STATE=\"existing\"$" "$added"
    id=$(sed -nE 's/^Member +([0-9a-f]+) added.*/\1/p' <<<"$added")
    check "member list of one that was never there" "$id, unstarted, , $(peer_url 4), , true" "$(member_line "$id")"
    check_like "member promote of it" "in sync with leader" "$(ctl member promote "$id")"
    check_like "member add of the same" "Peer URLs already exists|member ID already exist" "$(ctl member add again --peer-urls="$(peer_url 4)")"
    other=http://localhost:52380
    start_node 4 "$(sed -n 's/^ETCD_INITIAL_CLUSTER="\(.*\)"$/\1/p' <<<"$added")" --initial-cluster-state existing
    await "$id, started, n4, $(peer_url 4), $(client_url 4), true" member_line "$id"
    check "member list of a learner" "$id, started, n4, $(peer_url 4), $(client_url 4), true" "$(member_line "$id")"
    check_like "endpoint status of a learner" ", false, true, " "$(until_like ', false, true, ' at 4 endpoint status)"
    check_like "get --consistency=s of a learner" $'^a\n1$|^$' "$(at 4 get a --consistency=s)"
    check_like "member promote" "^Member +$id promoted in cluster +[0-9a-f]+$" "$(until_like promoted ctl member promote "$id")"
    check "member list of one that votes" "$id, started, n4, $(peer_url 4), $(client_url 4), false" "$(member_line "$id")"
    check_like "member promote of one that votes" "can only promote a learner member" "$(ctl member promote "$id")"
    await_service "$(endpoint 4)"
    check "put by it" "OK" "$(at 4 put joined 1)"
    check "endpoint health --cluster of four" 4 "$(asked=$(endpoint 1) healthy --cluster)"
    check_like "member update" "^Member +$id updated in cluster +[0-9a-f]+$" \
        "$(ctl member update "$id" --peer-urls="$(peer_url 4),$other")"
    check_like "its URLs" "$(peer_url 4),$other|$other,$(peer_url 4)" "$(member_line "$id")"
    check_like "member update back" "updated" "$(ctl member update "$id" --peer-urls="$(peer_url 4)")"
    check_like "member update of nobody" "member not found" "$(ctl member update 1234 --peer-urls=http://127.0.0.1:1)"
    check_like "member remove of nobody" "member not found" "$(ctl member remove 1234)"
    check_like "member remove" "^Member +$id removed from cluster +[0-9a-f]+$" "$(until_like removed ctl member remove "$id")"
    check "it is gone" "" "$(member_line "$id")"
    check_like "member remove, again" "member not found|Member +$id removed" "$(ctl member remove "$id")"
    finish n4
    check "it has ended by itself" 3 "$(ctl member list | grep -c started)"
    rm -rf "$scratch/n4.data"
    adding_a_voter
}

# A member that votes from the start, and is taken back before it was ever there.
adding_a_voter() {
    local added id
    added=$(until_like added ctl member add n5 --peer-urls=http://127.0.0.1:1)
    check_like "member add" "^Member +[0-9a-f]+ added to cluster" "$added"
    id=$(sed -nE 's/^Member +([0-9a-f]+) added.*/\1/p' <<<"$added")
    check_like "member list of it" "^$id, unstarted, , http://127.0.0.1:1, , (true|false)$" "$(member_line "$id")"
    check_like "member remove of it" "^Member +$id removed" "$(until_like removed ctl member remove "$id")"
    check_like "member add without a URL" "member peer urls not provided" "$(ctl member add n5)"
    check_like "member add of a URL that is none" "URL|url" "$(ctl member add n5 --peer-urls=nonsense)"
    check "three are left" 3 "$(healthy)"
}
