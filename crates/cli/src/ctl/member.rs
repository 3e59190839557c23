//! `member`: who the members are, and changes of them.

use super::args;
use super::connection::{Client, Effect, cluster};
use super::failure::Failure;
use super::print::json::{self, Object};
use super::print::table::Table;
use super::print::text::Text;
use super::print::{Done, Printer, Report};
use crate::output;
use clap::{Args, Subcommand};
use prost::Message;
use quorate_etcd_api::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};
use std::ffi::OsString;

/// What can be done with members.
#[derive(Subcommand)]
pub(crate) enum Members {
    /// Show the members
    #[command(after_help = "Example:\n  quorate ctl member list -w table")]
    List {
        /// Ignored
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// Add a member, and show how to start it
    #[command(after_help = "Example:\n  quorate ctl member add d --peer-urls http://10.0.0.4:2380")]
    Add(Add),
    /// Remove a member
    #[command(after_help = "Example:\n  quorate ctl member remove 91716de20897e7a2")]
    Remove {
        /// The member, in hexadecimal
        #[arg(value_name = "ID")]
        words: Vec<OsString>,
    },
    /// Change where peers reach a member
    #[command(
        after_help = "Example:\n  quorate ctl member update 91716de20897e7a2 --peer-urls http://10.0.0.9:2380"
    )]
    Update {
        /// The member, in hexadecimal
        #[arg(value_name = "ID")]
        words: Vec<OsString>,
        /// Its new URLs for peers, separated by commas
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        peer_urls: Vec<String>,
    },
    /// Let a learner vote
    #[command(after_help = "Example:\n  quorate ctl member promote 91716de20897e7a2")]
    Promote {
        /// The member, in hexadecimal
        #[arg(value_name = "ID")]
        words: Vec<OsString>,
    },
}

/// A member to add.
#[derive(Args)]
pub(crate) struct Add {
    /// What it is called
    #[arg(value_name = "NAME")]
    words: Vec<OsString>,
    /// Its URLs for peers, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    peer_urls: Vec<String>,
    /// It does not vote until it is promoted
    #[arg(long)]
    learner: bool,
}

impl Members {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        if let Self::List { .. } = self {
            return printer.print(&list(client, true).await?);
        }
        printer.has_no_table()?;
        match self {
            Self::List { .. } => Ok(()),
            Self::Add(add) => add.run(client, printer).await,
            Self::Remove { words } => {
                let id = member_id(words)?;
                let remove = async |service| cluster(service).member_remove(MemberRemoveRequest { id }).await;
                let response = client.ask(Effect::Writes, remove).await?;
                printer.print(&Changed::new(
                    &response,
                    response.header.as_ref(),
                    &response.members,
                    |at| format!("Member {id:16x} removed from cluster {at:16x}"),
                ))
            }
            Self::Update { words, peer_urls } => {
                let id = member_id(words)?;
                if peer_urls.is_empty() {
                    return Err(Failure::arguments("member peer urls not provided"));
                }
                let request = MemberUpdateRequest {
                    id,
                    peer_ur_ls: checked(peer_urls)?,
                };
                let update = async |service| cluster(service).member_update(request.clone()).await;
                let response = client.ask(Effect::Writes, update).await?;
                printer.print(&Changed::new(
                    &response,
                    response.header.as_ref(),
                    &response.members,
                    |at| format!("Member {id:16x} updated in cluster {at:16x}"),
                ))
            }
            Self::Promote { words } => {
                let id = member_id(words)?;
                let promote =
                    async |service| cluster(service).member_promote(MemberPromoteRequest { id }).await;
                let response = client.ask(Effect::Writes, promote).await?;
                printer.print(&Changed::new(
                    &response,
                    response.header.as_ref(),
                    &response.members,
                    |at| format!("Member {id:16x} promoted in cluster {at:16x}"),
                ))
            }
        }
    }
}

/// The members; as this endpoint knows them unless `linearizable`.
///
/// # Errors
///
/// As the server refuses to tell.
pub(super) async fn list(client: &Client, linearizable: bool) -> Result<MemberListResponse, Failure> {
    let list = async |service| {
        cluster(service)
            .member_list(MemberListRequest { linearizable })
            .await
    };
    client.ask(Effect::Reads, list).await
}

fn member_id(words: &[OsString]) -> Result<u64, Failure> {
    let [id] = words else {
        return Err(Failure::arguments("member ID is not provided"));
    };
    let id = args::unsigned(&args::text(id), 16);
    id.map_err(|error| Failure::arguments(format!("bad member ID arg ({error}), expecting ID in Hex")))
}

/// URLs that have a scheme of those that peers are reached by.
fn checked(urls: &[String]) -> Result<Vec<String>, Failure> {
    let schemes = ["http://", "https://", "unix://", "unixs://"];
    let is_bad = |url: &&String| !schemes.iter().any(|scheme| url.starts_with(scheme));
    match urls.iter().find(is_bad) {
        Some(url) => Err(Failure::error(format!(
            "URL scheme must be http, https, unix, or unixs: {url}"
        ))),
        None => Ok(urls.to_vec()),
    }
}

