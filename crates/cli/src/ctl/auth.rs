//! `auth`, and `user`: who may log in.

use super::args;
use super::connection::{Client, Effect, auth};
use super::failure::Failure;
use super::print::json::{self, Object};
use super::print::text::Text;
use super::print::{Done, Printer, Report};
use super::role::{self, Role};
use super::terminal;
use crate::output;
use clap::{Args, Subcommand};
use prost::Message;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::authpb::UserAddOptions;
use quorate_etcd_api::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest, AuthStatusResponse,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest,
};
use std::ffi::OsString;

/// What can be done about authentication as a whole.
#[derive(Subcommand)]
pub(crate) enum Auth {
    /// Serve only those who log in
    #[command(after_help = "Example:\n  quorate ctl auth enable")]
    Enable,
    /// Serve everybody
    #[command(after_help = "Example:\n  quorate ctl auth disable --user root:secret")]
    Disable,
    /// Show whether one must log in
    #[command(after_help = "Example:\n  quorate ctl auth status")]
    Status,
}

impl Auth {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Enable => {
                enable(client).await?;
                Ok(output::print("Authentication Enabled\n")?)
            }
            Self::Disable => {
                let disable = async |service| auth(service).auth_disable(AuthDisableRequest {}).await;
                client.ask(Effect::Writes, disable).await?;
                Ok(output::print("Authentication Disabled\n")?)
            }
            Self::Status => {
                printer.has_no_table()?;
                let status = async |service| auth(service).auth_status(AuthStatusRequest {}).await;
                printer.print(&client.ask(Effect::Reads, status).await?)
            }
        }
    }
}

/// Enables authentication; gives the user root its role first if it lacks that.
async fn enable(client: &Client) -> Result<(), Failure> {
    let enable = async |service| auth(service).auth_enable(AuthEnableRequest {}).await;
    match client.ask(Effect::Writes, enable).await {
        Err(failure) if failure.message() == EtcdError::RootRoleNotExist.message() => {}
        outcome => return outcome.map(|_| ()),
    }
    let root = || "root".to_string();
    let add = async |service| auth(service).role_add(AuthRoleAddRequest { name: root() }).await;
    match client.ask(Effect::Writes, add).await {
        Err(failure) if failure.message() != EtcdError::RoleAlreadyExist.message() => return Err(failure),
        Ok(_) | Err(_) => {}
    }
    let grant = AuthUserGrantRoleRequest {
        user: root(),
        role: root(),
    };
    let grant = async |service| auth(service).user_grant_role(grant.clone()).await;
    client.ask(Effect::Writes, grant).await?;
    client.ask(Effect::Writes, enable).await.map(|_| ())
}

impl Report for AuthStatusResponse {
    fn simple(&self, text: &mut Text) {
        text.line(format_args!("Authentication Status: {}", self.enabled));
        text.line(format_args!("AuthRevision: {}", self.auth_revision));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        text.field("Enabled", self.enabled);
        text.field("AuthRevision", self.auth_revision);
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.header.as_ref())
            .flag("enabled", self.enabled)
            .number("authRevision", self.auth_revision)
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

/// What can be done with users.
#[derive(Subcommand)]
pub(crate) enum User {
    /// Add a user
    #[command(after_help = "Example:\n  quorate ctl user add alice\n  quorate ctl user add alice:secret")]
    Add(Add),
    /// Delete a user
    #[command(after_help = "Example:\n  quorate ctl user delete alice")]
    Delete {
        /// The user
        #[arg(value_name = "NAME")]
        words: Vec<OsString>,
    },
    /// Show the roles of a user
    #[command(after_help = "Example:\n  quorate ctl user get alice --detail")]
    Get {
        /// The user
        #[arg(value_name = "NAME")]
        words: Vec<OsString>,
        /// Show what each role may do
        #[arg(long)]
        detail: bool,
    },
    /// Show all users
    #[command(after_help = "Example:\n  quorate ctl user list")]
    List {
        /// There are none
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// Change the password of a user
    #[command(
        after_help = "Example:\n  quorate ctl user passwd alice\n  echo secret | quorate ctl user passwd alice --interactive=false"
    )]
    Passwd {
        /// The user
        #[arg(value_name = "NAME")]
        words: Vec<OsString>,
        /// Ask for the password twice; else read a line of standard input
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        interactive: bool,
    },
    /// Give a role to a user
    #[command(
        name = "grant-role",
        after_help = "Example:\n  quorate ctl user grant-role alice reading"
    )]
    GrantRole {
        /// The user and the role
        #[arg(value_name = "NAME ROLE")]
        words: Vec<OsString>,
    },
    /// Take a role from a user
    #[command(
        name = "revoke-role",
        after_help = "Example:\n  quorate ctl user revoke-role alice reading"
    )]
    RevokeRole {
        /// The user and the role
        #[arg(value_name = "NAME ROLE")]
        words: Vec<OsString>,
    },
}

