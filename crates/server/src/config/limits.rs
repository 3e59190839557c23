//! Bounds on what clients may ask for.

/// Bounds on what clients may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request that goes to the log.
    pub max_request_bytes: usize,
    /// Compares, or operations of one branch, of a transaction.
    pub max_txn_ops: usize,
    /// Requests and streams at one time on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes of events that may wait for a slow watch stream before it has to catch up from history.
    pub watch_buffer_bytes: usize,
}

impl Limits {
    /// Bytes of an encoded gRPC message: above the limit on requests, so that a request which is
    /// somewhat too large is read and answered by etcd's own error.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes.saturating_mul(4)
    }

    /// Bytes of a watch response above which it is sent in fragments to those who asked for it.
    pub fn watch_fragment_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(512 * 1024)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: 20_000,
            watch_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}
