//! Which tokens are good here, and until when.
//!
//! - A member keeps its own table: every login reaches all of them by the log, and use of a token prolongs it
//!   where it is used.
//! - Nothing replicated depends on it: it may forget at any time, and the client logs in again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::command::SessionEvent;
use super::types::{TokenDigest, UnixSeconds, UserName};

/// The tokens that one member accepts.
#[derive(Debug)]
pub struct Sessions {
    ttl: Duration,
    open: BTreeMap<TokenDigest, Session>,
    by_deadline: BTreeSet<(Duration, TokenDigest)>,
}

#[derive(Debug)]
struct Session {
    user: UserName,
    deadline: Duration,
}

/// When something is observed: by the member's own steady clock, and by that on its wall.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since some moment that never changes.
    pub steady: Duration,
    /// Since 1970.
    pub wall: UnixSeconds,
}

impl Sessions {
    /// No tokens; each will live for `ttl` after its last use.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            open: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
        }
    }

    /// Takes note of what happened to tokens.
    pub fn observe(&mut self, event: &SessionEvent, now: Moment) {
        self.forget_overdue(now.steady);
        match event {
            SessionEvent::Opened { digest, user, issued } => {
                // A member that starts again applies its log again: a token that has run out stays so.
                let age = now.wall.0.saturating_sub(issued.0);
                if Duration::from_secs(age) < self.ttl {
                    self.insert(*digest, user.clone(), now.steady);
                }
            }
            SessionEvent::UserClosed { user } => self.close(user),
            SessionEvent::AllClosed => self.clear(),
        }
    }

    /// The user that a token stands for. It lives on for another `ttl`.
    pub fn find(&mut self, digest: TokenDigest, now: Duration) -> Option<UserName> {
        self.forget_overdue(now);
        let user = self.open.get(&digest)?.user.clone();
        self.insert(digest, user.clone(), now);
        Some(user)
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.open.clear();
        self.by_deadline.clear();
    }

    fn insert(&mut self, digest: TokenDigest, user: UserName, now: Duration) {
        self.remove(digest);
        let deadline = now.saturating_add(self.ttl);
        self.open.insert(digest, Session { user, deadline });
        self.by_deadline.insert((deadline, digest));
        if self.open.len() > MAX_SESSIONS
            && let Some(&(_, next)) = self.by_deadline.first()
        {
            self.remove(next);
        }
    }

    fn remove(&mut self, digest: TokenDigest) {
        if let Some(session) = self.open.remove(&digest) {
            self.by_deadline.remove(&(session.deadline, digest));
        }
    }

    fn close(&mut self, user: &UserName) {
        let theirs = self.open.iter().filter(|(_, session)| session.user == *user);
        let theirs: Vec<TokenDigest> = theirs.map(|(digest, _)| *digest).collect();
        theirs.into_iter().for_each(|digest| self.remove(digest));
    }

    fn forget_overdue(&mut self, now: Duration) {
        while let Some(&(deadline, digest)) = self.by_deadline.first()
            && deadline <= now
        {
            self.remove(digest);
        }
    }
}

/// Beyond this many tokens, the one that was not used for longest is forgotten: some 100 MB.
const MAX_SESSIONS: usize = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn at(secs: u64) -> Moment {
        Moment {
            steady: Duration::from_secs(secs),
            wall: UnixSeconds(1_000_000 + secs),
        }
    }

    fn opened(token: u8, user: &str, issued: u64) -> SessionEvent {
        SessionEvent::Opened {
            digest: digest(token),
            user: name(user),
            issued: at(issued).wall,
        }
    }

    fn digest(token: u8) -> TokenDigest {
        TokenDigest([token; 32])
    }

    fn name(user: &str) -> UserName {
        UserName::parse(user).unwrap()
    }

    fn find(sessions: &mut Sessions, token: u8, secs: u64) -> Option<String> {
        let user = sessions.find(digest(token), Duration::from_secs(secs));
        user.map(|user| user.to_string())
    }

    #[test]
    fn a_token_lives_on_while_it_is_used() {
        let mut sessions = Sessions::new(TTL);
        sessions.observe(&opened(1, "alice", 0), at(0));
        assert_eq!(find(&mut sessions, 1, 299).as_deref(), Some("alice"));
        assert_eq!(find(&mut sessions, 1, 598).as_deref(), Some("alice"));
        assert_eq!(find(&mut sessions, 1, 898), None, "300 s after its last use");
        assert_eq!(find(&mut sessions, 2, 898), None, "never opened");
    }

    #[test]
    fn a_log_that_is_applied_again_revives_no_token() {
        let mut sessions = Sessions::new(TTL);
        sessions.observe(&opened(1, "alice", 0), at(300));
        sessions.observe(&opened(2, "alice", 1), at(300));
        assert_eq!(find(&mut sessions, 1, 300), None);
        assert!(find(&mut sessions, 2, 300).is_some());
    }

    #[test]
    fn a_user_who_changes_loses_its_tokens_and_nobody_else_does() {
        let mut sessions = Sessions::new(TTL);
        sessions.observe(&opened(1, "alice", 0), at(0));
        sessions.observe(&opened(2, "bob", 0), at(0));
        sessions.observe(&SessionEvent::UserClosed { user: name("alice") }, at(1));
        assert_eq!(find(&mut sessions, 1, 1), None);
        assert!(find(&mut sessions, 2, 1).is_some());
        sessions.observe(&SessionEvent::AllClosed, at(2));
        assert_eq!(find(&mut sessions, 2, 2), None);
    }
}
