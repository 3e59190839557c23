//! What stands in a body for what only the servers know, and the other way round.
//!
//! | symbol | stands for |
//! |---|---|
//! | `$now` | the current revision; `$old` two before it, `$next` one after it |
//! | `$compacted` | the revision of the last compaction |
//! | `$member` | the member that is asked |
//! | `$picked` | the last lease that was granted |
//! | `$lock` | the key of the last lock that was taken |
//! | `$leader` | the last campaign's leader, as JSON |
//! | `$token` | the last token that somebody got who logged in |

use serde_json::Value;

use super::answer::Answer;

/// What they stand for on one server.
pub(super) struct Symbols {
    now: i64,
    compacted: i64,
    member: String,
    granted: String,
    /// The ids that the server picked for leases, in the order in which it told them.
    picked: Vec<i64>,
    lock: String,
    leader: Value,
    token: Option<String>,
}

impl Symbols {
    /// Of a server that has answered with its members.
    pub(super) fn of(list: &Answer) -> Option<Symbols> {
        list.body["header"]["member_id"].as_str().map(Symbols::of_member)
    }

    /// Of a server that holds nothing.
    pub(super) fn of_member(member: &str) -> Symbols {
        Symbols {
            now: 1,
            compacted: 0,
            member: member.to_owned(),
            granted: "30583".to_owned(),
            picked: Vec::new(),
            lock: "bm8gbG9jaw==".to_owned(),
            leader: Value::Null,
            token: None,
        }
    }

    /// A body with all symbols replaced.
    pub(super) fn fill(&self, body: &str) -> String {
        body.replace("$now", &self.now.to_string())
            .replace("$old", &(self.now - 2).max(1).to_string())
            .replace("$next", &(self.now + 1).to_string())
            .replace("$compacted", &self.compacted.to_string())
            .replace("$member", &self.member)
            .replace("$picked", &self.granted)
            .replace("$lock", &self.lock)
            .replace("$leader", &self.leader.to_string())
    }

    /// What goes with a request as its token.
    pub(super) fn token(&self, token: &str) -> Option<String> {
        match token {
            "$token" => self.token.clone(),
            other => Some(other.to_owned()),
        }
    }

    /// Keeps what an answer says, before it is normalized.
    pub(super) fn learn(&mut self, path: &str, filled: &str, answer: &Answer) {
        if !answer.is_success() {
            return;
        }
        let body = &answer.body;
        if let Some(revision) = number(&body["header"]["revision"]) {
            self.now = self.now.max(revision);
        }
        if path.ends_with("/kv/compaction")
            && let Some(revision) = serde_json::from_str(filled)
                .ok()
                .and_then(|filled: Value| number(&filled["revision"]))
        {
            self.compacted = revision;
        }
        if path.ends_with("/lease/grant")
            && let Some(id) = body["ID"].as_str()
        {
            id.clone_into(&mut self.granted);
            self.pick(number(&body["ID"]));
        }
        if path.ends_with("/lock/lock")
            && let Some(key) = body["key"].as_str()
        {
            key.clone_into(&mut self.lock);
            self.pick(queued(key).map(|(_, lease)| lease));
        }
        if path.ends_with("/election/campaign") && body["leader"].is_object() {
            self.leader = body["leader"].clone();
            self.pick(number(&self.leader["lease"]));
        }
        if path.ends_with("/auth/authenticate") {
            self.token = body["token"].as_str().map(ToOwned::to_owned);
        }
    }

    fn pick(&mut self, lease: Option<i64>) {
        if let Some(lease) = lease.filter(|lease| *lease > SMALL && !self.picked.contains(lease)) {
            self.picked.push(lease);
        }
    }

    /// Replaces the server's own member and the leases that it picked, in a text of an answer.
    pub(super) fn replace(&self, text: &mut String) {
        let place = |lease| self.picked.iter().position(|id| *id == lease);
        if text.contains(&self.member) {
            // Alarms are told as texts that name it.
            *text = text.replace(&self.member, "$member");
        } else if let Some(place) = text.parse().ok().and_then(place) {
            *text = format!("$lease {place}");
        } else if let Some((name, lease)) = queued(text)
            && let Some(place) = place(lease)
        {
            *text = format!("{name}/$lease {place}");
        }
    }
}

/// The name and the lease in the key of somebody who waits for a lock or an office.
fn queued(key: &str) -> Option<(String, i64)> {
    let key = String::from_utf8(decode(key)?).ok()?;
    let (name, lease) = key.rsplit_once('/')?;
    Some((name.to_owned(), i64::from_str_radix(lease, 16).ok()?))
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The bytes of a text in base64, if it is one.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Ids of leases that are drawn are below this, ids that servers pick are above.
const SMALL: i64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::super::client::Raw;
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer::new(&Raw {
            status: 200,
            content_type: String::new(),
            body: body.to_owned().into(),
        })
    }

    fn replaced(symbols: &Symbols, text: &str) -> String {
        let mut text = text.to_owned();
        symbols.replace(&mut text);
        text
    }

    #[test]
    fn what_was_learned_is_filled_in_and_taken_out() {
        let mut symbols = Symbols::of_member("2000");
        let granted = answer(r#"{"header":{"revision":"5"},"ID":"9000000000000000000"}"#);
        symbols.learn("/v3/lease/grant", "{}", &granted);
        // The key is "lock/7ce66c50e2840000": the lease by its number in hexadecimal.
        let locked = answer(r#"{"header":{"revision":"9"},"key":"bG9jay83Y2U2NmM1MGUyODQwMDAw"}"#);
        symbols.learn("/v3/lock/lock", "{}", &locked);
        symbols.learn("/v3/kv/compaction", r#"{"revision":"6"}"#, &answer("{}"));
        assert_eq!(
            symbols.fill("$now $old $next $compacted $member $picked $lock"),
            "9 7 10 6 2000 9000000000000000000 bG9jay83Y2U2NmM1MGUyODQwMDAw"
        );
        assert_eq!(replaced(&symbols, "2000"), "$member");
        assert_eq!(
            replaced(&symbols, "memberID:2000 alarm:NOSPACE "),
            "memberID:$member alarm:NOSPACE "
        );
        assert_eq!(replaced(&symbols, "9000000000000000000"), "$lease 0");
        assert_eq!(
            replaced(&symbols, "bG9jay83Y2U2NmM1MGUyODQwMDAw"),
            "lock/$lease 0"
        );
    }

    #[test]
    fn what_is_not_the_servers_own_stays() {
        let mut symbols = Symbols::of_member("2000");
        symbols.learn("/v3/lease/grant", "{}", &answer(r#"{"ID":"7"}"#));
        for text in ["7", "9000000000000000000", "YQ==", "bG9jay9mZg==", "201", ""] {
            assert_eq!(replaced(&symbols, text), text);
        }
    }

    #[test]
    fn base64_is_read() {
        assert_eq!(decode("bG9jay9mZg==").as_deref(), Some(&b"lock/ff"[..]));
        assert_eq!(decode("YWI=").as_deref(), Some(&b"ab"[..]));
        assert_eq!(decode("no base64"), None);
    }
}
