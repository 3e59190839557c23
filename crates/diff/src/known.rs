//! The differences that are known and meant: each is said here, printed at the end of a run, and told to
//! users in `docs/compatibility.md`.

use crate::call::{AuthCall, Call, Compare, RoleCall};
use crate::outcome::Outcome;

/// A difference that is no failure.
pub(crate) struct Known {
    /// A short name.
    pub(crate) name: &'static str,
    /// What differs, and why it may.
    pub(crate) what: &'static str,
    /// The versions of etcd that differ from Quorate, as their first parts; none: all.
    versions: &'static [&'static str],
    covers: fn(&Call, &Outcome, &Outcome) -> bool,
}

impl Known {
    /// Whether this is why the two outcomes of `call` differ.
    pub(crate) fn covers(&self, call: &Call, etcd: &Outcome, quorate: &Outcome, version: &str) -> bool {
        self.is_of(version) && (self.covers)(call, etcd, quorate)
    }

    /// Whether this version of etcd differs.
    pub(crate) fn is_of(&self, version: &str) -> bool {
        self.versions.is_empty() || self.versions.iter().any(|first| version.starts_with(first))
    }
}

/// All known differences.
pub(crate) fn known() -> impl Iterator<Item = &'static Known> {
    KNOWN.iter()
}

/// A progress request that one server would not answer: it is not made at all.
pub(crate) const PROGRESS_OF_THE_FUTURE: &str = "progress-of-the-future";

/// A watcher that one server would not create: it is not asked for at all.
pub(crate) const WATCH_BEFORE_ALL: &str = "watch-before-all-revisions";

/// A watcher that one server would tell less: it is not asked for at all.
pub(crate) const WATCH_AT_COMPACTED: &str = "watch-at-the-compacted-revision";

/// A range that ends one of the servers: it is not asked for at all.
pub(crate) const SORT_TARGET_PANIC: &str = "sort-target-panic";

/// A member that one server would give unusable URLs: it is not asked to.
pub(crate) const MEMBER_URLS: &str = "member-update-urls";

/// A right to keys that are none: one server would grant it.
pub(crate) const PERMISSION_RANGE: &str = "permission-range";

/// A password that one server would take.
pub(crate) const EMPTY_PASSWORD: &str = "empty-password";

/// A compaction that one server would make for anybody: it is not asked to.
pub(crate) const COMPACT_BY_OTHERS: &str = "compact-without-root";

/// A transaction whose rights one server does not look at: it is not asked to.
pub(crate) const TXN_WITHOUT_RIGHTS: &str = "txn-without-rights";

/// A right that is none, which ends one of the servers: it is not asked to grant it.
pub(crate) const NO_RIGHT: &str = "no-right";

