//! One call, as it is drawn: with revisions and leases by their relation to the state, so that a call
//! still means the same when others before it are left out.

use bytes::Bytes;

/// A revision in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rev {
    /// This number, whatever the state.
    Exactly(i64),
    /// This far from the current revision.
    Current(i64),
    /// This far from the compacted revision.
    Compacted(i64),
}

/// A lease in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseRef {
    /// This id.
    Id(i64),
    /// The id that the server picked for the grant of this number, counted round.
    Picked(usize),
}

/// A pair of `key` and `range_end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) key: Bytes,
    pub(crate) range_end: Bytes,
}

/// A member in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberRef {
    /// The member that is asked.
    Itself,
    /// This id.
    Id(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) keys: Keys,
    pub(crate) limit: i64,
    pub(crate) revision: Rev,
    pub(crate) sort_order: i32,
    pub(crate) sort_target: i32,
    pub(crate) serializable: bool,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
    pub(crate) min_mod: Rev,
    pub(crate) max_mod: Rev,
    pub(crate) min_create: Rev,
    pub(crate) max_create: Rev,
}

#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) key: Bytes,
    pub(crate) value: Value,
    pub(crate) lease: LeaseRef,
    pub(crate) prev_kv: bool,
    pub(crate) ignore_value: bool,
    pub(crate) ignore_lease: bool,
}

/// A value, which for a long one is told by its length.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Bytes),
    Long { bytes: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Delete {
    pub(crate) keys: Keys,
    pub(crate) prev_kv: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Compare {
    pub(crate) keys: Keys,
    pub(crate) result: i32,
    pub(crate) target: i32,
    pub(crate) operand: Operand,
}

/// What a compare is given, whether or not its target takes it.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Unset,
    Version(i64),
    Create(Rev),
    Mod(Rev),
    Value(Bytes),
    Lease(LeaseRef),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Empty,
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Txn {
    pub(crate) compares: Vec<Compare>,
    pub(crate) success: Vec<Op>,
    pub(crate) failure: Vec<Op>,
}

impl Txn {
    /// Whether it asks nothing and does nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.compares.is_empty() && self.success.is_empty() && self.failure.is_empty()
    }

    /// Whether there is a transaction within it.
    pub(crate) fn has_another(&self) -> bool {
        let mut ops = self.success.iter().chain(&self.failure);
        ops.any(|op| matches!(op, Op::Txn(_)))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) stream: Stream,
    pub(crate) id: i64,
    pub(crate) keys: Keys,
    pub(crate) start: Rev,
    pub(crate) filters: Vec<i32>,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
}

/// Which of a server's watch streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    First,
    Second,
}

impl Stream {
    /// All there are.
    pub(crate) const ALL: [Stream; 2] = [Stream::First, Stream::Second];
}

/// A call of one of the services. A few are several requests in a row, where what the first of them does
/// must not last.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    Compact {
        revision: Rev,
        physical: bool,
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    /// Grants a lease that would end soon, looks at it, and revokes it.
    GrantBriefly {
        ttl: i64,
    },
    Revoke(LeaseRef),
    KeepAlive(LeaseRef),
    TimeToLive {
        lease: LeaseRef,
        keys: bool,
    },
    Leases,
    Watch(Watch),
    CancelWatch {
        stream: Stream,
        id: i64,
    },
    Progress(Stream),
    MemberList {
        linearizable: bool,
    },
    MemberAdd {
        urls: Vec<String>,
    },
    MemberRemove(u64),
    MemberUpdate {
        member: MemberRef,
        urls: Vec<String>,
    },
    MemberPromote(MemberRef),
    Status,
    HashKv(Rev),
    Defragment,
    MoveLeader(MemberRef),
    Alarms {
        kind: i32,
    },
    /// Raises an alarm, tries what it forbids and what it allows, and ends it.
    Alarmed {
        kind: i32,
        member: MemberRef,
    },
    AuthStatus,
    AuthDisable,
    Authenticate {
        name: String,
        password: String,
    },
    /// What is asked of users, roles and rights when they are what is compared.
    Auth(AuthCall),
}

/// A call of the service of users, roles and rights, or what says who calls from here on.
#[derive(Clone, Debug)]
pub(crate) enum AuthCall {
    Enable,
    /// All that follows is made by nobody if it succeeds: etcd before 3.6 refuses old tokens even so.
    Disable,
    UserAdd {
        name: String,
        password: String,
        no_password: bool,
    },
    UserDelete(String),
    UserChangePassword {
        name: String,
        password: String,
    },
    UserGet(String),
    UserList,
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    Role(RoleCall),
    /// Logs in, and makes all that follows as this user if that succeeds.
    LogIn {
        name: String,
        password: String,
    },
    /// All that follows is made by nobody.
    LogOut,
    /// All that follows is made with this for a token.
    Forge(String),
}

/// A call about roles and their rights.
#[derive(Clone, Debug)]
pub(crate) enum RoleCall {
    Add(String),
    Delete(String),
    Get(String),
    List,
    /// `kind` is a number of the protocol, or one that it does not have; no permission at all if there are no keys.
    Grant {
        role: String,
        kind: i32,
        keys: Option<Keys>,
    },
    Revoke {
        role: String,
        keys: Keys,
    },
}
