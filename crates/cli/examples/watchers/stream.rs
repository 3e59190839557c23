//! One stream of watchers: kept up over any node, and checked event by event.

use super::load::{key, micros_since};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use hdrhistogram::Histogram;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use quorate_etcd_api::mvccpb::Event;
use quorate_etcd_api::mvccpb::event::EventType;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// What one watcher watches, and how far it has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    what: What,
    /// The revision of the last event, or the one from which it started.
    last: i64,
}

#[derive(Clone, Debug)]
enum What {
    All,
    /// A key by its number, and the last version of it that was seen.
    Key(usize, i64),
}

/// A stream that runs.
pub(crate) struct Stream {
    state: Arc<Mutex<State>>,
    /// How many of its watchers there shall be.
    wanted: watch::Sender<usize>,
    task: JoinHandle<()>,
}

/// What is known of a stream.
pub(crate) struct State {
    pub(crate) watchers: Vec<Watcher>,
    /// How many watchers there are on the connection of the moment.
    pub(crate) created: usize,
    /// How often a connection was lost.
    pub(crate) cuts: u64,
    /// How many watchers were created anew on another.
    pub(crate) resumed: u64,
    pub(crate) events: u64,
    /// Microseconds from the sending of a write to its event.
    pub(crate) delays: Histogram<u64>,
    pub(crate) violations: Vec<String>,
}

impl Watcher {
    /// Watches a key that has been written once, from after `revision`.
    pub(crate) fn of_key(number: usize, revision: i64) -> Self {
        let what = What::Key(number, 1);
        Self { what, last: revision }
    }

    /// Watches all keys, from after `revision`.
    pub(crate) fn of_all(revision: i64) -> Self {
        let what = What::All;
        Self { what, last: revision }
    }

    /// Whether it has seen everything up to the `versions` of all keys, at a `revision`.
    pub(crate) fn has_seen(&self, versions: &[i64], revision: i64) -> bool {
        match self.what {
            What::All => self.last == revision,
            What::Key(number, version) => version == versions[number],
        }
    }

    fn request(&self, id: i64) -> WatchRequest {
        let (key, range_end) = match self.what {
            What::All => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
            What::Key(number, _) => (key(number).into(), Bytes::new()),
        };
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: self.last + 1,
            watch_id: id,
            ..WatchCreateRequest::default()
        };
        WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        }
    }

    /// Fails if it is not the next event of what is watched.
    fn see(&mut self, event: &Event) -> anyhow::Result<()> {
        ensure!(
            event.r#type == i32::from(EventType::Put),
            "nothing was deleted: {event:?}"
        );
        let kv = event.kv.as_ref().context("an event without a key")?;
        match &mut self.what {
            What::All => ensure!(
                kv.mod_revision == self.last + 1,
                "revision {} after {}",
                kv.mod_revision,
                self.last
            ),
            What::Key(number, version) => {
                ensure!(kv.key == key(*number).as_bytes(), "another's key: {event:?}");
                ensure!(
                    kv.version == *version + 1 && kv.mod_revision > self.last,
                    "version {} at revision {} of key {number} after version {version} at {}",
                    kv.version,
                    kv.mod_revision,
                    self.last
                );
                *version = kv.version;
            }
        }
        self.last = kv.mod_revision;
        Ok(())
    }
}

impl Stream {
    /// Opens a stream to the first of the endpoints that can be reached, and again to the next whenever it is cut, with
    /// the first `at_first` of its watchers.
    pub(crate) fn open(endpoints: Vec<SocketAddr>, watchers: Vec<Watcher>, at_first: usize) -> Self {
        let delays = Histogram::new(3).expect("3 significant digits are within the allowed 0 to 5");
        let state = State {
            watchers,
            created: 0,
            cuts: 0,
            resumed: 0,
            events: 0,
            delays,
            violations: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let (wanted, changes) = watch::channel(at_first);
        let task = tokio::spawn(keep_up(endpoints, state.clone(), changes));
        Self { state, wanted, task }
    }

    /// Creates the rest of the watchers.
    pub(crate) fn want_all(&self) {
        let all = self.view().watchers.len();
        self.wanted.send_replace(all);
    }

    /// What is known of it.
    pub(crate) fn view(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn see(&mut self, response: &WatchResponse) -> anyhow::Result<()> {
        let id = response.watch_id;
        ensure!(
            !response.canceled,
            "watcher {id} was canceled: {:?}, compacted to {}",
            response.cancel_reason,
            response.compact_revision
        );
        self.created += usize::from(response.created);
        let place = usize::try_from(id - 1).unwrap_or(usize::MAX);
        let watcher = self
            .watchers
            .get_mut(place)
            .with_context(|| format!("there is no watcher {id}"))?;
        for event in &response.events {
            watcher.see(event).with_context(|| format!("watcher {id}"))?;
            self.events += 1;
            if let Some(micros) = event.kv.as_ref().and_then(|kv| micros_since(&kv.value)) {
                self.delays
                    .record(micros)
                    .context("the histogram grows as needed")?;
            }
        }
        Ok(())
    }
}

async fn keep_up(endpoints: Vec<SocketAddr>, state: Arc<Mutex<State>>, mut wanted: watch::Receiver<usize>) {
    for (attempt, endpoint) in endpoints.iter().cycle().enumerate() {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let Ok(channel) = connect(*endpoint).await else {
            continue;
        };
        // A connection is lost with an error of the transport; all else is wrong.
        if let Err(error) = follow(channel, &state, &mut wanted).await {
            lock(&state).violations.push(format!("{error:#}"));
            return;
        }
        lock(&state).cuts += 1;
    }
}

async fn connect(endpoint: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    let patience = Duration::from_secs(5);
    Endpoint::from_shared(format!("http://{endpoint}"))?
        .connect_timeout(patience)
        .http2_keep_alive_interval(patience)
        .keep_alive_timeout(patience)
        .connect()
        .await
}

/// Watches until the connection is lost.
async fn follow(
    channel: Channel,
    state: &Mutex<State>,
    wanted: &mut watch::Receiver<usize>,
) -> anyhow::Result<()> {
    let (requests, outgoing) = unbounded();
    let mut asked = 0;
    lock(state).created = 0;
    ask(state, &requests, &mut asked, *wanted.borrow_and_update())?;
    if lock(state).cuts > 0 {
        lock(state).resumed += asked as u64;
    }
    let mut client = WatchClient::new(channel);
    let Ok(responses) = client.watch(outgoing).await else {
        return Ok(());
    };
    let mut responses = responses.into_inner();
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                changed.context("nobody wants watchers any more")?;
                let wanted = *wanted.borrow_and_update();
                ask(state, &requests, &mut asked, wanted)?;
            }
            response = responses.message() => match response {
                Ok(Some(response)) => lock(state).see(&response)?,
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }
}

/// Asks for all that is wanted and was not asked for on this connection.
fn ask(
    state: &Mutex<State>,
    requests: &UnboundedSender<WatchRequest>,
    asked: &mut usize,
    wanted: usize,
) -> anyhow::Result<()> {
    for (id, watcher) in (1..)
        .zip(&lock(state).watchers)
        .skip(*asked)
        .take(wanted.saturating_sub(*asked))
    {
        if requests.unbounded_send(watcher.request(id)).is_err() {
            bail!("the stream takes no requests");
        }
    }
    *asked = wanted.max(*asked);
    Ok(())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

const PAUSE: Duration = Duration::from_millis(50);
