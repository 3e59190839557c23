#!/usr/bin/env bash
# Three nodes whose clients and peers speak TLS, driven by Debian's etcdctl (package etcd-client), with
# certificates by openssl.
#
#   tests/e2e/tls.sh target/release/quorate
#
# Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
set -uo pipefail

[ $# -eq 1 ] || { echo "usage: $0 QUORATE" >&2; exit 2; }
quorate=$(realpath "$1")
export ETCDCTL_API=3
unset ETCDCTL_ENDPOINTS ETCDCTL_WRITE_OUT ETCDCTL_USER ETCDCTL_PASSWORD
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Loopback addresses of its own, one for each node, so that a peer's certificate is for one node only.
net=127.0.78
cd "$scratch" || exit 2

# authority NAME: NAME.pem and NAME-key.pem.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" \
        -keyout "$1-key.pem" -out "$1.pem" 2>>openssl.log
}

# issue AUTHORITY NAME COMMON-NAME SAN [DAYS]: NAME.pem and NAME-key.pem.
issue() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" \
        -keyout "$2-key.new" -out "$2.csr" 2>>openssl.log
    openssl x509 -req -in "$2.csr" -CA "$1.pem" -CAkey "$1-key.pem" -days "${5:-30}" -out "$2.new" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$4") 2>>openssl.log
    mv "$2-key.new" "$2-key.pem"
    mv "$2.new" "$2.pem"
}

# revoke [NAME...]: makes revoked.pem, the list of these certificates of clients.
revoke() {
    local name options=(-config revoked.conf -cert clients.pem -keyfile clients-key.pem)
    printf '[ca]\ndefault_ca=it\n[it]\ndatabase=revoked.index\ndefault_md=sha256\ndefault_crl_days=30\ncrlnumber=revoked.number\n' >revoked.conf
    for name in "$@"; do openssl ca "${options[@]}" -revoke "$name.pem" 2>>openssl.log; done
    openssl ca "${options[@]}" -gencrl -out revoked.new 2>>openssl.log
    mv revoked.new revoked.pem
}

members="n1=https://$net.1:2380,n2=https://$net.2:2380,n3=https://$net.3:2380"

# start N [FLAG...]: node N, with its certificates.
start() {
    local n=$1
    shift
    "$quorate" start --name "n$n" --data-dir "n$n.data" --initial-cluster "$members" \
        --listen-client-urls "https://$net.$n:2379" --cert-file "server$n.pem" --key-file "server$n-key.pem" \
        --trusted-ca-file clients.pem --client-cert-auth --client-crl-file revoked.pem --bcrypt-cost 4 \
        --listen-peer-urls "https://$net.$n:2380" --peer-cert-file "peer$n.pem" --peer-key-file "peer$n-key.pem" \
        --peer-trusted-ca-file peers.pem --peer-client-cert-auth "$@" >>"n$n.log" 2>&1 &
    running[$n]=$!
}

stop() {
    kill "-$2" "${running[$1]}"
    wait "${running[$1]}" 2>/dev/null
    unset "running[$1]"
}

# ctl CERTIFICATE ARGUMENT...: etcdctl as the holder of that certificate, with its errors in the text.
ctl() {
    local as=$1
    shift
    timeout 20 etcdctl --endpoints "https://$net.1:2379,https://$net.2:2379,https://$net.3:2379" \
        --cacert servers.pem --cert "$as.pem" --key "$as-key.pem" --command-timeout 5s "$@" 2>&1
}

# How many nodes can write.
healthy() {
    ctl alice endpoint health | grep -c 'is healthy'
}

# at N FLAG... -- ARGUMENT...: etcdctl at one node.
at() {
    local n=$1
    shift
    timeout 20 etcdctl --endpoints "$net.$n:2379" --command-timeout 2s --dial-timeout 2s "$@" 2>&1
}

# logged N PATTERN: whether node N's log has a line like it.
logged() {
    grep -qE "$2" "n$1.log" && echo yes
}

