//! `role`: what users with a role may do.

use super::args::{self, Keys, ZERO, prefix_end};
use super::auth::{done, only};
use super::connection::{Client, Effect, auth};
use super::failure::Failure;
use super::print::json::{self, Object};
use super::print::text::Text;
use super::print::{Printer, Report};
use clap::{Args, Subcommand};
use prost::Message;
use quorate_etcd_api::authpb::Permission;
use quorate_etcd_api::authpb::permission::Type;
use quorate_etcd_api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest,
};
use std::ffi::OsString;

/// What can be done with roles.
#[derive(Subcommand)]
pub(crate) enum Roles {
    /// Add a role
    #[command(after_help = "Example:\n  quorate ctl role add reading")]
    Add {
        /// The role
        #[arg(value_name = "NAME")]
        words: Vec<OsString>,
    },
    /// Delete a role
    #[command(after_help = "Example:\n  quorate ctl role delete reading")]
    Delete {
        /// The role
        #[arg(value_name = "NAME")]
        words: Vec<OsString>,
    },
    /// Show what a role may do
    #[command(after_help = "Example:\n  quorate ctl role get reading")]
    Get {
        /// The role
        #[arg(value_name = "NAME")]
        words: Vec<OsString>,
    },
    /// Show all roles
    #[command(after_help = "Example:\n  quorate ctl role list")]
    List {
        /// There are none
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// Let a role read or write keys
    #[command(
        name = "grant-permission",
        after_help = "Example:\n  quorate ctl role grant-permission reading read --prefix config/"
    )]
    GrantPermission {
        /// The role; read, write or readwrite; the key; and the key after the last
        #[arg(value_name = "NAME TYPE KEY [END_KEY]")]
        words: Vec<OsString>,
        #[command(flatten)]
        range: RangeFlags,
    },
    /// Take a permission from a role
    #[command(
        name = "revoke-permission",
        after_help = "Example:\n  quorate ctl role revoke-permission reading --prefix config/"
    )]
    RevokePermission {
        /// The role; the key; and the key after the last
        #[arg(value_name = "NAME KEY [END_KEY]")]
        words: Vec<OsString>,
        #[command(flatten)]
        range: RangeFlags,
    },
}

/// Which keys a key stands for.
#[derive(Args)]
pub(crate) struct RangeFlags {
    /// All keys that begin with the key
    #[arg(long)]
    prefix: bool,
    /// All keys from the key on
    #[arg(long)]
    from_key: bool,
}

impl RangeFlags {
    /// The keys of a permission.
    fn keys(&self, key: &OsString, end: Option<&OsString>) -> Result<Keys, Failure> {
        let key = args::bytes(key);
        match (self.prefix, self.from_key, end) {
            (true, true, _) => Err(Failure::arguments(
                "--from-key and --prefix flags are mutually exclusive",
            )),
            (true, false, Some(_)) => Err(Failure::arguments(
                "unexpected endkey argument with --prefix flag",
            )),
            (false, true, Some(_)) => Err(Failure::arguments(
                "unexpected endkey argument with --from-key flag",
            )),
            (true, false, None) => Ok(Keys::prefixed(key)),
            (false, true, None) => Ok(Keys::from(key)),
            (false, false, end) => Ok(Keys {
                key: match key.is_empty() {
                    true => ZERO,
                    false => key,
                },
                range_end: end.map(args::bytes).unwrap_or_default(),
            }),
        }
    }
}

impl Roles {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        printer.has_no_table()?;
        match self {
            Self::Add { words } => {
                let name = only(words, "role add command requires role name as its argument")?;
                let request = AuthRoleAddRequest { name: name.clone() };
                let add = async |service| auth(service).role_add(request.clone()).await;
                let response = client.ask(Effect::Writes, add).await?;
                done(
                    printer,
                    &response,
                    response.header.as_ref(),
                    format!("Role {name} created"),
                )
            }
            Self::Delete { words } => {
                let role = only(words, "role delete command requires role name as its argument")?;
                let request = AuthRoleDeleteRequest { role: role.clone() };
                let delete = async |service| auth(service).role_delete(request.clone()).await;
                let response = client.ask(Effect::Writes, delete).await?;
                done(
                    printer,
                    &response,
                    response.header.as_ref(),
                    format!("Role {role} deleted"),
                )
            }
            Self::Get { words } => {
                let name = only(words, "role get command requires role name as its argument")?;
                let response = get(client, name.clone()).await?;
                printer.print(&Role {
                    name: &name,
                    response: &response,
                })
            }
            Self::List { words } => {
                if !words.is_empty() {
                    return Err(Failure::arguments("role list command requires no arguments"));
                }
                let list = async |service| auth(service).role_list(AuthRoleListRequest {}).await;
                printer.print(&client.ask(Effect::Reads, list).await?)
            }
            Self::GrantPermission { words, range } => grant(client, printer, words, range).await,
            Self::RevokePermission { words, range } => revoke(client, printer, words, range).await,
        }
    }
}

/// What a role may do.
///
/// # Errors
///
/// As the server refuses to tell.
pub(super) async fn get(client: &Client, role: String) -> Result<AuthRoleGetResponse, Failure> {
    let request = AuthRoleGetRequest { role };
    let get = async |service| auth(service).role_get(request.clone()).await;
    client.ask(Effect::Reads, get).await
}

