# For the scripts beside it: counts checks, and says what went wrong. Sourced, not run.

scratch=$(mktemp -d)
passed=0
failed=0
declare -A running

cleanup() {
    local process
    for process in "${running[@]}"; do kill -9 "$process" && wait "$process"; done 2>/dev/null
    rm -rf "$scratch"
}
trap cleanup EXIT

# check NAME EXPECTED ACTUAL: the whole text must be equal.
check() {
    if [ "$2" == "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s\n--- expected\n%s\n--- found\n%s\n' "$1" "$2" "$3" >&2
    fi
}

# check_like NAME PATTERN ACTUAL: the text must match the extended regular expression.
check_like() {
    if [[ "$3" =~ $2 ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s\n--- expected to match\n%s\n--- found\n%s\n' "$1" "$2" "$3" >&2
    fi
}

# await EXPECTED COMMAND...: waits until the command prints it.
await() {
    local expected=$1
    shift
    for _ in $(seq 300); do
        [ "$("$@")" == "$expected" ] && return
        sleep 0.1
    done
}

# launch NAME COMMAND...: runs it in the background; its output is in the files NAME and NAME.err.
launch() {
    local name=$1
    shift
    # Without a word about its input the shell would give it none.
    "$@" <&0 >"$scratch/$name" 2>"$scratch/$name.err" &
    running[$name]=$!
}

# finish NAME [SIGNAL]: sends a signal to what was launched, if one is given; its exit code once it has ended.
finish() {
    local process=${running[$1]} code=0
    [ $# -eq 1 ] || kill "-$2" "$process" 2>/dev/null
    wait "$process" 2>/dev/null || code=$?
    unset "running[$1]"
    return "$code"
}

# The last line, and the exit code of the script.
summary() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
