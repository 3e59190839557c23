//! The methods that are asked by the gateway, and what their fields hold. What would end a server, or leave it
//! without a quorum, is not among it.

/// What a field holds; the values are JSON.
pub(super) enum Kind {
    Bytes(&'static [&'static str]),
    /// A number of 64 bits, which may be a text as well.
    Number(&'static [&'static str]),
    /// A number which is such that nothing ends while the servers are compared.
    Seconds(&'static [&'static str]),
    Truth(&'static [&'static str]),
    /// A message, as it is.
    Message(&'static [&'static str]),
    /// Names of an enumeration, without their quotes.
    Name(&'static [&'static str]),
    /// Texts, without their quotes.
    Text(&'static [&'static str]),
    Object(&'static [Field]),
    List(&'static Kind),
}

/// A field by its name in the protocol's files.
pub(super) type Field = (&'static str, Kind);

/// How many of the methods, from the first, are asked more than the others.
pub(super) const OFTEN: usize = 8;

/// The methods and their fields.
pub(super) const METHODS: &[(&str, &[Field])] = &[
    ("/v3/kv/range", RANGE),
    ("/v3/kv/put", PUT),
    ("/v3/kv/deleterange", DELETE),
    ("/v3/kv/txn", TXN),
    ("/v3/kv/txn", TXN_BY_VALUE),
    (
        "/v3/lease/grant",
        &[
            ("TTL", Kind::Seconds(&["600", "\"900\""])),
            ("ID", Kind::Number(&["0", "1", "\"2\"", "\"3\"", "5", "\"-1\""])),
        ],
    ),
    ("/v3/lease/timetolive", TIME_TO_LIVE),
    (
        "/v3/kv/compaction",
        &[("revision", REVISION), ("physical", TRUTH)],
    ),
    ("/v3/lease/revoke", OF_LEASE),
    ("/v3/lease/keepalive", OF_LEASE),
    ("/v3/lease/leases", &[]),
    ("/v3/kv/lease/revoke", OF_LEASE),
    ("/v3/kv/lease/timetolive", TIME_TO_LIVE),
    ("/v3/kv/lease/leases", &[]),
    ("/v3/cluster/member/list", &[]),
    ("/v3/cluster/member/add", &[("peerURLs", NO_URLS)]),
    ("/v3/cluster/member/remove", &[("ID", NOBODY)]),
    (
        "/v3/cluster/member/update",
        &[("ID", NOBODY), ("peerURLs", NO_URLS)],
    ),
    ("/v3/cluster/member/promote", &[("ID", NOBODY)]),
    ("/v3/maintenance/status", &[]),
    ("/v3/maintenance/defragment", &[]),
    ("/v3/maintenance/hash", &[]),
    ("/v3/maintenance/hashkv", &[("revision", REVISION)]),
    (
        "/v3/maintenance/downgrade",
        &[
            ("action", Kind::Name(&["ENABLE", "CANCEL"])),
            ("version", Kind::Text(&["", "x", "1.0"])),
        ],
    ),
    (
        "/v3/maintenance/alarm",
        &[
            (
                "action",
                Kind::Name(&["GET", "GET", "DEACTIVATE", "DEACTIVATE", "ACTIVATE"]),
            ),
            ("memberID", Kind::Number(&["\"$member\"", "0", "\"7\""])),
            ("alarm", Kind::Name(&["NONE", "NOSPACE"])),
        ],
    ),
    (
        "/v3/maintenance/transfer-leadership",
        &[("targetID", Kind::Number(&["\"$member\"", "\"2989\""]))],
    ),
    ("/v3/auth/status", &[]),
    ("/v3/auth/enable", &[]),
    ("/v3/auth/disable", &[]),
    ("/v3/auth/authenticate", NAME_AND_PASSWORD),
    ("/v3/auth/user/add", NAME_AND_PASSWORD),
    ("/v3/auth/user/get", &[("name", USER)]),
    ("/v3/auth/user/list", &[]),
    ("/v3/auth/user/delete", &[("name", USER)]),
    ("/v3/auth/user/changepw", NAME_AND_PASSWORD),
    ("/v3/auth/user/grant", &[("user", USER), ("role", ROLE)]),
    ("/v3/auth/user/revoke", &[("name", USER), ("role", ROLE)]),
    ("/v3/auth/role/add", &[("name", ROLE)]),
    ("/v3/auth/role/get", &[("role", ROLE)]),
    ("/v3/auth/role/list", &[]),
    ("/v3/auth/role/delete", &[("role", ROLE)]),
    (
        "/v3/auth/role/grant",
        &[
            ("name", ROLE),
            (
                "perm",
                Kind::Message(&[
                    "{\"key\":\"YQ==\"}",
                    "{\"permType\":\"READWRITE\",\"key\":\"Yg==\",\"range_end\":\"Yw==\"}",
                    "{\"permType\":1,\"key\":\"YQ==\"}",
                ]),
            ),
        ],
    ),
    (
        "/v3/auth/role/revoke",
        &[("role", ROLE), ("key", Kind::Bytes(&["\"YQ==\"", "\"Yg==\""]))],
    ),
];

/// The paths of the methods.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(path, _)| *path)
}

const RANGE: &[Field] = &[
    ("key", KEY),
    ("range_end", RANGE_END),
    ("limit", Kind::Number(&["0", "1", "\"2\"", "\"-1\""])),
    (
        "revision",
        Kind::Number(&["0", "0", "\"0\"", "\"$now\"", "\"$old\"", "\"$next\"", "\"-1\""]),
    ),
    ("sort_order", Kind::Name(&["NONE", "ASCEND", "DESCEND"])),
    (
        "sort_target",
        Kind::Name(&["KEY", "KEY", "VERSION", "CREATE", "MOD", "VALUE"]),
    ),
    ("serializable", TRUTH),
    ("keys_only", TRUTH),
    ("count_only", RARELY),
    ("min_mod_revision", NO_BOUND),
    ("max_create_revision", NO_BOUND),
];

const PUT: &[Field] = &[
    ("key", KEY),
    ("value", KEY),
    (
        "lease",
        Kind::Number(&["0", "0", "\"0\"", "\"$picked\"", "\"4343\""]),
    ),
    ("prev_kv", TRUTH),
    ("ignore_value", RARELY),
    ("ignore_lease", RARELY),
];

const DELETE: &[Field] = &[("key", KEY), ("range_end", RANGE_END), ("prev_kv", TRUTH)];

const TXN: &[Field] = &[
    ("compare", Kind::List(&Kind::Object(COMPARE))),
    ("success", Kind::List(&READ)),
    ("failure", Kind::List(&WRITE)),
];

const TXN_BY_VALUE: &[Field] = &[
    ("compare", Kind::List(&Kind::Object(COMPARE_VALUE))),
    ("success", Kind::List(&WRITE)),
    ("failure", Kind::List(&DELETION)),
];

const COMPARE: &[Field] = &[
    ("key", KEY),
    ("result", Kind::Name(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])),
    ("target", Kind::Name(&["VERSION", "CREATE", "MOD"])),
    ("version", Kind::Number(&["0", "\"1\"", "\"2\""])),
];