certificates() {
    local n
    for n in servers clients peers strangers; do authority "$n"; done
    for n in 1 2 3; do
        issue servers "server$n" "server$n" "IP:$net.$n"
        issue peers "peer$n" "peer$n" "IP:$net.$n"
    done
    issue clients alice alice "DNS:alice"
    issue clients root root "DNS:root"
    issue clients mallory mallory "DNS:mallory"
    issue clients thief alice "DNS:thief"
    # Nobody is revoked yet.
    touch revoked.index
    echo 01 >revoked.number
    revoke
    issue clients late late "DNS:late" 0
    issue strangers stranger alice "DNS:alice"
    issue peers peer-as-client alice "DNS:alice"
}

basics() {
    check "put" "OK" "$(ctl alice put a 1)"
    check "get" $'a\n1' "$(ctl alice get a)"
    check "endpoint health" "3" "$(healthy)"
    check "member list has https only" "3" \
        "$(ctl alice member list | grep -cE "^[0-9a-f]+, started, n[123], https://$net.[123]:2380, https://$net.[123]:2379, false$")"
    check "lock" "held" "$(ctl alice lock a-lock echo held)"
    check_like "lease" "granted with TTL\(60s\)" "$(ctl alice lease grant 60)"
    etcdctl --endpoints "$net.1:2379" --cacert servers.pem --cert alice.pem --key alice-key.pem watch w >watch.out 2>&1 &
    local watcher=$!
    for _ in $(seq 100); do
        ctl alice put w 1 >/dev/null
        [ -s watch.out ] && break
        sleep 0.1
    done
    kill "$watcher"
    wait "$watcher" 2>/dev/null
    check_like "watch" $'^PUT\nw\n1' "$(cat watch.out)"
    check "HTTP/1.1 by TLS" '{"health":"true","reason":""}' \
        "$(openssl s_client -quiet -connect "$net.1:2379" -CAfile servers.pem -cert alice.pem -key alice-key.pem \
            < <(printf 'GET /health HTTP/1.0\r\n\r\n'; sleep 2) 2>/dev/null | tail -1 | tr -d '\r')"
}

own_tools() {
    local tls=(--endpoints "$net.1:2379,$net.2:2379" --cacert servers.pem --cert alice.pem --key alice-key.pem)
    check_like "quorate member list" "https://$net.3:2380" "$("$quorate" member list "${tls[@]}" 2>&1)"
    check_like "quorate bench" '"failed":0' "$("$quorate" bench put --total 500 --clients 10 --output json "${tls[@]}" 2>&1 | tr -d ' ')"
    check_like "any server is believed if told so" "https://$net.3:2380" \
        "$("$quorate" member list --endpoints "$net.1:2379" --insecure-skip-tls-verify --cert alice.pem --key alice-key.pem 2>&1)"
    check_like "quorate member list by another authority" "not by an authority" \
        "$("$quorate" member list --endpoints "$net.1:2379" --cacert peers.pem 2>&1)"
}

strangers() {
    local good=(--cacert servers.pem)
    check_like "no certificate" "Error|context deadline" "$(at 1 "${good[@]}" get a)"
    check_like "another authority's" "Error|context deadline" "$(at 1 "${good[@]}" --cert stranger.pem --key stranger-key.pem get a)"
    check_like "a peer's" "Error|context deadline" "$(at 1 "${good[@]}" --cert peer-as-client.pem --key peer-as-client-key.pem get a)"
    check_like "an expired one" "Error|context deadline" "$(at 2 "${good[@]}" --cert late.pem --key late-key.pem get a)"
    check_like "plain text" "Error|context deadline" "$(at 3 --insecure-transport get a)"
    check_like "a server that is not believed" "Error|context deadline" \
        "$(at 1 --cacert peers.pem --cert alice.pem --key alice-key.pem get a)"
    check "it is said: no certificate" yes "$(logged 1 'a client was refused.*(no certificate|not by an authority)')"
    check "it is said: expired" yes "$(logged 2 'a client was refused.*it has expired')"
    check "it is said: plain text" yes "$(logged 3 'a client was refused.*does not speak TLS')"
}

