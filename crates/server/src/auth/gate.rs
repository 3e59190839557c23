//! The gate: who shows a token or a certificate, and whether that will do for a method.
//!
//! - A token goes before the name in a certificate. The gateway's calls are nobody's by a certificate, as in etcd.
//! - What a call demands is declared with its method. What is decided by keys is left to the keyspace; that
//!   somebody has logged in at all is asked here.
//! - A member that has just started may not know yet that authentication is on. Until it has once been told
//!   what is current, it asks its peers before it trusts that nobody need log in.

use std::sync::Arc;

use http::{Extensions, HeaderMap};
use quorate_etcd_api::EtcdError;
use quorate_kv::{AuthSwitch, Caller, KeyRange, UserName};
use tonic::{Request, Status};

use super::audit::{AuditedKeys, Record};
use super::question::{AuthAnswer, AuthQuestion, OwnRight};
use super::token::{Token, Tokens, caller};
use crate::gateway::GATEWAY_MARK;
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::rpc::Demand;
use crate::security::ClientName;
use crate::translate;

/// Who calls, for as long as the call lasts.
#[derive(Clone)]
pub(crate) struct Session {
    caller: Caller,
    evidence: Evidence,
    record: Option<Arc<Record>>,
}

/// What a client shows of itself.
#[derive(Clone, Debug)]
pub(crate) enum Evidence {
    /// Nothing.
    Nothing,
    /// What it was given when it logged in.
    Token(Token),
    /// The name in its certificate.
    Name(ClientName),
}

impl Evidence {
    /// Whether the client shows anything.
    pub(crate) fn is_something(&self) -> bool {
        !matches!(self, Evidence::Nothing)
    }
}

/// Who calls: nobody in particular, unless the gate has found out.
pub(crate) fn session<T>(request: &Request<T>) -> Session {
    let known = request.extensions().get::<Session>().cloned();
    known.unwrap_or(Session {
        caller: Caller::Anonymous,
        evidence: Evidence::Nothing,
        record: None,
    })
}

impl Session {
    /// A call that has passed the gate.
    pub(crate) fn new(caller: Caller, evidence: Evidence, record: Arc<Record>) -> Session {
        Session {
            caller,
            evidence,
            record: Some(record),
        }
    }

    /// Who it was when the call began.
    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Notes for the audit log which keys the call is about.
    pub(crate) fn note(&self, keys: &impl AuditedKeys) {
        if let Some(record) = &self.record {
            record.note(keys);
        }
    }

    /// Logs that a watcher was asked for.
    pub(crate) fn log_watcher(&self, caller: &Caller, keys: &KeyRange, outcome: Result<(), &Status>) {
        if let Some(record) = &self.record {
            record.log_watcher(caller, keys, outcome);
        }
    }

    /// Who it is at this moment: tokens run out, and users change, while a stream lasts.
    pub(crate) async fn caller_now(&self, node: &Node) -> Result<Caller, Status> {
        node.identify(&self.evidence).await
    }

    /// Does something as this session's client; again, if users or roles have changed on the way.
    ///
    /// # Errors
    /// [`EtcdError::AuthOldRevision`] only for a token that says its revision itself, so that its owner has to
    /// log in again; and whatever else `action` is refused for.
    pub(crate) async fn act<T, A>(&self, node: &Node, action: impl Fn(Caller) -> A) -> Result<T, Status>
    where
        A: Future<Output = Result<T, Status>>,
    {
        act_as(node, &self.evidence, self.caller(), action).await
    }

    /// As [`Self::act`], later in a stream.
    pub(crate) async fn act_now<T, A>(&self, node: &Node, action: impl Fn(Caller) -> A) -> Result<T, Status>
    where
        A: Future<Output = Result<T, Status>>,
    {
        let caller = self.caller_now(node).await?;
        act_as(node, &self.evidence, caller, action).await
    }
}

/// Does something as the client that shows `evidence`, who was `caller` when this member looked it up.
///
/// The member may be behind: it finds a name at an old revision, or nobody while authentication is off. What is refused
/// for that was not done, so that it may be done once more, as whoever the client is by then. It ends: each turn needs
/// a change of users, and a token that says its revision itself stays the same.
async fn act_as<T, A>(
    node: &Node,
    evidence: &Evidence,
    mut caller: Caller,
    action: impl Fn(Caller) -> A,
) -> Result<T, Status>
where
    A: Future<Output = Result<T, Status>>,
{
    loop {
        let outcome = action(caller.clone()).await;
        let error = match caller {
            Caller::Anonymous => EtcdError::UserEmpty,
            Caller::User(_) | Caller::Member => EtcdError::AuthOldRevision,
        };
        let is_behind = |status: &Status| status.message() == error.message();
        if !outcome.as_ref().is_err_and(is_behind) {
            return outcome;
        }
        let now = node.identify(evidence).await?;
        if now == caller {
            return outcome;
        }
        caller = now;
    }
}

