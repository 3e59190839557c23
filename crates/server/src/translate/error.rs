//! Why a request failed, as etcd says it.

use quorate::{ProposeError, ReadError, ReconfigureError, Rejection, TransferError};
use quorate_etcd_api::EtcdError;
use quorate_kv::Error;
use tonic::Status;

use crate::rpc::code_label;

/// The keyspace refused a request.
pub(crate) fn refused(error: &Error) -> Status {
    match error {
        Error::EmptyKey => EtcdError::EmptyKey.into(),
        Error::KeyNotFound => EtcdError::KeyNotFound.into(),
        Error::ValueProvided => EtcdError::ValueProvided.into(),
        Error::LeaseProvided => EtcdError::LeaseProvided.into(),
        Error::TooManyOps => EtcdError::TooManyOps.into(),
        Error::DuplicateKey => EtcdError::DuplicateKey.into(),
        Error::InvalidSortOption => EtcdError::InvalidSortOption.into(),
        Error::Compacted { .. } => EtcdError::Compacted.into(),
        Error::FutureRevision { .. } => EtcdError::FutureRev.into(),
        Error::NoSpace => EtcdError::NoSpace.into(),
        Error::Corrupt => EtcdError::Corrupt.into(),
        // Only the expiry of leases meets the second, and looks no further than that it failed.
        Error::LeaseNotFound(_) | Error::LeaseRenewed(_) => EtcdError::LeaseNotFound.into(),
        Error::LeaseExists(_) => EtcdError::LeaseExist.into(),
        Error::LeaseTtlTooLarge => EtcdError::LeaseTtlTooLarge.into(),
        Error::RootUserNotExist => EtcdError::RootUserNotExist.into(),
        Error::RootRoleNotExist => EtcdError::RootRoleNotExist.into(),
        Error::UserAlreadyExist => EtcdError::UserAlreadyExist.into(),
        Error::UserEmpty => EtcdError::UserEmpty.into(),
        Error::UserNotFound => EtcdError::UserNotFound.into(),
        Error::RoleAlreadyExist => EtcdError::RoleAlreadyExist.into(),
        Error::RoleNotFound => EtcdError::RoleNotFound.into(),
        Error::RoleEmpty => EtcdError::RoleEmpty.into(),
        Error::AuthFailed => EtcdError::AuthFailed.into(),
        Error::PermissionDenied => EtcdError::PermissionDenied.into(),
        Error::RoleNotGranted => EtcdError::RoleNotGranted.into(),
        Error::PermissionNotGranted => EtcdError::PermissionNotGranted.into(),
        Error::AuthNotEnabled => EtcdError::AuthNotEnabled.into(),
        Error::InvalidAuthMgmt => EtcdError::InvalidAuthMgmt.into(),
        Error::AuthOldRevision => EtcdError::AuthOldRevision.into(),
        other => Status::unknown(format!("etcdserver: {other}")),
    }
}

/// A status as Go's clients print it, which is how etcd gives the reason for which a watcher is refused.
pub(crate) fn go_error(status: &Status) -> String {
    format!(
        "rpc error: code = {} desc = {}",
        code_label(status.code()),
        status.message()
    )
}

/// A proposal has no response.
pub(crate) fn propose_failed(error: &ProposeError) -> Status {
    match error {
        ProposeError::Rejected(rejection) => rejected(*rejection),
        ProposeError::Unknown => EtcdError::TimeoutDueToLeaderFail.into(),
        ProposeError::Stopped(_) => EtcdError::Stopped.into(),
        other @ (ProposeError::Encode(_) | _) => Status::unknown(format!("etcdserver: {other}")),
    }
}

/// A read could not be confirmed to be current.
pub(crate) fn read_failed(error: &ReadError) -> Status {
    match error {
        ReadError::Rejected(rejection) => rejected(*rejection),
        ReadError::Stopped(_) => EtcdError::Stopped.into(),
        ReadError::TimedOut => EtcdError::Timeout.into(),
        other => Status::unknown(format!("etcdserver: {other}")),
    }
}

/// Leadership was not handed over.
pub(crate) fn transfer_failed(error: &TransferError) -> Status {
    match error {
        TransferError::Rejected(Rejection::BadTransferee) => EtcdError::BadLeaderTransferee.into(),
        TransferError::Rejected(_) => EtcdError::NotLeader.into(),
        TransferError::Stopped(_) => EtcdError::Stopped.into(),
        // etcd has no row in its table for this one, only the text.
        TransferError::Unknown | _ => {
            Status::unknown("etcdserver: request timed out, leader transfer took too long")
        }
    }
}

/// The members were not changed.
pub(crate) fn reconfigure_failed(error: &ReconfigureError) -> Status {
    match error {
        ReconfigureError::NotAMember(_) => EtcdError::MemberNotFound.into(),
        // Nobody would be left to decide anything.
        ReconfigureError::Impossible(_) => EtcdError::MemberNotEnoughStarted.into(),
        ReconfigureError::Rejected(
            rejection @ (Rejection::ChangeInProgress
            | Rejection::PreconditionFailed
            | Rejection::Superseded
            | Rejection::KindChange(_)
            | Rejection::Witness),
        ) => Status::failed_precondition(format!("quorate: {rejection}")),
        ReconfigureError::Rejected(rejection) => rejected(*rejection),
        ReconfigureError::Stopped(_) => EtcdError::Stopped.into(),
        ReconfigureError::Unknown | _ => EtcdError::Timeout.into(),
    }
}

/// A request that was tried again until its deadline, and why it was refused the last time.
fn rejected(rejection: Rejection) -> Status {
    match rejection {
        Rejection::Overloaded => EtcdError::RequestTooManyRequests.into(),
        Rejection::TooLarge => EtcdError::RequestTooLarge.into(),
        Rejection::NoLeader
        | Rejection::NotLeader { .. }
        | Rejection::Transferring
        | Rejection::BadTransferee
        | Rejection::ChangeInProgress
        | Rejection::PreconditionFailed
        | Rejection::Superseded
        | Rejection::KindChange(_)
        | Rejection::Witness
        | Rejection::Removed => EtcdError::Timeout.into(),
    }
}