/// A user to add.
#[derive(Args)]
pub(crate) struct Add {
    /// The user, or name:password
    #[arg(value_name = "NAME")]
    words: Vec<OsString>,
    /// Ask for the password twice; else read a line of standard input
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    interactive: bool,
    /// The password
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    new_user_password: String,
    /// The user has none, and logs in by a certificate only
    #[arg(long)]
    no_password: bool,
}

impl User {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        printer.has_no_table()?;
        match self {
            Self::Add(add) => add.run(client, printer).await,
            Self::Delete { words } => {
                let name = only(words, "user delete command requires user name as its argument")?;
                let request = AuthUserDeleteRequest { name: name.clone() };
                let delete = async |service| auth(service).user_delete(request.clone()).await;
                let response = client.ask(Effect::Writes, delete).await?;
                done(
                    printer,
                    &response,
                    response.header.as_ref(),
                    format!("User {name} deleted"),
                )
            }
            Self::Get { words, detail } => {
                let name = only(words, "user get command requires user name as its argument")?;
                get(client, printer, name, *detail).await
            }
            Self::List { words } => {
                if !words.is_empty() {
                    return Err(Failure::arguments("user list command requires no arguments"));
                }
                let list = async |service| auth(service).user_list(AuthUserListRequest {}).await;
                printer.print(&client.ask(Effect::Reads, list).await?)
            }
            Self::Passwd { words, interactive } => {
                let name = only(words, "user passwd command requires user name as its argument")?;
                let password = new_password(&name, *interactive)?;
                let request = AuthUserChangePasswordRequest {
                    name,
                    password,
                    hashed_password: String::new(),
                };
                let change = async |service| auth(service).user_change_password(request.clone()).await;
                let response = client.ask(Effect::Writes, change).await?;
                done(
                    printer,
                    &response,
                    response.header.as_ref(),
                    "Password updated".to_string(),
                )
            }
            Self::GrantRole { words } => {
                let message = "user grant command requires user name and role name as its argument";
                let (user, role) = pair(words, message)?;
                let line = format!("Role {role} is granted to user {user}");
                let request = AuthUserGrantRoleRequest { user, role };
                let grant = async |service| auth(service).user_grant_role(request.clone()).await;
                let response = client.ask(Effect::Writes, grant).await?;
                done(printer, &response, response.header.as_ref(), line)
            }
            Self::RevokeRole { words } => {
                let message = "user revoke-role requires user name and role name as its argument";
                let (name, role) = pair(words, message)?;
                let line = format!("Role {role} is revoked from user {name}");
                let request = AuthUserRevokeRoleRequest { name, role };
                let revoke = async |service| auth(service).user_revoke_role(request.clone()).await;
                let response = client.ask(Effect::Writes, revoke).await?;
                done(printer, &response, response.header.as_ref(), line)
            }
        }
    }
}

