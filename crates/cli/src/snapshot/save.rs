//! `quorate snapshot save`: a member's state, streamed to a file.
//!
//! The bytes go to `FILE.part`. They are read back from there and held to the hash that came with them, and
//! become durable, before the file has its name: whatever goes wrong, what has the name is a whole backup.

use super::{Output, show};
use crate::endpoint::{Target, TlsFlags, targets};
use crate::login::{self, LoginFlags};
use crate::output;
use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use quorate_server::{Backup, BackupStatus, HashCheck};
use serde_json::json;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// The arguments of `quorate snapshot save`.
#[derive(Args)]
pub(super) struct Options {
    /// Where to save it; a file of this name is replaced once the new one is complete
    file: PathBuf,
    /// Client endpoints, separated by commas; the first that answers is asked
    #[arg(
        long,
        alias = "endpoint",
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

/// Saves a backup.
///
/// # Errors
///
/// If no endpoint answers, or what it sends is not whole, or cannot be written.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let set_up = |endpoint: Endpoint| endpoint.connect_timeout(CONNECT);
    let targets = targets(&options.endpoints, &options.tls, set_up)?;
    let (address, channel) = connect(&targets).await?;
    let token = options.login.log_in_or_say(channel.clone()).await?;
    let asked = MaintenanceClient::new(token.on(channel))
        .snapshot(SnapshotRequest {})
        .await;
    let stream = asked.map_err(|status| refused(&status, &address))?.into_inner();
    let partial = Partial::begin(&options.file)?;
    let partial = receive(stream, partial, &address).await?;
    let finished = tokio::task::spawn_blocking(move || partial.finish());
    let status = finished.await.context("cannot wait for the file")??;
    output::print(&shown(&options, &status, &address))
}

async fn connect(targets: &[Target]) -> anyhow::Result<(String, Channel)> {
    let mut failure = anyhow!("there is no endpoint: name one with --endpoints");
    for target in targets {
        match target.connect().await {
            Ok(channel) => return Ok((target.address(), channel)),
            Err(error) => {
                failure = anyhow::Error::new(error).context(format!(
                    "cannot reach {}; is it a member's client URL?",
                    target.address()
                ));
            }
        }
    }
    Err(failure)
}

fn refused(status: &Status, address: &str) -> anyhow::Error {
    let refused = anyhow!("{address} gives no backup: {}", status.message());
    match status.message() == EtcdError::UserEmpty.message() {
        true => refused.context(login::HINT),
        false => refused,
    }
}

/// Writes what comes to the file.
async fn receive(
    mut stream: Streaming<SnapshotResponse>,
    mut partial: Partial,
    address: &str,
) -> anyhow::Result<Partial> {
    let mut bar = None;
    let mut remaining = None;
    while let Some(piece) = stream
        .message()
        .await
        .map_err(|status| refused(&status, address))?
    {
        let bytes = piece.blob.len() as u64;
        bar.get_or_insert_with(|| progress(piece.remaining_bytes + bytes))
            .inc(bytes);
        remaining = Some(piece.remaining_bytes);
        partial.write(&piece.blob)?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match remaining {
        Some(0) => Ok(partial),
        Some(bytes) => bail!("{address} ended the backup {bytes} bytes before its end: try again"),
        None => bail!("{address} sent nothing: try again, or ask another member"),
    }
}

/// Shown on a terminal only.
fn progress(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style =
        ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn shown(options: &Options, status: &BackupStatus, address: &str) -> String {
    let file = options.file.display();
    match options.output {
        Output::Text => format!(
            "{file} has the state of {address} at revision {}: {} entries, {}, SHA-256 verified\n",
            status.revision,
            status.total_key,
            show::size(status.total_size)
        ),
        Output::Json => {
            let mut value = json!(status);
            value["file"] = json!(file.to_string());
            value["endpoint"] = json!(address);
            format!("{value}\n")
        }
    }
}

/// A file that is being written, under another name than it will have. It is removed unless it is finished.
struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_finished: bool,
}

impl Partial {
    /// Begins one, in the place of what an attempt before may have left.
    fn begin(target: &Path) -> anyhow::Result<Self> {
        let mut name = target.as_os_str().to_os_string();
        name.push(".part");
        let path = PathBuf::from(name);
        ensure!(
            !target.is_dir(),
            "{} is a directory: name a file",
            target.display()
        );
        let mut options = OpenOptions::new();
        // There are hashes of passwords in it.
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options
            .open(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{} is being written by another process", path.display()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let partial = Self {
            file,
            path,
            target: target.to_path_buf(),
            is_finished: false,
        };
        let emptied = partial.file.set_len(0);
        emptied.with_context(|| partial.cannot_write())?;
        Ok(partial)
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(bytes);
        written.with_context(|| self.cannot_write())
    }

    /// Verifies it, makes it durable, and gives it its name.
    fn finish(mut self) -> anyhow::Result<BackupStatus> {
        let status = Backup::open(&self.path, HashCheck::Required)?.status()?;
        self.file.sync_all().with_context(|| self.cannot_write())?;
        fs::rename(&self.path, &self.target)
            .with_context(|| format!("cannot give {} its name", self.target.display()))?;
        self.is_finished = true;
        sync_parent(&self.target)
            .with_context(|| format!("cannot make the name {} durable", self.target.display()))?;
        Ok(status)
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_finished {
            // The next attempt takes its place if it cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sync_parent(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

const CONNECT: Duration = Duration::from_secs(5);