stalled() {
    local n fds=()
    for n in $(seq 100); do
        exec {fd}<>"/dev/tcp/$net.1/2379"
        fds+=("$fd")
    done
    check "clients come in beside handshakes that stall" "OK" \
        "$(timeout 20 etcdctl --endpoints "$net.1:2379" --cacert servers.pem --cert alice.pem --key alice-key.pem put a 2 2>&1)"
    await yes logged 1 'a client was refused.*not finished in time'
    check "a handshake that stalls is cut" yes "$(logged 1 'a client was refused.*not finished in time')"
    for fd in "${fds[@]}"; do exec {fd}>&-; done
}

peers() {
    # A peer whose certificate is another's: it is by the right authority, for another host.
    stop 3 TERM
    cp peer3.pem peer3.good && cp peer3-key.pem peer3-key.good
    cp peer2.pem peer3.pem && cp peer2-key.pem peer3-key.pem
    start 3
    await yes logged 1 "n3 .*not valid for name|n3 .*certificate is not accepted"
    check "who is dialed must be who was meant" yes "$(logged 1 'not connected.*n3 .*certificate is not accepted')"
    await yes logged 1 "was shown is not for $net.3"
    check "who dials must be who it says" yes "$(logged 1 "closed.*was shown is not for $net.3")"
    check "and is told" yes "$(logged 3 "refused: the certificate that was shown is not for $net.3")"
    mv peer3.good peer3.pem && mv peer3-key.good peer3-key.pem
    await 3 healthy
    check "with its own, it is let in without a restart" 3 "$(healthy)"
    # Plain text on a port for peers.
    exec {fd}<>"/dev/tcp/$net.1/2380"
    printf 'what is this, please?' >&"$fd"
    await yes logged 1 "closed.*does not speak TLS"
    check "plain text between peers is refused" yes "$(logged 1 'closed.*does not speak TLS')"
    exec {fd}>&-
}

reload() {
    authority next
    issue next bob bob "DNS:bob"
    check_like "not yet trusted" "Error|context deadline" "$(at 1 --cacert servers.pem --cert bob.pem --key bob-key.pem get a)"
    cp clients.pem clients.old
    echo broken >clients.pem
    await yes logged 1 "stay in use"
    check "a broken file is told of" yes "$(logged 1 'clients.pem: there is no certificate.*|stay in use.*clients.pem')"
    check "and changes nothing" $'a\n2' "$(at 1 --cacert servers.pem --cert alice.pem --key alice-key.pem get a)"
    cp next.pem clients.pem
    await yes logged 1 "certificates were read again.*clients.pem"
    await $'a\n2' at 1 --cacert servers.pem --cert bob.pem --key bob-key.pem get a
    check "another authority is trusted" $'a\n2' "$(at 1 --cacert servers.pem --cert bob.pem --key bob-key.pem get a)"
    check_like "and the old one is not" "Error|context deadline" \
        "$(at 1 --cacert servers.pem --cert alice.pem --key alice-key.pem get a)"
    cp clients.old clients.pem
    # The server's own certificate: from another authority.
    issue next server1 server1 "IP:$net.1"
    await $'a\n2' at 1 --cacert next.pem --cert alice.pem --key alice-key.pem get a
    check "a server shows its new certificate" $'a\n2' "$(at 1 --cacert next.pem --cert alice.pem --key alice-key.pem get a)"
    issue servers server1 server1 "IP:$net.1"
}

# A certificate that is revoked while all run.
revoked() {
    check "not yet revoked" $'a\n2' "$(at 1 --cacert servers.pem --cert thief.pem --key thief-key.pem get a)"
    revoke thief
    await yes logged 1 'a client was refused.*it was revoked' &
    local waiting=$!
    while kill -0 "$waiting" 2>/dev/null; do
        at 1 --cacert servers.pem --cert thief.pem --key thief-key.pem get a >thief.out
    done
    wait "$waiting"
    check_like "revoked" "Error|context deadline" "$(at 1 --cacert servers.pem --cert thief.pem --key thief-key.pem get a)"
    check "it is said: revoked" yes "$(logged 1 'a client was refused.*it was revoked')"
    check "the others are not" $'a\n2' "$(at 1 --cacert servers.pem --cert alice.pem --key alice-key.pem get a)"
}