const KNOWN: &[Known] = &[
    Known {
        name: PROGRESS_OF_THE_FUTURE,
        what: "Quorate answers a progress request when every watcher of the stream has begun; etcd before \
               3.5.8 answers at once, though a watcher is to start at a later revision.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "unknown-compare",
        what: "Quorate refuses a compare whose target or result does not exist; etcd lets it pass or fail \
               by chance of its code.",
        versions: &[],
        covers: |call, _, quorate| {
            let strange =
                |compare: &Compare| !(0..=4).contains(&compare.target) || !(0..=3).contains(&compare.result);
            matches!(call, Call::Txn(txn) if txn.compares.iter().any(strange))
                && quorate.text.starts_with("InvalidArgument: \"quorate: unknown ")
        },
    },
    Known {
        name: WATCH_BEFORE_ALL,
        what: "Quorate refuses a watcher that starts below revision 0, as the newest etcd does; etcd 3.4 and \
               3.5.1 create it, and cancel it when its start is compacted.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: WATCH_AT_COMPACTED,
        what: "A watcher that starts at the compacted revision itself is told by Quorate of what was deleted at \
               it; etcd may have forgotten that.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "member-change-unanswered",
        what: "Quorate answers that there is no such member; etcd 3.5.1 now and then gives no answer to a change of \
               members that follows another at once (its raft drops one while the one before is not applied).",
        versions: &["3.5.1"],
        covers: |call, etcd, quorate| {
            matches!(
                call,
                Call::MemberUpdate { .. } | Call::MemberPromote(_) | Call::MemberRemove(_)
            ) && etcd.text.starts_with("Cancelled: \"Timeout expired\"")
                && quorate.is_refused_with("etcdserver: member not found")
        },
    },
    Known {
        name: "sort-order",
        what: "etcd 3.4 and 3.5.1 take a sort order that does not exist; newer ones and Quorate refuse it.",
        versions: &[],
        covers: |call, _, quorate| {
            quorate.is_refused_with("etcdserver: invalid sort option")
                && matches!(call, Call::Range(range) if !(0..=2).contains(&range.sort_order))
        },
    },
    Known {
        name: SORT_TARGET_PANIC,
        what: "etcd 3.4 and 3.5.1 end with a panic when asked to sort by a target that does not exist; \
               Quorate refuses it.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: MEMBER_URLS,
        what: "Quorate refuses to update a member to peer URLs that are none; etcd takes them.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "kept-and-deleted",
        what: "etcd 3.4 and 3.5.1 end with a panic when a transaction deletes all keys from one on and then \
               puts one of them with the value or lease that it had; Quorate puts it with none. Such \
               transactions are not drawn.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "order-of-equals",
        what: "Keys that are equal in what they are sorted by are in key order in Quorate; in etcd more than \
               6 of them are in no certain order. Such ranges are not drawn.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "nested-put-without-space",
        what: "With a NOSPACE alarm, Quorate refuses a transaction that puts in a transaction within; etcd \
               counts the puts of the outermost one only. It is not asked to.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "message-too-large",
        what: "A request of more than 2 MiB is refused by etcd's gRPC library, by Quorate with etcd's own \
               error for requests that are too large.",
        versions: &[],
        covers: |_, etcd, quorate| {
            etcd.text
                .starts_with("ResourceExhausted: \"grpc: received message larger than max")
                && quorate.is_refused_with("etcdserver: request is too large")
        },
    },
    Known {
        name: "id-of-a-compacted-watcher",
        what: "When a watcher was canceled because its start is compacted, its id is free again in Quorate; \
               in etcd it stays taken, and can be canceled once more. Its stream is closed at once.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "hash-at-the-compacted",
        what: "etcd 3.4 and 3.5.1 refuse HashKV at the compacted revision; newer ones and Quorate answer.",
        versions: &[],
        covers: |call, etcd, quorate| {
            matches!(call, Call::HashKv(_))
                && etcd.is_refused_with("etcdserver: mvcc: required revision has been compacted")
                && quorate.revision.is_some()
        },
    },
    Known {
        name: "alarm-header",
        what: "etcd 3.4 answers Alarm without a header; 3.5 and Quorate give one. It is not compared.",
        versions: &["3.4."],
        covers: |_, _, _| false,
    },
    Known {
        name: "auth-status",
        what: "etcd 3.4 has no AuthStatus, and 3.5.1 answers it to root only; newer ones and Quorate to anybody.",
        versions: &["3.4.", "3.5.1"],
        covers: |call, etcd, quorate| {
            matches!(call, Call::AuthStatus) && !etcd.is_answer() && quorate.is_answer()
        },
    },
    Known {
        name: PERMISSION_RANGE,
        what: "Quorate refuses a right to a range that is empty or ends before it begins, as the newest etcd does; etcd 3.4 \
               and 3.5.1 grant it. It is not asked to.",
        versions: &["3.4.", "3.5.1"],
        covers: |_, _, _| false,
    },
    Known {
        name: EMPTY_PASSWORD,
        what: "Quorate refuses an empty password, and says how a user without one is added; etcd takes it. It is not asked to.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: COMPACT_BY_OTHERS,
        what: "With authentication on, only root may compact in Quorate; etcd before 3.5.28 lets anybody \
               (CVE-2026-33413). They are not asked to.",
        versions: &["3.4.", "3.5.1"],
        covers: |_, _, _| false,
    },
    Known {
        name: TXN_WITHOUT_RIGHTS,
        what: "etcd 3.4 and 3.5.1 do not look at the rights that a transaction within another needs, and take an empty \
               one from anybody (GHSA-rfx7-8w68-q57q); Quorate and newer ones do. They are not asked to.",
        versions: &["3.4.", "3.5.1"],
        covers: |_, _, _| false,
    },
    Known {
        name: "error-without-a-code",
        what: "etcd 3.4 and 3.5.1 refuse maintenance with the code Unknown and \"auth: ...\"; Quorate with the \
               code and the text that this error has elsewhere.",
        versions: &["3.4.", "3.5.1"],
        covers: |_, etcd, quorate| {
            let bare = etcd.text.strip_prefix("Unknown: \"auth: ");
            bare.is_some_and(|text| quorate.text.ends_with(&format!(": \"etcdserver: {text}")))
        },
    },
    Known {
        name: "who-before-what",
        what: "Quorate asks who calls before it looks at what is asked; etcd refuses some requests that are wrong \
               by themselves whoever makes them, and takes nobody for the user of the empty name.",
        versions: &[],
        covers: |call, etcd, quorate| {
            let of_the_caller = [
                "etcdserver: invalid auth token",
                "etcdserver: user name is empty",
                "etcdserver: permission denied",
            ];
            let of_no_name = matches!(call, Call::Auth(AuthCall::UserGet(name)) if name.is_empty());
            let is_of_the_caller =
                |outcome: &Outcome| of_the_caller.iter().any(|text| outcome.is_refused_with(text));
            let of_the_request = etcd.text.starts_with("InvalidArgument: ") && !is_of_the_caller(etcd);
            (of_no_name || of_the_request) && is_of_the_caller(quorate)
        },
    },
    Known {
        name: NO_RIGHT,
        what: "etcd 3.4 ends with a panic when it is to grant a right that is not given; newer ones and Quorate refuse.",
        versions: &["3.4."],
        covers: |_, _, _| false,
    },
    Known {
        name: "rights-of-root",
        what: "The role root has all rights: Quorate and the newest etcd show them, etcd 3.4 and 3.5.1 do not.",
        versions: &["3.4.", "3.5.1"],
        covers: |call, _, quorate| {
            matches!(call, Call::Auth(AuthCall::Role(RoleCall::Get(role))) if role == "root")
                && quorate.revision.is_some()
        },
    },
    Known {
        name: "lists-without-login",
        what: "With authentication on, etcd 3.4 and 3.5.1 tell anybody the leases, members, alarms and status; Quorate \
               asks for a login (CVE-2026-33413).",
        versions: &["3.4.", "3.5.1"],
        covers: |call, etcd, quorate| {
            let tells = matches!(
                call,
                Call::Leases | Call::MemberList { .. } | Call::Alarms { .. } | Call::Status
            );
            tells && etcd.is_answer() && LACKS_A_LOGIN.iter().any(|text| quorate.is_refused_with(text))
        },
    },
    Known {
        name: "login-without-password",
        what: "Whoever logs in as a user without a password is told by Quorate what any wrong login is told; by etcd \
               what the user is.",
        versions: &["3.4.", "3.5.1"],
        covers: |call, etcd, quorate| {
            matches!(call, Call::Auth(AuthCall::LogIn { .. }))
                && etcd.text.ends_with("password was given for no password user\"")
                && quorate.is_refused_with("etcdserver: authentication failed, invalid user ID or password")
        },
    },
    Known {
        name: "new-password-for-none",
        what: "A new password for a user without one can be used to log in; etcd takes it, and refuses the login. It \
               is not asked to.",
        versions: &["3.4.", "3.5.1"],
        covers: |_, _, _| false,
    },
    Known {
        name: "two-rights-to-one-range",
        what: "A right to a range replaces the one that the role had to it; etcd may keep both, when the role has a \
               right to another range that begins at the same key. Such ranges are not drawn.",
        versions: &[],
        covers: |_, _, _| false,
    },
    Known {
        name: "order-of-rights",
        what: "Rights to ranges that begin at the same key come in the order of their ends; in etcd in the order in \
               which they were granted. They are compared as a set.",
        versions: &[],
        covers: |_, _, _| false,
    },
];

/// How whoever has not logged in is refused.
const LACKS_A_LOGIN: [&str; 2] = ["etcdserver: user name is empty", "etcdserver: invalid auth token"];