/// Prints an answer that only has a header.
///
/// # Errors
///
/// As [`Printer::print`].
pub(super) fn done<M: Message>(
    printer: Printer,
    message: &M,
    header: Option<&quorate_etcd_api::etcdserverpb::ResponseHeader>,
    line: String,
) -> Result<(), Failure> {
    printer.print(&Done {
        header,
        message,
        line,
    })
}

/// The only argument.
///
/// # Errors
///
/// With `message` if there are none or more.
pub(super) fn only(words: &[OsString], message: &str) -> Result<String, Failure> {
    match words {
        [word] => Ok(args::text(word)),
        _ => Err(Failure::arguments(message)),
    }
}

fn pair(words: &[OsString], message: &str) -> Result<(String, String), Failure> {
    match words {
        [first, second] => Ok((args::text(first), args::text(second))),
        _ => Err(Failure::arguments(message)),
    }
}

impl Add {
    async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        let word = only(&self.words, "user add command requires user name as its argument")?;
        let (name, password) = match (word.split_once(':'), self.new_user_password.as_str()) {
            _ if self.no_password => (word.clone(), String::new()),
            (_, given @ ("" | _)) if !given.is_empty() => (word.clone(), given.to_string()),
            (Some((name, password)), _) => (name.to_string(), password.to_string()),
            (None, _) => (word.clone(), new_password(&word, self.interactive)?),
        };
        if name.is_empty() {
            return Err(Failure::arguments("empty user name is not allowed"));
        }
        let request = AuthUserAddRequest {
            name: name.clone(),
            password,
            options: Some(UserAddOptions {
                no_password: self.no_password,
            }),
            hashed_password: String::new(),
        };
        let add = async |service| auth(service).user_add(request.clone()).await;
        let response = client.ask(Effect::Writes, add).await?;
        done(
            printer,
            &response,
            response.header.as_ref(),
            format!("User {name} created"),
        )
    }
}

/// A password for a user: asked for twice, or a line of standard input.
fn new_password(name: &str, interactive: bool) -> Result<String, Failure> {
    if !interactive {
        return terminal::line();
    }
    let first = terminal::secret(&format!("Password of {name}: "))?;
    if first.is_empty() {
        return Err(Failure::arguments("empty password"));
    }
    let second = terminal::secret(&format!("Type password of {name} again for confirmation: "))?;
    match first == second {
        true => Ok(first),
        false => Err(Failure::arguments("given passwords are different.")),
    }
}

async fn get(client: &Client, printer: Printer, name: String, detail: bool) -> Result<(), Failure> {
    let request = AuthUserGetRequest { name: name.clone() };
    let get = async |service| auth(service).user_get(request.clone()).await;
    let response = client.ask(Effect::Reads, get).await?;
    if !detail {
        return printer.print(&UserRoles {
            name: &name,
            response: &response,
        });
    }
    output::print(&format!("User: {name}\n"))?;
    for role in response.roles {
        output::print("\n")?;
        let response = role::get(client, role.clone()).await?;
        printer.print(&Role {
            name: &role,
            response: &response,
        })?;
    }
    Ok(())
}

struct UserRoles<'a> {
    name: &'a str,
    response: &'a AuthUserGetResponse,
}

impl Report for UserRoles<'_> {
    fn simple(&self, text: &mut Text) {
        text.line(format_args!("User: {}", self.name));
        let roles = self.response.roles.iter().map(|role| format!(" {role}"));
        text.line(format_args!("Roles:{}", roles.collect::<String>()));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.response.header.as_ref());
        for role in &self.response.roles {
            text.quoted("Role", role.as_bytes());
        }
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.response.header.as_ref())
            .list("roles", self.response.roles.iter().map(|role| json::text(role)))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}

impl Report for AuthUserListResponse {
    fn simple(&self, text: &mut Text) {
        self.users.iter().for_each(|user| text.line(user));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        for user in &self.users {
            text.quoted("User", user.as_bytes());
        }
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.header.as_ref())
            .list("users", self.users.iter().map(|user| json::text(user)))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