# Who shows no token is who its certificate says.
users() {
    ctl root user add root --no-password >/dev/null
    ctl root user grant-role root root >/dev/null
    ctl root user add alice:secret >/dev/null
    ctl root role add writer >/dev/null
    ctl root role grant-permission writer readwrite --prefix=true of/alice/ >/dev/null
    ctl root user grant-role alice writer >/dev/null
    check "auth enable" "Authentication Enabled" "$(ctl root auth enable)"
    check "alice may" OK "$(ctl alice put of/alice/1 x)"
    check_like "alice may no more" "permission denied" "$(ctl alice put a x)"
    check_like "mallory is nobody that is known" "permission denied" "$(ctl mallory put of/alice/1 x)"
    check "root may" OK "$(ctl root put a x)"
    check_like "a login goes first" "permission denied" "$(ctl root --user alice:secret put a x)"
    check_like "the gateway makes nobody alice" "user name is empty" \
        "$(openssl s_client -quiet -connect "$net.1:2379" -CAfile servers.pem -cert alice.pem -key alice-key.pem \
            < <(printf 'POST /v3/kv/range HTTP/1.0\r\nContent-Length: 18\r\n\r\n{"key":"b2YvYQ=="}'; sleep 2) 2>/dev/null | tail -1)"
    check_like "auth disable" "Authentication Disabled" "$(ctl root auth disable)"
    ctl root put a 2 >/dev/null
}

crash() {
    stop 1 KILL
    check "two of three go on" "OK" "$(await OK ctl alice put a 3; ctl alice put a 3)"
    start 1
    await 3 healthy
    check "and the third comes back" 3 "$(healthy)"
}

misused() {
    check_like "files for nothing" "would not be secured" \
        "$("$quorate" start --name x --data-dir x.data --cert-file server1.pem --key-file server1-key.pem 2>&1)"
    check_like "nothing for https" "needs a certificate" \
        "$("$quorate" start --name x --data-dir x.data --listen-client-urls "https://$net.9:2379" 2>&1)"
    check_like "a missing file" "no-such.pem: No such file" \
        "$("$quorate" start --name x --data-dir x.data --listen-client-urls "https://$net.9:2379" \
            --cert-file no-such.pem --key-file server1-key.pem 2>&1)"
    check_like "another's key" "does not belong to the certificate in server1.pem" \
        "$("$quorate" start --name x --data-dir x.data --listen-client-urls "https://$net.9:2379" \
            --cert-file server1.pem --key-file server2-key.pem 2>&1)"
    check "none of them has made a directory" "" "$(ls -d x.data 2>/dev/null)"
}

# A cluster of one that began in plain text goes on with self-signed certificates.
automatic() {
    local flags=(--name auto --data-dir auto.data --initial-cluster-token t)
    "$quorate" start "${flags[@]}" \
        --listen-client-urls "http://$net.5:2379" --listen-peer-urls "http://$net.5:2380" >auto.log 2>&1 &
    running[auto]=$!
    await OK at 5 --insecure-transport put before 1
    stop auto TERM
    "$quorate" start "${flags[@]}" --initial-cluster-state existing --auto-tls --peer-auto-tls \
        --listen-client-urls "https://$net.5:2379" --listen-peer-urls "https://$net.5:2380" >>auto.log 2>&1 &
    running[auto]=$!
    await OK at 5 --insecure-skip-tls-verify --insecure-transport=false put a 1
    check "--auto-tls" $'a\n1' "$(at 5 --cacert auto.data/tls/client-cert.pem get a)"
    check "what was written in plain text is there" $'before\n1' \
        "$(at 5 --cacert auto.data/tls/client-cert.pem get before)"
    check "its key is secret" "600" "$(stat -c %a auto.data/tls/client-key.pem)"
    stop auto TERM
}

certificates
for n in 1 2 3; do start "$n"; done
await OK ctl alice put a 0
basics
own_tools
strangers
stalled
peers
reload
revoked
users
crash
misused
automatic
for n in 1 2 3; do
    check "node $n has not panicked" "" "$(grep -i panic "n$n.log")"
done
[ "$failed" -eq 0 ] || tail -n 20 n?.log openssl.log
summary
