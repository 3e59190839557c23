//! What is asked of the keyspace about users, roles and rights.

use quorate_kv::{
    AuthStatus, Caller, Credentials, Error, KeyRange, Keyspace, PasswordHash, Permission, Right, RoleName,
    UserName,
};

/// A question about users, roles or rights.
pub(crate) enum AuthQuestion {
    /// What a user's password is checked by. Only for who logs in.
    Password(UserName),
    /// Whether a caller may do something that is not about keys.
    May(Caller, OwnRight),
    /// Whether a caller may watch keys.
    MayWatch(Caller, KeyRange),
    /// Which of these keys a user, or somebody who is none, may not watch any more.
    Unwatchable(Option<UserName>, Vec<KeyRange>),
    /// The roles of a user.
    User(Caller, UserName),
    /// All users.
    Users(Caller),
    /// The permissions of a role.
    Role(Caller, RoleName),
    /// All roles.
    Roles(Caller),
}

/// A right that names no keys.
#[derive(Clone, Copy)]
pub(crate) enum OwnRight {
    /// What every user may.
    Login,
    /// What only root may.
    Root,
}

/// The answer to the question that names it.
pub(crate) enum AuthAnswer {
    Password(AuthStatus, Option<PasswordHash>),
    May(Result<(), Error>),
    Unwatchable(Vec<(KeyRange, Error)>),
    User(Result<Vec<RoleName>, Error>),
    Users(Result<Vec<UserName>, Error>),
    Role(Result<Vec<Permission>, Error>),
    Roles(Result<Vec<RoleName>, Error>),
}

/// Answers a question by this state.
pub(crate) fn answer_auth(keyspace: &Keyspace, question: AuthQuestion) -> AuthAnswer {
    let auth = keyspace.auth();
    match question {
        AuthQuestion::Password(user) => AuthAnswer::Password(auth.status(), auth.password(&user).cloned()),
        AuthQuestion::May(caller, right) => AuthAnswer::May(keyspace.permit(
            &caller,
            match right {
                OwnRight::Login => Right::Login,
                OwnRight::Root => Right::Root,
            },
        )),
        AuthQuestion::MayWatch(caller, keys) => AuthAnswer::May(keyspace.permit(&caller, Right::Read(&keys))),
        AuthQuestion::Unwatchable(user, keys) => AuthAnswer::Unwatchable(unwatchable(keyspace, user, keys)),
        AuthQuestion::User(caller, user) => AuthAnswer::User(auth.user(&caller, &user)),
        AuthQuestion::Users(caller) => AuthAnswer::Users(auth.users(&caller)),
        AuthQuestion::Role(caller, role) => AuthAnswer::Role(auth.role(&caller, &role)),
        AuthQuestion::Roles(caller) => AuthAnswer::Roles(auth.roles(&caller)),
    }
}

fn unwatchable(keyspace: &Keyspace, user: Option<UserName>, keys: Vec<KeyRange>) -> Vec<(KeyRange, Error)> {
    let revision = keyspace.auth().status().revision;
    let caller = user.map_or(Caller::Anonymous, |user| {
        Caller::User(Credentials { user, revision })
    });
    let refused = |keys: KeyRange| {
        let error = keyspace.permit(&caller, Right::Read(&keys)).err()?;
        Some((keys, error))
    };
    keys.into_iter().filter_map(refused).collect()
}
