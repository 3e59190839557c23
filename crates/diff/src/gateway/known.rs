//! The differences of the gateways that are known and meant. Each was seen on the versions of etcd that it names.

use super::Request;
use super::answer::Answer;
use super::client::UNANSWERED;

/// A difference that is no failure.
pub(super) struct Known {
    /// A short name.
    pub(super) name: &'static str,
    /// What differs, and why it may.
    what: &'static str,
    /// The versions of etcd that differ from Quorate, as their first parts; none: all.
    versions: &'static [&'static str],
    covers: fn(&Request, &Answer, &Answer) -> bool,
}

impl Known {
    /// Whether this is why `[etcd, quorate]` differ.
    pub(super) fn covers(&self, request: &Request, [etcd, quorate]: [&Answer; 2], version: &str) -> bool {
        is_among(version, self.versions) && (self.covers)(request, etcd, quorate)
    }
}

/// A request that a version of etcd is not asked for, since it would hold something else after it, or be no more.
/// Quorate is asked first, and says whether it is one.
pub(super) struct NotAsked {
    name: &'static str,
    what: &'static str,
    versions: &'static [&'static str],
    path: &'static str,
    /// How Quorate refuses it.
    refusal: &'static str,
}

impl NotAsked {
    /// Whether Quorate must be asked first.
    pub(super) fn may_be(request: &Request) -> bool {
        NOT_ASKED.iter().any(|it| request.plain_path().ends_with(it.path))
    }

    /// The difference for which it is not asked of this version, by Quorate's answer.
    pub(super) fn of(request: &Request, quorate: &Answer, version: &str) -> Option<&'static str> {
        let mut those = NOT_ASKED.iter().filter(|it| is_among(version, it.versions));
        those
            .find(|it| request.plain_path().ends_with(it.path) && quorate.error().starts_with(it.refusal))
            .map(|it| it.name)
    }
}

/// The names of all differences to this version, and what they are.
pub(super) fn of_version(version: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let known = KNOWN.iter().map(|it| (it.name, it.what, it.versions));
    let all = known.chain(NOT_ASKED.iter().map(|it| (it.name, it.what, it.versions)));
    all.filter(move |(_, _, versions)| is_among(version, versions))
        .map(|(name, what, _)| (name, what))
}

fn is_among(version: &str, versions: &[&str]) -> bool {
    versions.is_empty() || versions.iter().any(|first| version.starts_with(first))
}

const NOT_ASKED: &[NotAsked] = &[
    NotAsked {
        name: "alarm-of-none",
        what: "Quorate refuses to raise the alarm NONE; etcd raises it, and 3.4 ends if it is to be that of no member.",
        versions: &[],
        path: "/maintenance/alarm",
        refusal: "quorate: name the alarm to raise",
    },
    NotAsked {
        name: "empty-password",
        what: "Quorate refuses an empty password, and says how a user without one is added; etcd takes it.",
        versions: &[],
        path: "/auth/user/add",
        refusal: "quorate: the password is empty",
    },
    NotAsked {
        name: "new-empty-password",
        what: "The same, of a user's new password.",
        versions: &[],
        path: "/auth/user/changepw",
        refusal: "quorate: the password is empty",
    },
    NotAsked {
        name: "no-right",
        what: "etcd 3.4 ends with a panic when it is to grant a right that is not given; newer ones and Quorate refuse.",
        versions: &["3.4."],
        path: "/auth/role/grant",
        refusal: "etcdserver: permission not given",
    },
    NotAsked {
        name: "permission-range",
        what: "Quorate refuses a right to a range that is empty, whatever the role, as the newest etcd does; etcd 3.4 and \
               3.5.1 grant it.",
        versions: &["3.4.", "3.5.1"],
        path: "/auth/role/grant",
        refusal: "etcdserver: invalid auth management",
    },
];

