//! `snapshot save`: the data of one member, in a file. What else is done with such files is in [`crate::snapshot`].
//!
//! - It comes as a stream: the data, then its SHA-256. What does not fit its sum is never given its name.
//! - The file is complete on the disk before it has its name.

use super::connection::{Client, maintenance};
use super::failure::{Failure, code};
use super::flags::Global;
use super::print::{Format, Printer};
use crate::output;
use crate::snapshot::StatusOutput;
use clap::Subcommand;
use quorate_etcd_api::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::time::timeout;
use tonic::Streaming;

/// What can be done with snapshots.
#[derive(Subcommand)]
pub(crate) enum Snapshot {
    /// Save the data of one member to a file
    #[command(after_help = "Example:\n  quorate ctl snapshot save backup.db --endpoints 10.0.0.1:2379")]
    Save {
        /// The file
        #[arg(value_name = "FILE")]
        words: Vec<OsString>,
    },
    /// Check a file, of Quorate's or of etcd's, and sum it up
    #[command(after_help = "Example:\n  quorate ctl snapshot status backup.db -w table")]
    Status {
        /// The file
        #[arg(value_name = "FILE")]
        words: Vec<OsString>,
    },
    /// Make the data directory of a member of a new cluster out of a file, of Quorate's or of etcd's
    #[command(after_help = crate::snapshot::RESTORE_EXAMPLES)]
    Restore(Box<crate::snapshot::RestoreOptions>),
}

impl Snapshot {
    pub(super) async fn run(self, flags: &Global, printer: Printer) -> Result<(), Failure> {
        match self {
            Self::Save { words } => save_to(&words, &Client::new(flags)?).await,
            Self::Restore(options) => Ok(crate::snapshot::restore(*options).await?),
            Self::Status { words } => match words.as_slice() {
                [file] => sum_up(file.into(), printer).await,
                _ => Err(Failure::arguments(
                    "snapshot status requires exactly one argument",
                )),
            },
        }
    }
}

async fn sum_up(file: PathBuf, printer: Printer) -> Result<(), Failure> {
    let output = match printer.format {
        Format::Simple => StatusOutput::Simple,
        Format::Table => StatusOutput::Table,
        Format::Json => StatusOutput::Json,
        Format::Fields => StatusOutput::Fields,
        Format::Protobuf => {
            let message = "protobuf not supported as output format";
            return Err(Failure::with(code::BAD_FEATURE, message));
        }
    };
    Ok(crate::snapshot::sum_up(file, output).await?)
}

async fn save_to(words: &[OsString], client: &Client) -> Result<(), Failure> {
    let [file] = words else {
        return Err(Failure::arguments("snapshot save expects one argument"));
    };
    let endpoints = client.endpoints();
    if endpoints.len() != 1 {
        let endpoints = endpoints.join(" ");
        let message = format!("snapshot must be requested to one selected node, not multiple [{endpoints}]");
        return Err(Failure::with(code::INTERRUPTED, message));
    }
    save(client, Path::new(file)).await?;
    Ok(output::print(&format!(
        "Snapshot saved at {}\n",
        Path::new(file).display()
    ))?)
}

async fn save(client: &Client, file: &Path) -> Result<(), Failure> {
    let mut name = file.as_os_str().to_os_string();
    name.push(".part");
    let part = PathBuf::from(name);
    let target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part);
    let target = target.map_err(|error| {
        let part = part.display();
        interrupted(format!("could not open {part} (open {part}: {})", reason(&error)))
    })?;
    let written = fill(client, target, &part).await.and_then(|()| {
        let renamed = fs::rename(&part, file).and_then(|()| sync_directory(file));
        renamed.map_err(|error| {
            let (part, file) = (part.display(), file.display());
            interrupted(format!("could not rename {part} to {file} ({error})"))
        })
    });
    if written.is_err() {
        // What is incomplete is of no use; what is wrong was said already.
        let _ = fs::remove_file(&part);
    }
    written
}

