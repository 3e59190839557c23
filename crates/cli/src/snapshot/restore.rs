//! `quorate snapshot restore`: the data directory of a member of a new cluster, made out of a backup.

use super::Output;
use crate::output;
use anyhow::Context;
use clap::Args;
use quorate_server::{HashCheck, InitialCluster, Restore, Restored, ServerConfig, Url};
use serde_json::json;
use std::path::PathBuf;

pub(crate) const EXAMPLES: &str = "\
Examples:
  quorate snapshot restore backup.db --data-dir /var/lib/quorate
  quorate snapshot restore backup.db --name a --data-dir /var/lib/quorate \\
    --initial-advertise-peer-urls http://10.0.0.1:2380 \\
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380

Each member is restored on its own machine, from the same file and with the same flags but --name,
--initial-advertise-peer-urls and --data-dir. The new cluster is another one than the old: its
members, and what they know, do not mix.";

/// The arguments of `quorate snapshot restore`.
#[derive(Args)]
pub(crate) struct Options {
    /// The backup, of Quorate's or of etcd's
    file: PathBuf,
    /// The member's name
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// The directory to make; it must not be there, or be empty [default: NAME.quorate]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// All members, as name=URL,name=URL [default: this member alone]
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<InitialCluster>,
    /// Where the other members reach this one
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2380"
    )]
    initial_advertise_peer_urls: Vec<Url>,
    /// Members that vote, but keep no data, by name
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    initial_witnesses: Vec<String>,
    /// Tells clusters apart that are restored from the same backup with the same members
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// Take a file without a hash, such as one copied out of an etcd's data directory, or with a wrong one
    #[arg(long)]
    skip_hash_check: bool,
    /// Go on so many revisions after the newest one, because clients have seen later ones
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    bump_revision: u64,
    /// Take everything before that for compacted, so that watchers begin anew
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Taken for etcdctl's sake: the log is in the data directory
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Restores a backup.
///
/// # Errors
///
/// If the flags make no sense, the backup cannot be used, or the directory is not empty or cannot be made.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let output = options.output;
    if options.wal_dir.is_some() {
        output::complain("--wal-dir has no effect: the log is in the data directory");
    }
    let restore = options.into_restore();
    let member = restore.member.clone();
    let restoring = tokio::task::spawn_blocking(move || restore.run());
    let restored = restoring.await.context("cannot wait for the directory")??;
    output::print(&shown(&restored, &member, output))
}

impl Options {
    fn into_restore(self) -> Restore {
        let data_dir = self
            .data_dir
            .unwrap_or_else(|| PathBuf::from(format!("{}.quorate", self.name)));
        let initial_cluster = self.initial_cluster.unwrap_or_else(|| {
            let mut alone = InitialCluster::default();
            for url in &self.initial_advertise_peer_urls {
                alone.insert(self.name.clone(), url.clone());
            }
            alone
        });
        Restore {
            file: self.file,
            check: match self.skip_hash_check {
                true => HashCheck::Skipped,
                false => HashCheck::Required,
            },
            bump_revision: self.bump_revision,
            mark_compacted: self.mark_compacted,
            member: ServerConfig {
                initial_cluster,
                initial_cluster_token: self.initial_cluster_token,
                initial_advertise_peer_urls: self.initial_advertise_peer_urls,
                initial_witnesses: self.initial_witnesses.into_iter().collect(),
                ..ServerConfig::new(self.name, data_dir)
            },
        }
    }
}

fn shown(restored: &Restored, member: &ServerConfig, output: Output) -> String {
    let identity = &restored.identity;
    let directory = member.data_dir.display();
    if output == Output::Json {
        let value = json!({
            "dataDir": directory.to_string(),
            "clusterId": format!("{:016x}", identity.cluster_id),
            "memberId": format!("{:016x}", identity.member_id),
            "revision": restored.revision,
            "keys": restored.keys,
            "keysWithoutTheirLease": restored.orphans,
        });
        return format!("{value}\n");
    }
    let orphans = match restored.orphans {
        0 => String::new(),
        count => {
            format!("{count} keys named a lease that the backup does not have: they are kept without one.\n")
        }
    };
    format!(
        "{directory} is {} of the new cluster {:016x}: {} keys at revision {}.\n{orphans}\n{}",
        member.name,
        identity.cluster_id,
        restored.keys,
        restored.revision,
        next(member)
    )
}

/// What to do next.
fn next(member: &ServerConfig) -> String {
    let urls: Vec<String> = member
        .initial_advertise_peer_urls
        .iter()
        .map(Url::to_string)
        .collect();
    let start = format!(
        "  quorate start --name {} --data-dir {} --listen-peer-urls {}\n",
        member.name,
        member.data_dir.display(),
        urls.join(",")
    );
    match member.initial_cluster.iter().count() {
        1 => format!("Start it:\n\n{start}"),
        count => format!("Restore all {count} members from this very file; then start each:\n\n{start}"),
    }
}