/// All others.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "words-of-the-parser",
        what: "A body that cannot be read is refused by both with status 400 and code 3; how that is said is each \
               parser's own.",
        versions: &[],
        covers: |_, etcd, quorate| {
            etcd.is_refused_as(400, 3)
                && !etcd.error().starts_with("etcdserver: ")
                && is_unread(quorate)
                && etcd.content_type == quorate.content_type
        },
    },
    Known {
        name: "unreadable-streams",
        what: "Where a client sends a stream, etcd refuses a body that cannot be read with status 500 and code 2, Quorate \
               with 400 and 3, as every other.",
        versions: &[],
        covers: |request, etcd, quorate| {
            is_stream(request) && etcd.is_refused_as(500, 2) && is_unread(quorate)
        },
    },
    Known {
        name: "streams-that-break-off",
        what: "Of a client's stream that becomes unreadable, etcd answers the beginning and does not say that there was \
               more; Quorate refuses it.",
        versions: &[],
        covers: |request, etcd, quorate| is_stream(request) && etcd.is_success() && is_unread(quorate),
    },
    Known {
        name: "other-methods",
        what: "Other methods than POST are answered with 405, by Quorate in JSON, by etcd in plain text.",
        versions: &[],
        covers: |request, etcd, quorate| {
            request.method != "POST"
                && etcd.status == 405
                && etcd.body == "Method Not Allowed\n"
                && quorate.is_refused_as(405, 12)
        },
    },
    Known {
        name: "types-of-head",
        what: "The same of HEAD, without the text.",
        versions: &[],
        covers: |request, etcd, quorate| {
            request.method == "HEAD"
                && etcd.status == quorate.status
                && [404, 405].contains(&etcd.status)
                && etcd.body == quorate.body
        },
    },
    Known {
        name: "no-such-path",
        what: "A path that is none is answered with 404 by both, by Quorate in JSON, by etcd in plain text.",
        versions: &[],
        covers: |_, etcd, quorate| {
            etcd.status == 404 && etcd.body == "Not Found\n" && quorate.is_refused_as(404, 5)
        },
    },
    Known {
        name: "redirects",
        what: "etcd sends clients from a path with \"//\" or \"..\", and from /v3, to the plain one (301), which few follow \
               with a POST; Quorate has no such path.",
        versions: &[],
        covers: |request, etcd, quorate| {
            let is_plain =
                !(request.path.contains("//") || request.path.contains("..") || request.path == "/v3");
            etcd.status == 301 && quorate.status == 404 && !is_plain
        },
    },
    Known {
        name: "newer-paths",
        what: "HashKV is at /v3/maintenance/hashkv, as in newer versions; in etcd 3.4 and 3.5.1 it has no path. Nor have \
               AuthStatus and Downgrade in 3.4.",
        versions: &["3.4.", "3.5.1"],
        covers: |request, etcd, quorate| {
            let paths = ["/maintenance/hashkv", "/auth/status", "/maintenance/downgrade"];
            paths.iter().any(|it| request.plain_path().ends_with(it))
                && etcd.status == 404
                && (etcd.body == "Not Found\n" || request.method == "HEAD")
                && match request.method {
                    "POST" => quorate.is_success() || quorate.is_refused_by_code(),
                    "HEAD" => quorate.status == 405,
                    _ => quorate.is_refused_as(405, 12),
                }
        },
    },
    Known {
        name: "status-of-preconditions",
        what: "FailedPrecondition (code 9) has the HTTP status 412 in etcd 3.4, 400 in newer ones and in Quorate.",
        versions: &["3.4."],
        covers: |_, etcd, quorate| {
            etcd.body == quorate.body && etcd.is_refused_as(412, 9) && quorate.is_refused_as(400, 9)
        },
    },
    Known {
        name: "after-the-body",
        what: "Quorate refuses a body that goes on after its JSON; etcd does not look at the rest.",
        versions: &[],
        covers: |_, etcd, quorate| {
            quorate.is_refused_as(400, 3)
                && quorate
                    .error()
                    .starts_with("quorate: the request is not JSON: trailing characters")
                && (etcd.is_success() || etcd.is_refused_by_code())
        },
    },
    Known {
        name: "null-for-a-request",
        what: "Quorate refuses `null` for a request; etcd takes it for an empty one.",
        versions: &[],
        covers: |request, etcd, quorate| {
            request.body == "null" && is_unread(quorate) && (etcd.is_success() || etcd.is_refused_by_code())
        },
    },
    Known {
        name: "null-in-a-list",
        what: "Quorate refuses `null` for a message in a list; etcd 3.5 takes it for an empty one, 3.4 closes the \
               connection, since its gateway has panicked.",
        versions: &["3.4.", "3.5."],
        covers: |request, etcd, quorate| {
            let refused_for = |reason| quorate.error().contains(reason);
            let is_after_all = refused_for("trailing characters") && !etcd.is_one();
            let is_meant =
                request.body.contains("[null]") && (refused_for("invalid type: null") || is_after_all);
            is_meant && is_unread(quorate) && !is_unread_by_etcd(etcd) && etcd.body != UNANSWERED
        },
    },
    Known {
        name: "forms-of-base64",
        what: "Quorate reads base64 without padding or in the alphabet of URLs, as newer versions do, and none with line \
               breaks; etcd 3.4 and 3.5 the other way round.",
        versions: &["3.4.", "3.5."],
        covers: |request, etcd, quorate| {
            let has = |form| request.body.contains(form);
            let newer = etcd.is_refused_as(400, 3)
                && etcd.error().starts_with("illegal base64 data")
                && !is_unread(quorate)
                && (has("\"YQ\"") || has("\"_-8=\""));
            let older = quorate.is_refused_as(400, 3)
                && quorate.error().contains("invalid base64")
                && !is_unread_by_etcd(etcd)
                && has("YQ==\\n");
            newer || older
        },
    },
    Known {
        name: "forms-of-bytes",
        what: "Quorate takes bytes as base64 only; etcd 3.4 and 3.5 an array of numbers as well.",
        versions: &["3.4.", "3.5."],
        covers: |_, etcd, quorate| {
            let is_array = "invalid type: sequence, expected a base64-encoded string";
            is_unread(quorate) && quorate.error().ends_with(is_array) && !is_unread_by_etcd(etcd)
        },
    },
    Known {
        name: "forms-of-numbers",
        what: "Quorate reads a whole number in each form that has one meaning (1e0, 1.0, \"+1\", \"01\", -0), and no text that is \
               none (\" 1\", \"null\"); etcd 3.4 and 3.5 the other way round.",
        versions: &["3.4.", "3.5."],
        covers: |request, etcd, quorate| {
            let has = |forms: &[&str]| forms.iter().any(|form| request.body.contains(form));
            let newer = (is_unread_by_etcd(etcd) || is_stream(request) && etcd.is_refused_as(500, 2))
                && !is_unread(quorate)
                && has(&["1.0", "1e0", "\"+1\"", "\"01\"", "-0"]);
            let older = is_unread(quorate)
                && quorate.error().ends_with("invalid digit found in string")
                && !is_unread_by_etcd(etcd)
                && has(&["\" 1\"", "\"null\""]);
            newer || older
        },
    },
    Known {
        name: "codes-of-queues",
        what: "Locks and elections fail in etcd with code Unknown (2) and status 500, whatever the reason; in Quorate \
               with the code that this reason has elsewhere. The texts are the same.",
        versions: &[],
        covers: |request, etcd, quorate| {
            let of_queues = request.path.contains("/lock/") || request.path.contains("/election/");
            of_queues
                && etcd.is_refused_as(500, 2)
                && etcd.error() == quorate.error()
                && quorate.is_refused_by_code()
                && etcd.content_type == quorate.content_type
        },
    },
    Known {
        name: "login-with-a-token",
        what: "Whoever logs in by name and password, and shows a token that is none, is refused by etcd 3.4 only.",
        versions: &["3.4."],
        covers: |request, etcd, quorate| {
            request.plain_path().ends_with("/auth/authenticate")
                && request.token.is_some()
                && etcd.is_refused_as(401, 16)
                && etcd.error() == "etcdserver: invalid auth token"
                && quorate.is_success()
        },
    },
    Known {
        name: "member-change-unanswered",
        what: "Quorate answers that there is no such member; etcd 3.4 and 3.5.1 now and then give no answer to a change of \
               members (their raft drops one while another is not applied).",
        versions: &["3.4.", "3.5.1"],
        covers: |request, etcd, quorate| {
            request.changes_members()
                && etcd.body == UNANSWERED
                && quorate.error() == "etcdserver: member not found"
        },
    },
    Known {
        name: "alarm-header",
        what: "etcd 3.4 answers Alarm without a header; 3.5 and Quorate give one.",
        versions: &["3.4."],
        covers: |request, etcd, quorate| {
            let mut bare = quorate.body.clone();
            if let Some(fields) = bare.as_object_mut() {
                fields.remove("header");
            }
            request.plain_path().ends_with("/maintenance/alarm")
                && etcd.is_success()
                && quorate.is_success()
                && etcd.body == bare
        },
    },
];

