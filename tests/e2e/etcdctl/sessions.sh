# For etcdctl.sh: leases, locks, elections. Sourced, not run.

leases() {
    local granted lease short
    granted=$(ctl lease grant 600)
    check_like "lease grant" "^lease [0-9a-f]{16} granted with TTL\(600s\)$" "$granted"
    lease=$(cut -d' ' -f2 <<<"$granted")
    check "put --lease" "OK" "$(ctl put --lease="$lease" leased x)"
    check "lease keep-alive --once" "lease $lease keepalived with TTL(600)" "$(ctl lease keep-alive --once "$lease")"
    check_like "lease timetolive" "^lease $lease granted with TTL\(600s\), remaining\((600|5[0-9][0-9])s\)$" \
        "$(ctl lease timetolive "$lease")"
    check_like "lease timetolive --keys" \
        "^lease $lease granted with TTL\(600s\), remaining\((600|5[0-9][0-9])s\), attached keys\(\[leased\]\)$" \
        "$(ctl lease timetolive --keys "$lease")"
    check_like "lease list" "$lease" "$(ctl lease list)"
    launch_ctl keeper lease keep-alive "$lease"
    await "lease $lease keepalived with TTL(600)" head -1 "$scratch/keeper"
    check "lease keep-alive" "lease $lease keepalived with TTL(600)" "$(head -1 "$scratch/keeper")"
    check "lease revoke" "lease $lease revoked" "$(ctl lease revoke "$lease")"
    finish keeper TERM
    check "its key is gone" "" "$(ctl get leased)"
    check "lease timetolive of none" "lease $lease already expired" "$(ctl lease timetolive "$lease")"
    check_like "lease keep-alive of none" "$lease expired or revoked" "$(ctl lease keep-alive "$lease")"
    check_like "lease revoke of none" "requested lease not found" "$(ctl lease revoke "$lease")"
    check_like "put with no such lease" "requested lease not found" "$(ctl put --lease="$lease" leased x)"
    short=$(ctl lease grant 1 | cut -d' ' -f2)
    ctl put --lease="$short" expires x >out
    await "" ctl get expires
    check "a lease expires by itself" "" "$(ctl get expires)"
}

locks() {
    check "lock that runs a command" "held" "$(ctl lock lock echo held)"
    # 3.4 turns it into 1.
    check_like "its exit code" "exit [13]$" "$(ctl lock lock -- sh -c 'exit 3')"
    launch_ctl first lock lock
    await yes eval "grep -q '^lock/' first && echo yes"
    check_like "lock" '^lock/[0-9a-f]+$' "$(cat first)"
    launch_ctl second lock lock --ttl 20
    await 2 eval "ctl get --prefix --keys-only lock/ | grep -c lock/"
    check "lock: the second waits" "" "$(cat second)"
    finish first TERM
    await yes eval "grep -q '^lock/' second && echo yes"
    check_like "lock: the second has it" '^lock/[0-9a-f]+$' "$(cat second)"
    finish second TERM
    await "" ctl get --prefix lock/
    check "nothing is left of it" "" "$(ctl get --prefix lock/)"
}

elections() {
    launch_ctl first elect office one
    await 2 eval "grep -c . first"
    check_like "elect" $'^office/[0-9a-f]+\none$' "$(cat first)"
    launch_ctl observer elect -l office
    await 2 eval "grep -c . observer"
    check "elect -l" "$(cat first)" "$(cat observer)"
    launch_ctl second elect office two
    await 2 eval "ctl get --prefix --keys-only office/ | grep -c office/"
    check "elect: the second waits" "" "$(cat second)"
    finish first TERM
    await 2 eval "grep -c . second"
    check_like "elect: the second leads" $'^office/[0-9a-f]+\ntwo$' "$(cat second)"
    await "$(cat second)" tail -2 observer
    check "elect -l: the second" "$(cat second)" "$(tail -2 observer)"
    finish second TERM
    finish observer TERM
}