async fn fill(client: &Client, target: File, part: &Path) -> Result<(), Failure> {
    let open = async {
        let service = client.service().await?;
        let opened = maintenance(service).snapshot(SnapshotRequest {}).await;
        Ok::<_, Failure>(opened?.into_inner())
    };
    // Only the beginning is bounded: how long it takes is for its size to say.
    let opened = timeout(client.command_timeout(), open).await;
    let stream = opened
        .unwrap_or_else(|_| Err(Failure::deadline()))
        .map_err(as_interrupted)?;
    let mut sum = Sum::new(target);
    receive(stream, &mut sum, part).await?;
    sum.finish().map_err(|error| match error {
        Broken::Disk(error) => cannot_write(part, &error),
        Broken::Data(message) => interrupted(message),
    })
}

async fn receive(
    mut stream: Streaming<SnapshotResponse>,
    sum: &mut Sum<File>,
    part: &Path,
) -> Result<(), Failure> {
    loop {
        let message = stream.message().await;
        match message.map_err(|status| as_interrupted(status.into()))? {
            None => return Ok(()),
            Some(chunk) => sum
                .write(&chunk.blob)
                .map_err(|error| cannot_write(part, &error))?,
        }
    }
}

fn interrupted(message: impl Into<String>) -> Failure {
    Failure::with(code::INTERRUPTED, message)
}

fn as_interrupted(failure: Failure) -> Failure {
    failure.exits_with(code::INTERRUPTED)
}

fn cannot_write(part: &Path, error: &io::Error) -> Failure {
    interrupted(format!("could not write {} ({})", part.display(), reason(error)))
}

/// What the system says of an error, as Go has it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    let first = chars
        .next()
        .map(|c| c.to_lowercase().to_string())
        .unwrap_or_default();
    first + chars.as_str()
}

fn sync_directory(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// What is written, with the sum of all but its last 32 bytes, which are to be that sum.
struct Sum<W> {
    target: W,
    hasher: Sha256,
    /// Up to 32 bytes: what may be the sum.
    tail: Vec<u8>,
    bytes: u64,
}

enum Broken {
    Disk(io::Error),
    Data(String),
}

impl<W: Write> Sum<W> {
    fn new(target: W) -> Self {
        Self {
            target,
            hasher: Sha256::new(),
            tail: Vec::new(),
            bytes: 0,
        }
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.target.write_all(chunk)?;
        self.bytes += chunk.len() as u64;
        self.tail.extend_from_slice(chunk);
        let summed = self.tail.len().saturating_sub(SUM_BYTES);
        self.hasher.update(&self.tail[..summed]);
        self.tail.drain(..summed);
        Ok(())
    }

    fn check(self) -> Result<W, String> {
        if self.bytes <= SUM_BYTES as u64 {
            return Err(format!("the snapshot is not complete: {} bytes came", self.bytes));
        }
        if self.hasher.finalize().as_slice() != self.tail {
            let bytes = self.bytes;
            return Err(format!(
                "the snapshot is damaged or not complete: its SHA-256 is not that of what came ({bytes} bytes)"
            ));
        }
        Ok(self.target)
    }
}

impl Sum<File> {
    /// Checks the sum, and has the disk keep the file.
    fn finish(self) -> Result<(), Broken> {
        let file = self.check().map_err(Broken::Data)?;
        file.sync_all().map_err(Broken::Disk)
    }
}

const SUM_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut sum = Sum::new(Vec::new());
        chunks.iter().for_each(|chunk| sum.write(chunk).unwrap());
        sum.check()
    }

    #[test]
    fn a_snapshot_must_end_with_its_sum_however_it_is_cut() {
        let data = vec![7; 100];
        let whole = [data.as_slice(), Sha256::digest(&data).as_slice()].concat();
        for cut in 0..=whole.len() {
            let (first, second) = whole.split_at(cut);
            assert_eq!(check(&[first, second]).unwrap(), whole);
        }
        assert!(check(&[&whole[..131]]).unwrap_err().contains("SHA-256"));
        assert!(check(&[&data]).unwrap_err().contains("SHA-256"));
        assert!(check(&[]).unwrap_err().contains("0 bytes"));
        assert!(check(&[&Sha256::digest([])]).unwrap_err().contains("32 bytes"));
    }
}
