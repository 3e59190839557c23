//! Permissions, from the wire and to it.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::authpb;
use quorate_etcd_api::authpb::permission::Type;
use quorate_kv::{Access, KeyRange, Permission};
use tonic::Status;

/// A permission.
pub(crate) fn permission(permission: authpb::Permission) -> Result<Permission, Status> {
    let access = match Type::try_from(permission.perm_type) {
        Ok(Type::Read) => Access::Read,
        Ok(Type::Write) => Access::Write,
        Ok(Type::Readwrite) => Access::ReadWrite,
        Err(_) => return Err(Status::invalid_argument("quorate: unknown type of a permission")),
    };
    let keys = KeyRange::parse(permission.key, permission.range_end);
    let keys = keys.map_err(|_| EtcdError::InvalidAuthMgmt)?;
    Ok(Permission { access, keys })
}

/// A permission as clients see it.
pub(crate) fn permission_response(permission: &Permission) -> authpb::Permission {
    let (key, range_end) = permission.keys.to_pair();
    let perm_type = match permission.access {
        Access::Read => Type::Read,
        Access::Write => Type::Write,
        Access::ReadWrite => Type::Readwrite,
    };
    authpb::Permission {
        perm_type: perm_type.into(),
        key,
        range_end,
    }
}