impl Add {
    async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        let name = match self.words.as_slice() {
            [] => return Err(Failure::arguments("member name not provided")),
            [name] => args::text(name),
            _ => return Err(Failure::arguments("too many arguments")),
        };
        if self.peer_urls.is_empty() {
            return Err(Failure::arguments("member peer urls not provided"));
        }
        let request = MemberAddRequest {
            peer_ur_ls: checked(&self.peer_urls)?,
            is_learner: self.learner,
        };
        let add = async |service| cluster(service).member_add(request.clone()).await;
        let response = client.ask(Effect::Writes, add).await?;
        let id = response.member.as_ref().map_or(0, |member| member.id);
        printer.print(&Added(&response))?;
        match printer.is_simple() {
            true => Ok(output::print(&environment(
                id,
                &name,
                &response.members,
                &self.peer_urls,
            ))?),
            false => Ok(()),
        }
    }
}

/// The environment that starts a new member.
fn environment(id: u64, name: &str, members: &[Member], urls: &[String]) -> String {
    let named = members.iter().flat_map(|member| {
        let name = if member.id == id { name } else { &member.name };
        member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
    });
    let cluster: Vec<String> = named.collect();
    format!(
        "\nETCD_NAME={name:?}\nETCD_INITIAL_CLUSTER=\"{}\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        cluster.join(","),
        urls.join(",")
    )
}

struct Added<'a>(&'a MemberAddResponse);

impl Report for Added<'_> {
    fn simple(&self, text: &mut Text) {
        let id = self.0.member.as_ref().map_or(0, |member| member.id);
        let cluster = self.0.header.as_ref().map_or(0, |header| header.cluster_id);
        text.line(format_args!("Member {id:16x} added to cluster {cluster:16x}"));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.0.header.as_ref());
        if let Some(member) = &self.0.member {
            text.field("ID", member.id);
            text.field("IsLearner", member.is_learner);
            for url in &member.peer_ur_ls {
                text.quoted("PeerURL", url.as_bytes());
            }
        }
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.0.header.as_ref())
            .maybe("member", self.0.member.as_ref().map(json::member))
            .list("members", self.0.members.iter().map(json::member))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.0.encode_to_vec())
    }
}

/// A change that was made, and the members since.
struct Changed<'a, M> {
    done: Done<'a, M>,
    members: &'a [Member],
}

impl<'a, M> Changed<'a, M> {
    fn new(
        message: &'a M,
        header: Option<&'a ResponseHeader>,
        members: &'a [Member],
        line: impl FnOnce(u64) -> String,
    ) -> Self {
        let cluster = header.map_or(0, |header| header.cluster_id);
        Self {
            done: Done {
                header,
                message,
                line: line(cluster),
            },
            members,
        }
    }
}

impl<M: Message> Report for Changed<'_, M> {
    fn simple(&self, text: &mut Text) {
        self.done.simple(text);
    }

    fn fields(&self, text: &mut Text) {
        self.done.fields(text);
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.done.header)
            .list("members", self.members.iter().map(json::member))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        self.done.protobuf()
    }
}

fn status(member: &Member) -> &'static str {
    match member.name.as_str() {
        "" => "unstarted",
        _ => "started",
    }
}

fn row(member: &Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        status(member).to_string(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

impl Report for MemberListResponse {
    fn simple(&self, text: &mut Text) {
        for member in &self.members {
            text.line(row(member).join(", "));
        }
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        for member in &self.members {
            text.field("ID", member.id);
            text.quoted("Name", member.name.as_bytes());
            member
                .peer_ur_ls
                .iter()
                .for_each(|url| text.quoted("PeerURL", url.as_bytes()));
            member
                .client_ur_ls
                .iter()
                .for_each(|url| text.quoted("ClientURL", url.as_bytes()));
            text.field("IsLearner", member.is_learner);
            text.line("");
        }
    }

    fn json(&self, hex: bool) -> String {
        if !hex {
            return Object::new()
                .header("header", self.header.as_ref())
                .list("members", self.members.iter().map(json::member))
                .end();
        }
        let header = self.header.unwrap_or_default();
        let quoted = |id: u64| json::text(&format!("{id:x}"));
        let urls = |urls: &[String]| match urls {
            [] => "null".to_string(),
            urls => json::list(urls.iter().map(|url| json::text(url))),
        };
        let header = Object::new()
            .always("cluster_id", quoted(header.cluster_id))
            .always("member_id", quoted(header.member_id))
            .always("raft_term", header.raft_term);
        // The case of these names is etcdctl's.
        let member = |member: &Member| {
            Object::new()
                .always("ID", quoted(member.id))
                .always("name", json::text(&member.name))
                .always("peerURLs", urls(&member.peer_ur_ls))
                .always("clientURLS", urls(&member.client_ur_ls))
                .end()
        };
        Object::new()
            .always("header", header.end())
            .always("members", json::list(self.members.iter().map(member)))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }

    fn table(&self) -> Option<Table> {
        Some(Table {
            header: vec!["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"],
            rows: self.members.iter().map(row).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_member_is_named_in_the_environment_that_starts_it() {
        let member = |id, name: &str, url: &str| Member {
            id,
            name: name.to_string(),
            peer_ur_ls: vec![url.to_string()],
            ..Member::default()
        };
        let members = [member(1, "a", "http://a:1"), member(2, "", "http://d:1")];
        let environment = environment(2, "d", &members, &["http://d:1".to_string()]);
        assert!(environment.contains("\nETCD_NAME=\"d\"\n"), "{environment}");
        assert!(
            environment.contains("ETCD_INITIAL_CLUSTER=\"a=http://a:1,d=http://d:1\"\n"),
            "{environment}"
        );
    }
}
