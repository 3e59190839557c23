//! `quorate member`: who the members of a cluster are, and changes of them.
//!
//! - It asks any of the endpoints that answers; a change is passed on to the leader, and goes on there
//!   when this command is stopped.
//! - A new member votes as soon as it has caught up. Until then nothing depends on it.
//! - A dead member is replaced in one step: its place is given away once the new one can take it.

mod cluster;
mod replace;
mod show;

use crate::endpoint::TlsFlags;
use crate::login::LoginFlags;
use crate::output;
use clap::{Args, Subcommand, ValueEnum};
use cluster::{Cluster, NewMember};
use quorate_server::Url;

/// The arguments of `quorate member`.
#[derive(Args)]
#[command(after_help = "Example:\n  quorate member list --endpoints 10.0.0.1:2379,10.0.0.2:2379")]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show the members
    #[command(after_help = "Example:\n  quorate member list --output json")]
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Add a member, which votes once it has caught up, and say how to start it
    #[command(after_help = "Example:\n  quorate member add --name d --peer-url http://10.0.0.4:2380")]
    Add {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        new: New,
        /// It votes, but keeps no data
        #[arg(long)]
        witness: bool,
    },
    /// Remove a member, for good
    #[command(after_help = "Example:\n  quorate member remove c")]
    Remove {
        #[command(flatten)]
        common: Common,
        /// Its name or its id
        member: String,
    },
    /// Let a learner vote, if learners are not promoted by themselves
    #[command(after_help = "Example:\n  quorate member promote d")]
    Promote {
        #[command(flatten)]
        common: Common,
        /// Its name or its id
        member: String,
    },
    /// Put a new node in the place of a dead one, and wait until it votes
    #[command(
        after_help = "Example:\n  quorate member replace --dead c --name d --peer-url http://10.0.0.4:2380"
    )]
    Replace {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        new: New,
        /// The member that is gone, by its name or its id
        #[arg(long, value_name = "MEMBER")]
        dead: String,
        /// Replace it though it answers
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args)]
struct Common {
    /// Client endpoints, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        env = "ETCDCTL_ENDPOINTS",
        default_value = "127.0.0.1:2379"
    )]
    endpoints: Vec<String>,
    #[command(flatten)]
    login: LoginFlags,
    #[command(flatten)]
    tls: TlsFlags,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Args)]
struct New {
    /// What the new member is called
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Where the other members will reach it
    #[arg(long, value_name = "URL")]
    peer_url: Url,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Shows or changes the members.
///
/// # Errors
///
/// If no endpoint answers, or the change is refused.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    match options.action {
        Action::List { common } => {
            let cluster = Cluster::at(&common.endpoints, &common.tls, &common.login)?;
            let members = cluster.members().await?;
            output::print(&show::members(&members, common.output))
        }
        Action::Add { common, new, witness } => {
            let new = match witness {
                true => NewMember::witness(new.name, new.peer_url),
                false => NewMember::full(new.name, new.peer_url),
            };
            let cluster = Cluster::at(&common.endpoints, &common.tls, &common.login)?;
            let added = cluster.add(&new, None).await?;
            output::print(&show::added(&new, &added, common.output))
        }
        Action::Remove { common, member } => {
            let cluster = Cluster::at(&common.endpoints, &common.tls, &common.login)?;
            let member = cluster.find(&member).await?;
            let members = cluster.remove(member.id).await?;
            output::print(&show::members(&members, common.output))
        }
        Action::Promote { common, member } => {
            let cluster = Cluster::at(&common.endpoints, &common.tls, &common.login)?;
            let member = cluster.find(&member).await?;
            let members = cluster.promote(member.id).await?;
            output::print(&show::members(&members, common.output))
        }
        Action::Replace {
            common,
            new,
            dead,
            force,
        } => {
            let cluster = Cluster::at(&common.endpoints, &common.tls, &common.login)?;
            let new = NewMember::full(new.name, new.peer_url);
            let dead = cluster.find(&dead).await?;
            if !force {
                replace::check_dead(&cluster, &dead).await?;
            }
            let replaced = replace::replace(&cluster, dead.id, &new).await?;
            output::print(&show::replaced(&replaced, common.output))
        }
    }
}
