//! What each call of the authentication service asks, and who calls.

use anyhow::Result;
use quorate_etcd_api::authpb;
use quorate_etcd_api::etcdserverpb as pb;
use tonic::metadata::MetadataValue;

use crate::ask::ask;
use crate::call::{AuthCall, Keys, RoleCall};
use crate::outcome::Outcome;
use crate::subject::Subject;

impl Subject {
    /// Makes a call of this service.
    pub(crate) async fn call_auth(&mut self, call: &AuthCall) -> Result<Outcome> {
        let call = call.clone();
        Ok(match call {
            AuthCall::Enable => ask!(self.auth.auth_enable, pb::AuthEnableRequest {}),
            AuthCall::Disable => {
                let outcome = ask!(self.auth.auth_disable, pb::AuthDisableRequest {});
                if outcome.is_answer() {
                    self.token.set(None);
                }
                outcome
            }
            AuthCall::UserAdd {
                name,
                password,
                no_password,
            } => ask!(
                self.auth.user_add,
                pb::AuthUserAddRequest {
                    name,
                    password,
                    options: Some(authpb::UserAddOptions { no_password }),
                    ..Default::default()
                }
            ),
            AuthCall::UserDelete(name) => ask!(self.auth.user_delete, pb::AuthUserDeleteRequest { name }),
            AuthCall::UserChangePassword { name, password } => ask!(
                self.auth.user_change_password,
                pb::AuthUserChangePasswordRequest {
                    name,
                    password,
                    ..Default::default()
                }
            ),
            AuthCall::UserGet(name) => ask!(self.auth.user_get, pb::AuthUserGetRequest { name }),
            AuthCall::UserList => ask!(self.auth.user_list, pb::AuthUserListRequest {}),
            AuthCall::UserGrantRole { user, role } => {
                ask!(
                    self.auth.user_grant_role,
                    pb::AuthUserGrantRoleRequest { user, role }
                )
            }
            AuthCall::UserRevokeRole { user: name, role } => {
                ask!(
                    self.auth.user_revoke_role,
                    pb::AuthUserRevokeRoleRequest { name, role }
                )
            }
            AuthCall::Role(call) => self.call_roles(call).await,
            AuthCall::LogIn { name, password } => self.log_in(name, password).await?,
            AuthCall::LogOut => {
                self.token.set(None);
                Outcome::note("nobody calls")
            }
            AuthCall::Forge(token) => {
                self.token.set(Some(MetadataValue::try_from(token)?));
                Outcome::note("a forger calls")
            }
        })
    }

    async fn call_roles(&mut self, call: RoleCall) -> Outcome {
        match call {
            RoleCall::Add(name) => ask!(self.auth.role_add, pb::AuthRoleAddRequest { name }),
            RoleCall::Delete(role) => ask!(self.auth.role_delete, pb::AuthRoleDeleteRequest { role }),
            RoleCall::Get(role) => ask!(self.auth.role_get, pb::AuthRoleGetRequest { role }),
            RoleCall::List => ask!(self.auth.role_list, pb::AuthRoleListRequest {}),
            RoleCall::Grant {
                role: name,
                kind,
                keys,
            } => {
                let perm = keys.map(|keys| permission(kind, keys));
                ask!(
                    self.auth.role_grant_permission,
                    pb::AuthRoleGrantPermissionRequest { name, perm }
                )
            }
            RoleCall::Revoke { role, keys } => {
                let Keys { key, range_end } = keys;
                ask!(
                    self.auth.role_revoke_permission,
                    pb::AuthRoleRevokePermissionRequest { role, key, range_end }
                )
            }
        }
    }

    async fn log_in(&mut self, name: String, password: String) -> Result<Outcome> {
        let request = pb::AuthenticateRequest { name, password };
        let before = self.token.take(); // Clients log in without the token that they may have.
        let response = self.auth.authenticate(request).await;
        self.token.set(match &response {
            Ok(response) => Some(MetadataValue::try_from(&response.get_ref().token)?),
            Err(_) => before,
        });
        Ok(self.outcome(response))
    }
}

fn permission(kind: i32, keys: Keys) -> authpb::Permission {
    authpb::Permission {
        perm_type: kind,
        key: keys.key,
        range_end: keys.range_end,
    }
}