/// Whether Quorate has refused a body that it could not read.
fn is_unread(quorate: &Answer) -> bool {
    let reasons = [
        "quorate: the request is not ",
        "quorate: the request ends within ",
        "quorate: each message of a stream must be ",
    ];
    let is_so = |text: &str| {
        reasons.iter().any(|reason| text.starts_with(reason)) || text.ends_with(" is out of range")
    };
    quorate.is_refused_as(400, 3) && is_so(quorate.error())
}

/// Whether etcd has refused a body by words that are not its own, but those of its parser.
fn is_unread_by_etcd(etcd: &Answer) -> bool {
    etcd.is_refused_as(400, 3) && !etcd.error().starts_with("etcdserver: ")
}

/// Whether it is a method to which clients send a stream.
fn is_stream(request: &Request) -> bool {
    request.plain_path().ends_with("/lease/keepalive")
}

#[cfg(test)]
mod tests {
    use super::super::client::Raw;
    use super::*;

    fn answer(status: u16, error: &str, code: i32) -> Answer {
        let body = serde_json::json!({"error": error, "message": error, "code": code});
        Answer::new(&Raw {
            status,
            content_type: "application/json".to_owned(),
            body: body.to_string().into(),
        })
    }

    fn name(path: &str, body: &str, etcd: &Answer, quorate: &Answer, version: &str) -> Option<&'static str> {
        let request = Request::post(path, None, body.to_owned());
        let known = KNOWN
            .iter()
            .find(|known| known.covers(&request, [etcd, quorate], version));
        known.map(|known| known.name)
    }

    #[test]
    fn a_difference_is_known_for_its_reason_only() {
        let (path, body) = ("kv/put", "{\"lease\":\"01\"}");
        let unread = answer(400, "invalid character '1' after top-level value", 3);
        let (refused, found) = (
            answer(400, "etcdserver: key is not provided", 3),
            answer(404, "etcdserver: requested lease not found", 5),
        );
        assert_eq!(
            name(path, body, &unread, &found, "3.4.23"),
            Some("forms-of-numbers")
        );
        assert_eq!(name(path, body, &unread, &found, "3.6.0"), None);
        assert_eq!(name(path, "{\"lease\":1}", &unread, &found, "3.4.23"), None);
        assert_eq!(name(path, body, &refused, &found, "3.4.23"), None);
    }

    #[test]
    fn the_status_of_a_precondition_is_that_of_a_version() {
        let error = "etcdserver: user name not found";
        let (old, new) = (answer(412, error, 9), answer(400, error, 9));
        let path = "auth/user/get";
        assert_eq!(
            name(path, "{}", &old, &new, "3.4.23"),
            Some("status-of-preconditions")
        );
        assert_eq!(name(path, "{}", &old, &new, "3.5.1"), None);
        assert_eq!(name(path, "{}", &old, &answer(400, "other", 9), "3.4.23"), None);
    }

    #[test]
    fn what_is_not_asked_is_said_by_quorate() {
        let refusal = answer(400, "etcdserver: permission not given", 3);
        let request = Request::post("auth/role/grant", None, "{}".to_owned());
        assert!(NotAsked::may_be(&request));
        assert_eq!(NotAsked::of(&request, &refusal, "3.4.23"), Some("no-right"));
        assert_eq!(NotAsked::of(&request, &refusal, "3.5.1"), None);
        let other = answer(400, "etcdserver: role name not found", 9);
        assert_eq!(NotAsked::of(&request, &other, "3.4.23"), None);
    }
}
