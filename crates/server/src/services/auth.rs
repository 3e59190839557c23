//! `etcdserverpb.Auth`: users and roles are not served; the status says that they are off.

use std::sync::Arc;

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::auth_server::Auth as AuthRpc;
use quorate_etcd_api::etcdserverpb::*;
use tonic::{Request, Response, Status};

use crate::node::Node;

/// The service.
pub(crate) struct Auth {
    node: Arc<Node>,
}

impl Auth {
    /// The service of `node`.
    pub(crate) fn new(node: &Arc<Node>) -> Auth {
        let node = Arc::clone(node);
        Auth { node }
    }
}

/// What a method that changes users or roles answers.
fn unserved<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("quorate: authentication is not served"))
}

/// Declares the methods that are not served.
macro_rules! unserved {
    ($($method:ident($request:ty) -> $response:ty;)*) => {
        #[tonic::async_trait]
        impl AuthRpc for Auth {
            async fn auth_status(
                &self,
                _: Request<AuthStatusRequest>,
            ) -> Result<Response<AuthStatusResponse>, Status> {
                let header = Some(self.node.header_now());
                Ok(Response::new(AuthStatusResponse {
                    header,
                    enabled: false,
                    auth_revision: 1,
                }))
            }

            async fn authenticate(
                &self,
                _: Request<AuthenticateRequest>,
            ) -> Result<Response<AuthenticateResponse>, Status> {
                Err(EtcdError::AuthNotEnabled.into())
            }

            async fn auth_disable(
                &self,
                _: Request<AuthDisableRequest>,
            ) -> Result<Response<AuthDisableResponse>, Status> {
                // It is off already, as etcd answers too.
                let header = Some(self.node.header_now());
                Ok(Response::new(AuthDisableResponse { header }))
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                unserved()
            })*
        }
    };
}

unserved! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse;
    user_add(AuthUserAddRequest) -> AuthUserAddResponse;
    user_get(AuthUserGetRequest) -> AuthUserGetResponse;
    user_list(AuthUserListRequest) -> AuthUserListResponse;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
    role_list(AuthRoleListRequest) -> AuthRoleListResponse;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
}