async fn grant(
    client: &Client,
    printer: Printer,
    words: &[OsString],
    range: &RangeFlags,
) -> Result<(), Failure> {
    let (name, kind, key, end) = match words {
        [name, kind, key] => (name, kind, key, None),
        [name, kind, key, end] => (name, kind, key, Some(end)),
        _ => {
            return Err(Failure::arguments(
                "role grant command requires role name, permission type, and key [endkey] as its argument",
            ));
        }
    };
    let kind = args::text(kind);
    let perm_type = match kind.to_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => return Err(Failure::arguments(format!("invalid permission type: {kind}"))),
    };
    let Keys { key, range_end } = range.keys(key, end)?;
    let name = args::text(name);
    let request = AuthRoleGrantPermissionRequest {
        name: name.clone(),
        perm: Some(Permission {
            perm_type: perm_type.into(),
            key,
            range_end,
        }),
    };
    let grant = async |service| auth(service).role_grant_permission(request.clone()).await;
    let response = client.ask(Effect::Writes, grant).await?;
    done(
        printer,
        &response,
        response.header.as_ref(),
        format!("Role {name} updated"),
    )
}

async fn revoke(
    client: &Client,
    printer: Printer,
    words: &[OsString],
    range: &RangeFlags,
) -> Result<(), Failure> {
    let (role, key, end) = match words {
        [role, key] => (role, key, None),
        [role, key, end] => (role, key, Some(end)),
        _ => {
            return Err(Failure::arguments(
                "role revoke-permission command requires role name and key [endkey] as its argument",
            ));
        }
    };
    let keys = range.keys(key, end)?;
    let role = args::text(role);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let key = shown(&keys.key);
    let what = match keys.range_end.as_ref() {
        [] => format!("key {key}"),
        [0] => format!("range [{key}, <open ended>"),
        end => format!("range [{key}, {})", shown(end)),
    };
    let request = AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key: keys.key,
        range_end: keys.range_end,
    };
    let revoke = async |service| auth(service).role_revoke_permission(request.clone()).await;
    let response = client.ask(Effect::Writes, revoke).await?;
    let line = format!("Permission of {what} is revoked from role {role}");
    done(printer, &response, response.header.as_ref(), line)
}

/// A role with its permissions.
pub(super) struct Role<'a> {
    pub(super) name: &'a str,
    pub(super) response: &'a AuthRoleGetResponse,
}

impl Role<'_> {
    fn section(&self, text: &mut Text, title: &str, kind: Type) {
        text.line(title);
        let allows = |permission: &&Permission| [kind, Type::Readwrite].contains(&permission.perm_type());
        for Permission { key, range_end, .. } in self.response.perm.iter().filter(allows) {
            text.raw(b"\t");
            match range_end.as_ref() {
                [] => text.raw(key),
                [0] => text.raw(&[b"[", key.as_ref(), b", <open ended>"].concat()),
                end => {
                    text.raw(&[b"[", key.as_ref(), b", ", end, b")"].concat());
                    if *range_end == prefix_end(key) {
                        text.raw(&[b" (prefix ", key.as_ref(), b")"].concat());
                    }
                }
            }
            text.line("");
        }
    }
}

impl Report for Role<'_> {
    fn simple(&self, text: &mut Text) {
        text.line(format_args!("Role {}", self.name));
        self.section(text, "KV Read:", Type::Read);
        self.section(text, "KV Write:", Type::Write);
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.response.header.as_ref());
        for permission in &self.response.perm {
            // The space before the value is etcdctl's.
            text.field(
                "PermType",
                format_args!(" {}", permission.perm_type().as_str_name()),
            );
            text.quoted("Key", &permission.key);
            text.quoted("RangeEnd", &permission.range_end);
        }
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.response.header.as_ref())
            .list("perm", self.response.perm.iter().map(json::permission))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}

impl Report for AuthRoleListResponse {
    fn simple(&self, text: &mut Text) {
        self.roles.iter().for_each(|role| text.line(role));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        // All of them in one line, as etcdctl has it.
        let roles = self
            .roles
            .iter()
            .map(|role| super::print::text::quote(role.as_bytes()));
        text.field("Roles", roles.collect::<Vec<_>>().join(" "));
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.header.as_ref())
            .list("roles", self.roles.iter().map(|role| json::text(role)))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(
        prefix: bool,
        from_key: bool,
        key: &str,
        end: Option<&str>,
    ) -> Result<(Vec<u8>, Vec<u8>), String> {
        let flags = RangeFlags { prefix, from_key };
        let end = end.map(OsString::from);
        let keys = flags.keys(&OsString::from(key), end.as_ref());
        keys.map(|keys| (keys.key.to_vec(), keys.range_end.to_vec()))
            .map_err(|failure| failure.message().to_string())
    }

    #[test]
    fn permissions_are_for_keys_ranges_prefixes_and_all_that_follows() {
        let pair = |key: &[u8], end: &[u8]| Ok((key.to_vec(), end.to_vec()));
        assert_eq!(keys(false, false, "k", None), pair(b"k", b""));
        assert_eq!(keys(false, false, "k", Some("m")), pair(b"k", b"m"));
        assert_eq!(keys(true, false, "p/", None), pair(b"p/", b"p0"));
        assert_eq!(keys(false, true, "q", None), pair(b"q", b"\0"));
        assert_eq!(keys(true, false, "", None), pair(b"\0", b"\0"));
        assert_eq!(keys(false, false, "", None), pair(b"\0", b""));
        assert!(
            keys(true, true, "k", None)
                .unwrap_err()
                .contains("mutually exclusive")
        );
        assert!(
            keys(true, false, "k", Some("m"))
                .unwrap_err()
                .contains("--prefix")
        );
        assert!(
            keys(false, true, "k", Some("m"))
                .unwrap_err()
                .contains("--from-key")
        );
    }
}
