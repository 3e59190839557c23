//! `etcdserverpb.Auth`: users, roles, permissions, and logging in.
//!
//! - Questions are answered by what is current, so that whoever has changed something sees it at any member.
//! - Passwords end here: only hashes of them go further.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::Extensions;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::auth_server::Auth as AuthRpc;
use quorate_etcd_api::etcdserverpb::*;
use quorate_kv::{
    AuthCommand, AuthRevision, AuthSwitch, Caller, Command, Credentials, Error, KeyRange, Login, RoleName,
    UnixSeconds, UserName,
};
use tonic::{Request, Response, Status};

use crate::auth::{AuthAnswer, AuthQuestion, Token, Tokens, audit_login, session};
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::services::unexpected;
use crate::translate;

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

    async fn change<T>(&self, request: &Request<T>, command: AuthCommand) -> Result<ResponseHeader, Status> {
        let session = session(request);
        session.note(&command);
        let propose = |caller| self.node.propose(caller, Command::Auth(command.clone()));
        let (header, _) = session.act(&self.node, propose).await?;
        Ok(header)
    }

    async fn ask(&self, question: AuthQuestion) -> Result<AuthAnswer, Status> {
        Ok(answer!(self.node.read(Query::Auth(question)).await?, Auth))
    }

    /// As [`Self::ask`], for whoever calls; `part` takes the answer to this question.
    async fn ask_as<T, A>(
        &self,
        request: &Request<T>,
        question: impl Fn(Caller) -> AuthQuestion,
        part: fn(AuthAnswer) -> Option<Result<A, Error>>,
    ) -> Result<A, Status> {
        let ask = |caller| {
            let answer = self.ask(question(caller));
            async move {
                let part = part(answer.await?).ok_or_else(unexpected)?;
                part.map_err(|error| translate::refused(&error))
            }
        };
        session(request).act(&self.node, ask).await
    }

    async fn users<T>(&self, request: &Request<T>) -> Result<Vec<UserName>, Status> {
        let users = self.ask_as(request, AuthQuestion::Users, |answer| {
            let AuthAnswer::Users(users) = answer else {
                return None;
            };
            Some(users)
        });
        users.await
    }

    async fn roles_of<T>(&self, request: &Request<T>, user: UserName) -> Result<Vec<RoleName>, Status> {
        let question = |caller| AuthQuestion::User(caller, user.clone());
        let roles = self.ask_as(request, question, |answer| {
            let AuthAnswer::User(roles) = answer else {
                return None;
            };
            Some(roles)
        });
        roles.await
    }

    /// Refuses whoever may not see other users and roles than their own, before a name that nobody has is refused.
    async fn must_be_root<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.users(request).await.map(drop)
    }

    /// Refuses a user that is not there: of a role that nobody can have, that is said first.
    async fn must_be_there<T>(&self, request: &Request<T>, user: UserName) -> Result<(), Status> {
        self.roles_of(request, user).await.map(drop)
    }

    /// A token for the user whose password this is, unless whoever asks has guessed too often.
    async fn authenticate_from(
        &self,
        extensions: &Extensions,
        request: AuthenticateRequest,
    ) -> Result<(ResponseHeader, Token), Status> {
        let name = request.name.clone();
        let turn = self.node.attempts().turn(extensions).await?;
        turn.check(&name, Instant::now())?;
        let outcome = self.log_in(request).await;
        match &outcome {
            Ok(_) => turn.succeeded(&name),
            Err(status) if status.message() == EtcdError::AuthFailed.message() => {
                turn.failed(&name, Instant::now());
            }
            Err(_) => {}
        }
        outcome
    }

    /// A token for the user whose password this is.
    async fn log_in(&self, request: AuthenticateRequest) -> Result<(ResponseHeader, Token), Status> {
        let user = match UserName::parse(request.name) {
            Ok(user) => user,
            // A name that nobody can have is nobody's; but whether anybody may log in is said first.
            Err(_) => return Err(self.refusal_of_nobody().await?.into()),
        };
        for _ in 0..MAX_ATTEMPTS {
            let AuthAnswer::Password(status, hash) = self.ask(AuthQuestion::Password(user.clone())).await?
            else {
                return Err(unexpected());
            };
            if status.switch == AuthSwitch::Off {
                return Err(EtcdError::AuthNotEnabled.into());
            }
            if !self
                .node
                .passwords()
                .check(request.password.clone(), hash)
                .await?
            {
                return Err(EtcdError::AuthFailed.into());
            }
            match self.issue(&user, status.revision).await {
                // Users were changed while the password was checked: perhaps this one.
                Err(status) if status.message() == EtcdError::AuthOldRevision.message() => {}
                issued => return issued,
            }
        }
        Err(EtcdError::AuthOldRevision.into())
    }

    async fn refusal_of_nobody(&self) -> Result<EtcdError, Status> {
        self.node.confirm_current().await?;
        Ok(match self.node.shared().auth_status().switch {
            AuthSwitch::Off => EtcdError::AuthNotEnabled,
            AuthSwitch::On => EtcdError::AuthFailed,
        })
    }

    async fn issue(
        &self,
        user: &UserName,
        revision: AuthRevision,
    ) -> Result<(ResponseHeader, Token), Status> {
        let user = user.clone();
        match self.node.tokens() {
            Tokens::Simple => {
                let token = Token::random()?;
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let login = Login {
                    user,
                    revision,
                    digest: token.digest(),
                    issued: UnixSeconds(since_epoch.as_secs()),
                };
                let command = Command::Auth(AuthCommand::Login(login));
                let (header, _) = self.node.propose(Caller::Anonymous, command).await?;
                Ok((header, token))
            }
            Tokens::Jwt(jwt) => {
                let token = jwt.sign(&Credentials { user, revision })?;
                Ok((self.node.header_now(), token))
            }
        }
    }
}

