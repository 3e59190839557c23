#!/usr/bin/env bash
# The Rust crate etcd-client on three nodes of Quorate, and on one with TLS: builds tests/clients/rust and runs it.
#
#   tests/e2e/rust_client.sh target/release/quorate
#
# Needs cargo, protoc (Debian's protobuf-compiler) and openssl. It builds below $CARGO_TARGET_DIR or target/, so that
# the next time is faster. Ends with the line "N passed, N failed"; the exit code is 0 if nothing failed.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 QUORATE" >&2; exit 2; }
quorate=$(realpath "$1")
target=${CARGO_TARGET_DIR:-$(realpath "$(dirname "$0")/../..")/target}/clients
cd "$(dirname "$0")"
scratch=$(mktemp -d)

cleanup() {
    ./cluster.sh stop "$scratch/quorate" || true
    ./cluster.sh stop "$scratch/tls" || true
    rm -rf "$scratch"
}
trap cleanup EXIT

# certificates: an authority, and a server's certificate by it.
certificates() {
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    openssl req -x509 "${key[@]}" -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem
    openssl req "${key[@]}" -subj /CN=server -keyout server-key.pem -out server.csr
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca-key.pem -days 2 -out server.pem \
        -extfile <(printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n')
}

cargo build --quiet --locked --manifest-path ../clients/rust/Cargo.toml --target-dir "$target"
(cd "$scratch" && certificates 2>openssl.log) || { cat "$scratch/openssl.log"; exit 1; }
endpoints=$(./cluster.sh start "$scratch/quorate" "$quorate")
tls_endpoints=$(./cluster.sh start-tls "$scratch/tls" "$quorate" --cert-file "$scratch/server.pem" --key-file "$scratch/server-key.pem")
"$target/debug/quorate-clients" "$endpoints" "$scratch/quorate" "$PWD/cluster.sh" "https://${tls_endpoints%%,*}" "$scratch/ca.pem"
./cluster.sh stop "$scratch/quorate"
./cluster.sh stop "$scratch/tls"
