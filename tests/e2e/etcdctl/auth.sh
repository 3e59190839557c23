# For etcdctl.sh: users, roles, and authentication, which is on for the time of this section only. Sourced, not run.

as_root() { ctl "$@" --user=root:root-pw; }

as_reader() { ctl "$@" --user=reader:reader-pw; }

authentication() {
    ctl put auth/a 0 >out
    users_and_roles
    is_34 || check_like "auth status" $'^Authentication Status: false\nAuthRevision: [0-9]+$' "$(ctl auth status)"
    check_like "auth enable gives root its role" "Authentication Enabled" "$(ctl auth enable)"
    is_34 || check_like "auth status of root" $'^Authentication Status: true\nAuthRevision: [0-9]+$' "$(as_root auth status)"
    refusals
    rights_that_change
    check "endpoint health of root" 3 "$(healthy --user=root:root-pw)"
    check "lock of root" "held" "$(ctl lock auth-lock --user=root:root-pw echo held)"
    check_like "auth disable" "Authentication Disabled" "$(as_root auth disable)"
    check "get of nobody again" $'auth/a\n1' "$(ctl get auth/a)"
    check "role delete" "Role reading deleted" "$(ctl role delete reading)"
    check "role delete of another" "Role ranges deleted" "$(ctl role delete ranges)"
    check "user delete of root" "User root deleted" "$(ctl user delete root)"
    check "role delete of root" "Role root deleted" "$(ctl role delete root)"
    check_like "role get of none" "role name not found" "$(ctl role get reading)"
    check_like "user get of none" "user name not found" "$(ctl user get root)"
}

users_and_roles() {
    check "user add" "User root created" "$(ctl user add root:root-pw)"
    check "user add, password from standard input" "User reader created" \
        "$(printf 'reader-pw\n' | ctl user add reader --interactive=false)"
    check "user add --new-user-password" "User other created" "$(ctl user add other --new-user-password=x)"
    check "user add --no-password" "User bare created" "$(ctl user add bare --no-password)"
    check_like "user add twice" "user name already exists" "$(ctl user add reader:other)"
    check "role add" "Role reading created" "$(ctl role add reading)"
    check_like "role add twice" "role name already exists" "$(ctl role add reading)"
    check "role grant-permission of a prefix" "Role reading updated" \
        "$(ctl role grant-permission reading read --prefix auth/)"
    check "role add, another" "Role ranges created" "$(ctl role add ranges)"
    check "role grant-permission of a range" "Role ranges updated" "$(ctl role grant-permission ranges write r s)"
    check "role grant-permission of a key" "Role ranges updated" "$(ctl role grant-permission ranges readwrite k)"
    check "role grant-permission --from-key" "Role ranges updated" \
        "$(ctl role grant-permission ranges readwrite --from-key z)"
    check_like "role get" 'Role ranges KV Read: k \[z, <open ended> KV Write: k \[r, s\) (\(prefix r\) )?\[z, <open ended>' \
        "$(ctl role get ranges | xargs -d '\n' | tr -s '\t ' ' ')"
    check "role list" "ranges reading" "$(ctl role list | xargs)"
    check "role revoke-permission of a key" "Permission of key k is revoked from role ranges" \
        "$(ctl role revoke-permission ranges k)"
    check "role revoke-permission --from-key" "Permission of range [z, <open ended> is revoked from role ranges" \
        "$(ctl role revoke-permission ranges --from-key z)"
    check "user grant-role" "Role reading is granted to user reader" "$(ctl user grant-role reader reading)"
    check_like "user grant-role of none" "role name not found" "$(ctl user grant-role reader nothing)"
    check_like "user get --detail" "User: reader.*Role reading.*KV Read:.*auth/" "$(ctl user get reader --detail | xargs -d '\n')"
    check "user delete of one without a password" "User bare deleted" "$(ctl user delete bare)"
    check "user delete of another" "User other deleted" "$(ctl user delete other)"
}

refusals() {
    check_like "get of nobody" "user name is empty" "$(ctl get auth/a)"
    check_like "a wrong password" "authentication failed, invalid user ID or password" "$(ctl --user=root:wrong get auth/a)"
    check "put of root" "OK" "$(as_root put auth/a 1)"
    check "get of a reader" $'auth/a\n1' "$(as_reader get auth/a)"
    check "get of a reader by --password" $'auth/a\n1' "$(ctl get auth/a --user reader --password reader-pw)"
    check_like "put of a reader" "permission denied" "$(as_reader put auth/a 2)"
    check_like "del of a reader" "permission denied" "$(as_reader del auth/a)"
    check_like "get of a reader beyond its keys" "permission denied" "$(as_reader get other)"
    check_like "get of a reader of more than its keys" "permission denied" "$(as_reader get --from-key auth/)"
    check_like "txn of a reader" "permission denied" "$(printf '\nput auth/a 2\n\n\n' | as_reader txn)"
    check_like "watch of a reader beyond its keys" "permission denied" "$(as_reader watch --prefix a)"
    check_like "user list of a reader" "permission denied" "$(as_reader user list)"
    check_like "user get of oneself" "Roles: reading" "$(as_reader user get reader)"
    check_like "defrag of a reader" "permission denied" "$(as_reader defrag)"
    check_like "root is not deleted" "invalid auth management" "$(as_root user delete root)"
}

rights_that_change() {
    check "user list" "reader root" "$(as_root user list | xargs)"
    check_like "role get of a prefix" 'KV Read:.*\[auth/, auth0\)' "$(as_root role get reading | tr '\n' ' ')"
    check "role revoke-permission of a prefix" "Permission of range [auth/, auth0) is revoked from role reading" \
        "$(as_root role revoke-permission reading --prefix auth/)"
    check_like "get without the permission" "permission denied" "$(as_reader get auth/a)"
    check "user passwd" "Password updated" "$(printf 'new-pw\n' | as_root user passwd reader --interactive=false)"
    check_like "the old password" "authentication failed" "$(as_reader get auth/a)"
    check "user revoke-role" "Role reading is revoked from user reader" "$(as_root user revoke-role reader reading)"
    check "user delete" "User reader deleted" "$(as_root user delete reader)"
}