#[tonic::async_trait]
impl AuthRpc for Auth {
    async fn auth_enable(
        &self,
        request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        let header = Some(self.change(&request, AuthCommand::Enable).await?);
        Ok(Response::new(AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        let header = Some(self.change(&request, AuthCommand::Disable).await?);
        Ok(Response::new(AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        _: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        self.node.confirm_current().await?;
        let status = self.node.shared().auth_status();
        Ok(Response::new(AuthStatusResponse {
            header: Some(self.node.header_now()),
            enabled: status.switch == AuthSwitch::On,
            auth_revision: status.revision.0,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let name = request.name.clone();
        let outcome = self.authenticate_from(&extensions, request).await;
        audit_login(&name, &extensions, outcome.as_ref().map(drop));
        let (header, token) = outcome?;
        Ok(Response::new(AuthenticateResponse {
            header: Some(header),
            token: token.expose(),
        }))
    }

    async fn user_add(
        &self,
        mut request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        let AuthUserAddRequest {
            name,
            password,
            options,
            ..
        } = std::mem::take(request.get_mut());
        let user = UserName::parse(name).map_err(|error| translate::refused(&error))?;
        let password = match options {
            Some(options) if options.no_password => None,
            Some(_) | None => Some(self.node.passwords().hash(password).await?),
        };
        let command = AuthCommand::UserAdd { user, password };
        let header = Some(self.change(&request, command).await?);
        Ok(Response::new(AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        let Ok(user) = UserName::parse(request.get_ref().name.clone()) else {
            self.must_be_root(&request).await?;
            return Err(EtcdError::UserNotFound.into());
        };
        let roles = self.roles_of(&request, user).await?;
        Ok(Response::new(AuthUserGetResponse {
            header: Some(self.node.header_now()),
            roles: names(&roles),
        }))
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        let users = self.users(&request).await?;
        Ok(Response::new(AuthUserListResponse {
            header: Some(self.node.header_now()),
            users: names(&users),
        }))
    }

    async fn user_delete(
        &self,
        request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        let user = existing_user(request.get_ref().name.clone())?;
        let header = Some(self.change(&request, AuthCommand::UserDelete { user }).await?);
        Ok(Response::new(AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        mut request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        let AuthUserChangePasswordRequest { name, password, .. } = std::mem::take(request.get_mut());
        let user = existing_user(name)?;
        let password = self.node.passwords().hash(password).await?;
        let command = AuthCommand::UserChangePassword { user, password };
        let header = Some(self.change(&request, command).await?);
        Ok(Response::new(AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        let AuthUserGrantRoleRequest { user, role } = request.get_ref().clone();
        let user = existing_user(user)?;
        let Ok(role) = RoleName::parse(role) else {
            self.must_be_there(&request, user).await?;
            return Err(EtcdError::RoleNotFound.into());
        };
        let command = AuthCommand::UserGrantRole { user, role };
        let header = Some(self.change(&request, command).await?);
        Ok(Response::new(AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        let AuthUserRevokeRoleRequest { name, role } = request.get_ref().clone();
        let user = existing_user(name)?;
        let Ok(role) = RoleName::parse(role) else {
            self.must_be_there(&request, user).await?;
            return Err(EtcdError::RoleNotGranted.into());
        };
        let command = AuthCommand::UserRevokeRole { user, role };
        let header = Some(self.change(&request, command).await?);
        Ok(Response::new(AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        let role =
            RoleName::parse(request.get_ref().name.clone()).map_err(|error| translate::refused(&error))?;
        let header = Some(self.change(&request, AuthCommand::RoleAdd { role }).await?);
        Ok(Response::new(AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        let Ok(role) = RoleName::parse(request.get_ref().role.clone()) else {
            self.must_be_root(&request).await?;
            return Err(EtcdError::RoleNotFound.into());
        };
        let question = |caller| AuthQuestion::Role(caller, role.clone());
        let permissions = self.ask_as(&request, question, |answer| {
            let AuthAnswer::Role(permissions) = answer else {
                return None;
            };
            Some(permissions)
        });
        let permissions = permissions.await?;
        Ok(Response::new(AuthRoleGetResponse {
            header: Some(self.node.header_now()),
            perm: permissions.iter().map(translate::permission_response).collect(),
        }))
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        let roles = self.ask_as(&request, AuthQuestion::Roles, |answer| {
            let AuthAnswer::Roles(roles) = answer else {
                return None;
            };
            Some(roles)
        });
        let roles = roles.await?;
        Ok(Response::new(AuthRoleListResponse {
            header: Some(self.node.header_now()),
            roles: names(&roles),
        }))
    }

    async fn role_delete(
        &self,
        request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        let role = existing_role(request.get_ref().role.clone())?;
        let header = Some(self.change(&request, AuthCommand::RoleDelete { role }).await?);
        Ok(Response::new(AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        let AuthRoleGrantPermissionRequest { name, perm } = request.get_ref().clone();
        let permission = translate::permission(perm.ok_or(EtcdError::PermissionNotGiven)?)?;
        let role = existing_role(name)?;
        let command = AuthCommand::RoleGrantPermission { role, permission };
        let header = Some(self.change(&request, command).await?);
        Ok(Response::new(AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        let AuthRoleRevokePermissionRequest { role, key, range_end } = request.get_ref().clone();
        let role = existing_role(role)?;
        let keys = KeyRange::parse(key, range_end).map_err(|_| EtcdError::PermissionNotGranted)?;
        let command = AuthCommand::RoleRevokePermission { role, keys };
        let header = Some(self.change(&request, command).await?);
        Ok(Response::new(AuthRoleRevokePermissionResponse { header }))
    }
}

/// The name of a user that is there: none has an empty one.
fn existing_user(name: String) -> Result<UserName, Status> {
    UserName::parse(name).map_err(|_| EtcdError::UserNotFound.into())
}

/// The name of a role that is there: none has an empty one.
fn existing_role(name: String) -> Result<RoleName, Status> {
    RoleName::parse(name).map_err(|_| EtcdError::RoleNotFound.into())
}

fn names<N: ToString>(names: &[N]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// How often a login is tried again because users change all the time.
const MAX_ATTEMPTS: usize = 8;
