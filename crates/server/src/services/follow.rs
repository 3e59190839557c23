//! What happens to some keys, as it happens, for services that wait for that themselves.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_etcd_api::etcdserverpb::WatchResponse;
use quorate_kv::{KeyRange, Revision, StreamId, WatchOutput, WatchSpec, WatchStart};
use tokio::sync::Notify;

use crate::node::Node;
use crate::translate;

/// One watcher on a stream of its own. It ends when it is dropped.
pub(super) struct Following {
    node: Arc<Node>,
    stream: StreamId,
    woken: Arc<Notify>,
    fetched: VecDeque<WatchOutput>,
}

impl Following {
    /// Follows `keys` from what happened at `from` on.
    pub(super) fn start(node: &Arc<Node>, keys: KeyRange, from: Revision) -> Following {
        let woken = Arc::new(Notify::new());
        let waker = Arc::clone(&woken);
        let mut hub = node.shared().watches.lock();
        let stream = hub.open_stream(Arc::new(move || waker.notify_one()));
        let spec = WatchSpec {
            id: None,
            keys,
            start: WatchStart::At(from),
            skip_puts: false,
            skip_deletes: false,
            prev_kv: false,
            fragment: false,
            progress_notify: false,
        };
        hub.create(stream, spec);
        drop(hub);
        Following {
            node: Arc::clone(node),
            stream,
            woken,
            fetched: VecDeque::new(),
        }
    }

    /// The next response of the watcher; none when it was canceled, because the history that it needs was
    /// compacted.
    pub(super) async fn next(&mut self) -> Option<WatchResponse> {
        loop {
            if let Some(output) = self.fetched.pop_front() {
                let response = translate::watch_response(&self.node, output);
                return (!response.canceled).then_some(response);
            }
            self.fetched = self.node.shared().watches.lock().poll(self.stream).into();
            if self.fetched.is_empty() {
                self.woken.notified().await;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.node.shared().watches.lock().close_stream(self.stream);
    }
}