impl Node {
    /// Whether a call with this demand has to pass [`Node::admit`].
    pub(crate) fn guards(&self, demand: Demand, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let is_off = || self.shared().auth_status().switch == AuthSwitch::Off;
        match demand {
            // Whoever logs in may show a token that is good no more.
            Demand::Nothing => false,
            // This member may have yet to hear that authentication was turned on.
            Demand::Login | Demand::Decided => {
                !(is_off() && self.is_current()) || self.evidence(headers, extensions).is_something()
            }
            Demand::Root => true,
        }
    }

    /// What the client of a request shows of itself.
    pub(crate) fn evidence(&self, headers: &HeaderMap, extensions: &Extensions) -> Evidence {
        if let Some(token) = Token::of(headers) {
            return Evidence::Token(token);
        }
        match extensions.get::<ClientName>() {
            Some(name) if self.names_are_users() && !headers.contains_key(GATEWAY_MARK) => {
                Evidence::Name(name.clone())
            }
            _ => Evidence::Nothing,
        }
    }

    /// Who calls, if that will do for the method.
    pub(crate) async fn admit(&self, demand: Demand, evidence: &Evidence) -> Result<Caller, Status> {
        if self.is_witness() {
            return admit_to_witness(demand);
        }
        let caller = self.identify(evidence).await?;
        let right = match demand {
            Demand::Nothing => return Ok(caller),
            Demand::Login => OwnRight::Login,
            Demand::Root => OwnRight::Root,
            Demand::Decided => {
                let is_on = self.shared().auth_status().switch == AuthSwitch::On;
                return match is_on && caller == Caller::Anonymous {
                    true => Err(EtcdError::UserEmpty.into()),
                    false => Ok(caller),
                };
            }
        };
        act_as(self, evidence, caller, |caller| self.check_right(caller, right)).await
    }

    /// Refuses a caller that may not do what only root may, by the state of this member.
    pub(crate) async fn check_root(&self, caller: &Caller) -> Result<(), Status> {
        self.check_right(caller.clone(), OwnRight::Root).await.map(drop)
    }

    /// Gives back the caller, if it has the right.
    async fn check_right(&self, caller: Caller, right: OwnRight) -> Result<Caller, Status> {
        let query = Query::Auth(AuthQuestion::May(caller.clone(), right));
        let answer = match right {
            OwnRight::Root if !self.is_current() => self.read(query).await?,
            OwnRight::Root | OwnRight::Login => self.read_local(query).await?,
        };
        let AuthAnswer::May(may) = answer!(answer, Auth) else {
            return Err(Status::internal(
                "quorate: the answer belongs to another question",
            ));
        };
        may.map(|()| caller).map_err(|error| translate::refused(&error))
    }

    /// Who shows this. It is not said what that one may do.
    pub(crate) async fn identify(&self, evidence: &Evidence) -> Result<Caller, Status> {
        if let Evidence::Nothing = evidence {
            return Ok(Caller::Anonymous);
        }
        if self.shared().auth_status().switch == AuthSwitch::Off {
            if self.is_current() {
                return Ok(Caller::Anonymous);
            }
            self.confirm_current().await?;
            if self.shared().auth_status().switch == AuthSwitch::Off {
                return Ok(Caller::Anonymous);
            }
        }
        match evidence {
            Evidence::Nothing => Ok(Caller::Anonymous),
            Evidence::Token(token) => self.identify_by_token(token).await,
            Evidence::Name(name) => {
                let revision = self.shared().auth_status().revision;
                let user = UserName::parse(name.as_str()).map_err(|error| translate::refused(&error))?;
                Ok(caller(user, revision))
            }
        }
    }

    async fn identify_by_token(&self, token: &Token) -> Result<Caller, Status> {
        match self.tokens() {
            Tokens::Simple => self.identify_simple(token).await,
            Tokens::Jwt(jwt) => {
                let credentials = jwt.check(token).ok_or(EtcdError::InvalidAuthToken)?;
                if credentials.revision > self.shared().auth_status().revision {
                    // Another member has made it, at a state that this one has yet to reach.
                    self.confirm_current().await?;
                }
                Ok(Caller::User(credentials))
            }
        }
    }

    async fn identify_simple(&self, token: &Token) -> Result<Caller, Status> {
        if !token.is_well_formed() {
            return Err(EtcdError::InvalidAuthToken.into());
        }
        if let Some(caller) = self.find_simple(token) {
            return Ok(caller);
        }
        // It may be of a login at another member that has not arrived here.
        self.confirm_current().await?;
        let found = self.find_simple(token);
        found.ok_or_else(|| EtcdError::InvalidAuthToken.into())
    }

    /// The revision is read first: if the token is taken back in between, the revision has passed.
    fn find_simple(&self, token: &Token) -> Option<Caller> {
        let shared = self.shared();
        let revision = shared.auth_status().revision;
        let user = shared.sessions.lock().find(token.digest(), shared.now())?;
        Some(caller(user, revision))
    }
}

/// A witness has no users, so that it cannot tell who is root: it changes nothing for anybody.
fn admit_to_witness(demand: Demand) -> Result<Caller, Status> {
    match demand {
        Demand::Nothing | Demand::Login | Demand::Decided => Ok(Caller::Anonymous),
        Demand::Root => Err(Status::failed_precondition(
            "quorate: this member is a witness: it knows no users; ask another member",
        )),
    }
}
