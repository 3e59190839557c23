//! What clients ask of the keyspace, from protobuf to the state machine: what is accepted keeps to the limits,
//! comes back from the log as it was, and is applied alike by all members.
//!
//! The input is a list of steps: a byte that says what is asked, two bytes that count, and as many bytes as
//! they count.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_kv::{
    Command, Keyspace, LeaseId, Limits, MAX_TXN_DEPTH, Op, Proposal, Revision, RevokeCause, Txn,
};
use quorate_server::fuzzing::{delete_range, permission, put, range, txn, watch};

fuzz_target!(|data: &[u8]| {
    let mut members = Members {
        one: Keyspace::new(),
        other: Keyspace::new(),
    };
    let mut rest = data;
    while let [action, low, high, tail @ ..] = rest {
        let count = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (request, tail) = tail.split_at(count);
        rest = tail;
        members.ask(*action, request);
    }
    members.compare();
});

/// Two keyspaces that apply the same commands.
struct Members {
    one: Keyspace,
    other: Keyspace,
}

impl Members {
    fn ask(&mut self, action: u8, request: &[u8]) {
        match action % 9 {
            0 => self.propose(
                decoded(request)
                    .and_then(|request| put(request).ok())
                    .map(Command::Put),
            ),
            1 => {
                let delete = decoded(request).and_then(|request| delete_range(request).ok());
                self.propose(delete.map(Command::DeleteRange));
            }
            2 => self.range(request),
            3 => self.txn(request),
            4 => {
                let _ = decoded(request).map(watch);
            }
            5 => {
                // Refused or not: it does not panic.
                let _ = decoded(request).map(permission);
            }
            6 => self.propose(
                decoded(request).map(|request: pb::CompactionRequest| Command::Compact {
                    revision: Revision(request.revision),
                }),
            ),
            7 => self.propose(
                decoded(request).map(|request: pb::LeaseGrantRequest| Command::LeaseGrant {
                    id: LeaseId(request.id),
                    ttl_secs: request.ttl,
                }),
            ),
            _ => self.propose(
                decoded(request).map(|request: pb::LeaseRevokeRequest| Command::LeaseRevoke {
                    id: LeaseId(request.id),
                    cause: RevokeCause::Requested,
                }),
            ),
        }
    }

    /// As the node does it: what passes the check goes to the log, and from there to each member.
    fn propose(&mut self, command: Option<Command>) {
        let Some(command) = command.filter(|command| command.check(&LIMITS).is_ok()) else {
            return;
        };
        if let Command::Txn(txn) = &command {
            assert_within(txn, LIMITS.max_txn_ops, MAX_TXN_DEPTH);
        }
        let proposal = Proposal::from(command);
        let again = Proposal::decode(proposal.encode()).expect("what is proposed can be applied");
        assert_eq!(again, proposal);
        let (one, other) = (self.one.apply(proposal), self.other.apply(again));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    fn range(&self, request: &[u8]) {
        let Some(Ok(range)) = decoded(request).map(range) else {
            return;
        };
        if let (Ok(one), Some(limit)) = (self.one.range(&range), range.limit) {
            assert!(one.kvs.len() <= limit.get());
        }
    }

    fn txn(&mut self, request: &[u8]) {
        let Some(Ok(txn)) = decoded(request).map(|request| txn(request, LIMITS.max_txn_ops)) else {
            return;
        };
        match txn.into_read_only() {
            // What it finds is not asked here, only that it ends.
            Ok(read) if read.check(&LIMITS).is_ok() => drop(self.one.read_txn(&read)),
            Ok(_) => {}
            Err(txn) => self.propose(Some(Command::Txn(txn))),
        }
    }

    /// Whether both are the same, and the same after a snapshot.
    fn compare(mut self) {
        while self.other.compact_step(1) {}
        assert_eq!(snapshot(&mut self.one), snapshot(&mut self.other));
        let chunks = snapshot(&mut self.one);
        let mut again = Keyspace::restore(&mut chunks.into_iter().map(Ok)).expect("a snapshot is whole");
        assert_eq!(snapshot(&mut again), snapshot(&mut self.one));
    }
}

fn decoded<M: Message + Default>(request: &[u8]) -> Option<M> {
    M::decode(Bytes::copy_from_slice(request)).ok()
}

fn assert_within(txn: &Txn, allowed: usize, depth: usize) {
    let most = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    assert!(
        most <= allowed && depth > 0,
        "{most} of {allowed}, {depth} levels"
    );
    for op in txn.success.iter().chain(&txn.failure) {
        if let Op::Txn(nested) = op {
            assert_within(nested, allowed - most, depth - 1);
        }
    }
}

fn snapshot(keyspace: &mut Keyspace) -> Vec<Bytes> {
    let mut snapshot = keyspace.begin_snapshot();
    std::iter::from_fn(|| keyspace.snapshot_chunk(&mut snapshot, 4096)).collect()
}

const LIMITS: Limits = Limits { max_txn_ops: 128 };