const COMPARE_VALUE: &[Field] = &[("key", KEY), ("target", Kind::Name(&["VALUE"])), ("value", KEY)];

const READ: Kind = Kind::Object(&[("request_range", Kind::Object(RANGE))]);
const WRITE: Kind = Kind::Object(&[("request_put", Kind::Object(PUT))]);
const DELETION: Kind = Kind::Object(&[("request_delete_range", Kind::Object(DELETE))]);

const OF_LEASE: &[Field] = &[("ID", LEASE)];
const TIME_TO_LIVE: &[Field] = &[("ID", LEASE), ("keys", TRUTH)];
const NAME_AND_PASSWORD: &[Field] = &[("name", USER), ("password", Kind::Text(&["x", "x", "y"]))];

/// "a", "b", "c", "ab", a byte that is 0, nothing.
const KEY: Kind = Kind::Bytes(&["\"YQ==\"", "\"Yg==\"", "\"Yw==\"", "\"YWI=\"", "\"AA==\"", "\"\""]);
const RANGE_END: Kind = Kind::Bytes(&["\"\"", "\"\"", "\"AA==\"", "\"Yw==\""]);
const REVISION: Kind = Kind::Number(&[
    "\"$now\"",
    "$now",
    "\"$old\"",
    "0",
    "\"$next\"",
    "\"$compacted\"",
    "-1",
]);
const NO_BOUND: Kind = Kind::Number(&["0", "\"0\"", "\"$now\"", "$old"]);
const LEASE: Kind = Kind::Number(&["\"$picked\"", "\"$picked\"", "0", "\"4343\"", "7"]);
const TRUTH: Kind = Kind::Truth(&["true", "false"]);
const RARELY: Kind = Kind::Truth(&["false", "false", "false", "true"]);
const USER: Kind = Kind::Text(&["alice", "bob", "nobody"]);
const ROLE: Kind = Kind::Text(&["reader", "writer", "none"]);
/// No member.
const NOBODY: Kind = Kind::Number(&["\"2989\"", "2989", "\"0\""]);
const NO_URLS: Kind = Kind::Message(&["[]", "[\"\"]", "[\"nonsense\"]", "[\"http://127.0.0.1\"]"]);
