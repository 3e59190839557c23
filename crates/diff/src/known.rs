//! The differences that are known and meant: each is said here, printed at the end of a run, and told to
//! users in `docs/compatibility.md`.

use crate::call::{Call, Compare};
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
        what: "etcd 3.4 has no AuthStatus.",
        versions: &["3.4."],
        covers: |call, etcd, _| matches!(call, Call::AuthStatus) && etcd.text.starts_with("Unimplemented"),
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
        name: "leases-without-login",
        what: "With authentication on, etcd tells anybody which leases there are; Quorate asks for a login.",
        versions: &[],
        covers: |call, _, quorate| {
            matches!(call, Call::Leases) && quorate.is_refused_with("etcdserver: user name is empty")
        },
    },
];
