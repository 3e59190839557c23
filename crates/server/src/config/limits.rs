//! Bounds on what clients may ask for.

use super::ConfigError;

/// Bounds on what clients may ask for. Each says so when it is reached.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request that goes to the log.
    pub max_request_bytes: usize,
    /// Compares, or operations of one branch, of a transaction.
    pub max_txn_ops: usize,
    /// Requests and streams at one time on one connection: a client waits with more.
    pub max_concurrent_streams: u32,
    /// Connections of one address at one time.
    pub max_connections_per_address: usize,
    /// TLS handshakes of clients at one time, an eighth of them of one address: more connections wait.
    pub max_handshakes: usize,
    /// Connections of other members from one address at one time.
    pub max_peer_connections_per_address: usize,
    /// Connections to the peer port that have not said yet whose they are, a quarter of them of one address.
    pub max_pending_peer_connections: usize,
    /// Watchers of one stream.
    pub max_watchers_per_stream: usize,
    /// Watchers of all clients of this member.
    pub max_watchers: usize,
    /// Leases in the cluster. A member may be late to know of others', so that there can be a few more.
    pub max_leases: usize,
    /// Learners in the cluster, newcomers that do not vote yet among them.
    pub max_learners: usize,
    /// Bytes of events that may wait for a slow watch stream before it has to catch up from history.
    pub watch_buffer_bytes: usize,
}

impl Limits {
    /// Bytes of an encoded gRPC message: above the limit on requests, so that a request which is
    /// somewhat too large is read and answered by etcd's own error.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes.saturating_mul(4)
    }

    /// TLS handshakes of one address at one time: it must not keep others waiting.
    pub(crate) fn max_handshakes_per_address(&self) -> usize {
        (self.max_handshakes / 8).max(1)
    }

    /// Bytes of a watch response above which it is sent in fragments to those who asked for it.
    pub fn watch_fragment_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(512 * 1024)
    }

    /// Whether anything at all could be asked for.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_request_bytes > MAX_REQUEST_BYTES {
            return Err(ConfigError::TooManyRequestBytes(MAX_REQUEST_BYTES));
        }
        let numbers = [
            ("--max-request-bytes", self.max_request_bytes),
            ("--max-txn-ops", self.max_txn_ops),
            ("--max-concurrent-streams", self.max_concurrent_streams as usize),
            ("--max-connections-per-address", self.max_connections_per_address),
            ("--max-handshakes", self.max_handshakes),
            (
                "--max-peer-connections-per-address",
                self.max_peer_connections_per_address,
            ),
            (
                "--max-pending-peer-connections",
                self.max_pending_peer_connections,
            ),
            ("--max-watchers-per-stream", self.max_watchers_per_stream),
            ("--max-watchers", self.max_watchers),
            ("--max-leases", self.max_leases),
        ];
        match numbers.iter().find(|(_, number)| *number == 0) {
            Some((flag, _)) => Err(ConfigError::NotPositive(flag)),
            None => Ok(()),
        }
    }
}

/// What fits into a message between members with room to spare.
const MAX_REQUEST_BYTES: usize = 10 << 20;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: 20_000,
            max_connections_per_address: 10_000,
            max_handshakes: 1024,
            max_peer_connections_per_address: 128,
            max_pending_peer_connections: 128,
            max_watchers_per_stream: 100_000,
            max_watchers: 1_000_000,
            max_leases: 1_000_000,
            max_learners: 1,
            watch_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}
