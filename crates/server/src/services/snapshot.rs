//! A backup on its way to a client: a database file as etcd has it, then the SHA-256 of its bytes.
//!
//! - It is of this member's own state at one moment. Commands go on being applied meanwhile; only the history
//!   that they leave is kept as long as the backup is open.
//! - It is never in memory, nor on the disk, as a whole. What it weighs must be known before its first byte is
//!   sent, so the state is gone through twice: once to measure it, and once to send it.
//! - A client that has gone, or takes nothing for [`PATIENCE`], ends it.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quorate::{MemberContext, NodeId};
use quorate_etcd_api::etcdserverpb::SnapshotResponse;
use quorate_kv::{Backup, BackupLimits, Member, MemberId, Version};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::backup::{Contents, ExportError, measure, write};
use crate::identity::peer_urls;
use crate::machine::{BackupView, Query};
use crate::node::{Node, answer};

type Outlet = mpsc::Sender<Result<SnapshotResponse, Status>>;

/// Begins a backup; the stream of its pieces.
pub(super) async fn begin(
    node: &Arc<Node>,
) -> Result<ReceiverStream<Result<SnapshotResponse, Status>>, Status> {
    if node.is_witness() {
        let problem = "quorate: this member is a witness and keeps no data; ask another member";
        return Err(Status::failed_precondition(problem));
    }
    let view = answer!(node.read_local(Query::BeginBackup).await?, Backup);
    let (outlet, pieces) = mpsc::channel(PIECES_WAITING);
    let making = Making {
        members: members(node, &view),
        node: Arc::clone(node),
        runtime: Handle::current(),
        view,
        outlet,
    };
    let node = Arc::clone(node);
    tokio::task::spawn_blocking(move || {
        making.run();
        // History is not removed while a backup is open.
        node.shared().chores.notify_one();
    });
    Ok(ReceiverStream::new(pieces))
}

/// Who the members are: what they have published, else what the log says of them.
fn members(node: &Node, view: &BackupView) -> Vec<Member> {
    let configuration = &node.raft().configuration;
    let member = |id: NodeId| {
        let published = view.members.iter().find(|member| member.id.0 == id.0);
        published.cloned().unwrap_or_else(|| {
            let context = MemberContext::of(&configuration.info(id));
            let urls = peer_urls(&context, node.config().peer_scheme());
            Member {
                id: MemberId(id.0),
                name: context.name,
                peer_urls: urls.iter().map(ToString::to_string).collect(),
                client_urls: Vec::new(),
            }
        })
    };
    configuration.members().into_iter().map(member).collect()
}

/// A backup in the making, on a thread that may block.
struct Making {
    node: Arc<Node>,
    runtime: Handle,
    view: BackupView,
    members: Vec<Member>,
    outlet: Outlet,
}

impl Making {
    fn run(self) {
        let failure = match self.send() {
            Ok(()) => None,
            Err(ExportError::Source(status)) => Some(status),
            Err(ExportError::Write(error)) => Some(Status::internal(format!("quorate: the backup: {error}"))),
        };
        if let Some(status) = failure
            && self.outlet.try_send(Err(status.clone())).is_err()
        {
            tracing::info!(%status, "a backup ended before it was complete: its client has gone or is stuck");
        }
    }

    fn send(&self) -> Result<(), ExportError> {
        let contents = Contents {
            head: self.view.backup.head(),
            members: &self.members,
            applied: self.applied(),
        };
        let plan = measure(&contents, &mut self.source())?;
        let mut pieces = Pieces {
            making: self,
            waiting: BytesMut::with_capacity(2 * PIECE_BYTES),
            remaining: plan.bytes(),
            digest: Sha256::new(),
        };
        write(&mut pieces, plan, &contents, &mut self.source())?;
        let finished = pieces.finish();
        finished.map_err(|error| ExportError::Write(error.into()))
    }

    /// Where the log was. After a start from a snapshot the state does not say.
    fn applied(&self) -> (u64, u64) {
        let raft = self.node.raft();
        match self.view.applied.index.0 {
            0 => (raft.applied_index.0, raft.term.0),
            index => (index, self.view.applied.term.0),
        }
    }

    /// The versions from the first on.
    fn source(&self) -> impl FnMut() -> Result<Vec<Version>, Status> {
        let mut backup = self.view.backup.clone();
        backup.rewind();
        let mut is_done = false;
        move || {
            while !is_done {
                if self.outlet.is_closed() {
                    return Err(Status::cancelled("quorate: the client has gone"));
                }
                let versions = self.next_batch(&mut backup, &mut is_done)?;
                if !versions.is_empty() {
                    return Ok(versions);
                }
            }
            Ok(Vec::new())
        }
    }

    fn next_batch(&self, backup: &mut Backup, is_done: &mut bool) -> Result<Vec<Version>, Status> {
        let query = Query::BackupBatch(backup.clone(), LIMITS);
        let answer = self.runtime.block_on(self.node.read_local(query))?;
        let (next, batch) = answer!(answer, BackupBatch);
        let batch = batch.ok_or_else(|| {
            Status::aborted("quorate: this member was brought up to date meanwhile; take the backup again")
        })?;
        *backup = next;
        *is_done = batch.is_last;
        Ok(batch.versions)
    }
}

/// Cuts what is written into pieces, and sends them.
struct Pieces<'a> {
    making: &'a Making,
    waiting: BytesMut,
    remaining: u64,
    digest: Sha256,
}

impl Pieces<'_> {
    fn send(&mut self, bytes: usize) -> io::Result<()> {
        let blob = self.waiting.split_to(bytes).freeze();
        self.digest.update(&blob);
        self.remaining = self.remaining.saturating_sub(bytes as u64);
        self.pass(SnapshotResponse {
            remaining_bytes: self.remaining,
            blob,
            ..SnapshotResponse::default()
        })
    }

    fn pass(&self, response: SnapshotResponse) -> io::Result<()> {
        let sending = tokio::time::timeout(PATIENCE, self.making.outlet.send(Ok(response)));
        match self.making.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone")),
            Err(_elapsed) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client takes nothing",
            )),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.send(self.waiting.len())?;
        }
        let digest = self.digest.finalize_reset().to_vec();
        self.pass(SnapshotResponse {
            blob: digest.into(),
            ..SnapshotResponse::default()
        })
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= PIECE_BYTES {
            self.send(PIECE_BYTES)?;
        }
        Ok(bytes.len())
    }

    /// What is left waits for more, or for the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As etcd cuts them.
const PIECE_BYTES: usize = 32 << 10;
const PIECES_WAITING: usize = 4;
/// How long a client may take nothing. History waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is taken between two batches of commands.
const LIMITS: BackupLimits = BackupLimits {
    bytes: 512 << 10,
    scanned: 4000,
};
