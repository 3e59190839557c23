//! Requests from the wire, for the fuzz targets.

use quorate_etcd_api::{authpb, etcdserverpb as pb};
use quorate_kv::{DeleteRange, Permission, Put, Range, Txn, WatchSpec};
use tonic::Status;

/// See [`super::put`].
///
/// # Errors
/// As clients are told.
pub fn put(request: pb::PutRequest) -> Result<Put, Status> {
    super::put(request)
}

/// See [`super::delete_range`].
///
/// # Errors
/// As clients are told.
pub fn delete_range(request: pb::DeleteRangeRequest) -> Result<DeleteRange, Status> {
    super::delete_range(request)
}

/// See [`super::range`].
///
/// # Errors
/// As clients are told.
pub fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    super::range(request)
}

/// See [`super::txn`].
///
/// # Errors
/// As clients are told.
pub fn txn(request: pb::TxnRequest, allowed: usize) -> Result<Txn, Status> {
    super::txn(request, allowed)
}

/// See [`super::watch`].
#[must_use]
pub fn watch(request: pb::WatchCreateRequest) -> WatchSpec {
    super::watch(request)
}

/// See [`super::permission`].
///
/// # Errors
/// As clients are told.
pub fn permission(request: authpb::Permission) -> Result<Permission, Status> {
    super::permission(request)
}
