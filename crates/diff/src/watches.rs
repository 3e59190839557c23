//! The watch streams of one server: what was asked, and what came.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::outcome::Ids;

/// A watch stream and what came on it.
///
/// It checks by itself what a server promises whatever another does: a revision is whole in a response,
/// unless that says that it goes on, and a header is never behind the events under it.
pub(crate) struct WatchStream {
    requests: mpsc::Sender<WatchRequest>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
    /// What came since it was last taken, by watcher. How events were put into responses is up to a
    /// server, so events are in it one by one.
    events: BTreeMap<i64, Vec<String>>,
    /// The newest revision of an event of each watcher.
    reached: BTreeMap<i64, i64>,
    /// The revision with which the last response of each watcher ended, unless it said that it goes on.
    closed: BTreeMap<i64, i64>,
    /// The watchers that were created and not canceled.
    living: BTreeSet<i64>,
}

/// A response that answers a request rather than a change.
#[derive(Debug)]
pub(crate) enum Answer {
    Created(WatchResponse),
    Canceled(i64),
    Progress(WatchResponse),
}

impl WatchStream {
    /// Opens a stream.
    pub(crate) async fn open(channel: Channel) -> Result<WatchStream> {
        let (requests, receiver) = mpsc::channel(16);
        let (sender, responses) = mpsc::unbounded_channel();
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        // Real servers answer with headers only after the first request.
        tokio::spawn(async move {
            let outgoing = tokio_stream::wrappers::ReceiverStream::new(receiver);
            match client.watch(outgoing).await {
                Ok(stream) => forward(stream.into_inner(), &sender).await,
                // Whoever has gone away does not want to know.
                Err(status) => drop(sender.send(Err(status))),
            }
        });
        Ok(WatchStream {
            requests,
            responses,
            events: BTreeMap::new(),
            reached: BTreeMap::new(),
            closed: BTreeMap::new(),
            living: BTreeSet::new(),
        })
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: RequestUnion) -> Result<()> {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.requests
            .send(request)
            .await
            .context("the watch stream has ended")
    }

    /// Waits for the answer that `wanted` accepts. Whatever comes before it is kept, if it is a change.
    pub(crate) async fn answer(&mut self, ids: &Ids<'_>, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
        loop {
            match self.receive(ids).await? {
                Some(answer) if wanted(&answer) => return Ok(answer),
                Some(_) | None => {}
            }
        }
    }

    /// Waits until a watcher has seen a revision.
    pub(crate) async fn reach(&mut self, ids: &Ids<'_>, watcher: i64, revision: i64) -> Result<()> {
        while self
            .reached
            .get(&watcher)
            .is_none_or(|reached| *reached < revision)
        {
            self.receive(ids).await?;
        }
        Ok(())
    }

    /// What came for all watchers but `without`, by watcher. It includes what has come by now.
    pub(crate) fn changes(&mut self, ids: &Ids<'_>, without: i64) -> Result<BTreeMap<i64, Vec<String>>> {
        while let Ok(response) = self.responses.try_recv() {
            let response = response.map_err(|status| anyhow::anyhow!("the watch stream ended: {status}"))?;
            self.note(response, ids)?;
        }
        let mut changes = self.events.clone();
        changes.remove(&without);
        Ok(changes)
    }

    /// Whether a watcher was created and not canceled, as far as has been received.
    pub(crate) fn is_watching(&self, watcher: i64) -> bool {
        self.living.contains(&watcher)
    }

    /// Forgets what came.
    pub(crate) fn clear(&mut self) {
        self.events.clear();
    }

    async fn receive(&mut self, ids: &Ids<'_>) -> Result<Option<Answer>> {
        let Ok(response) = tokio::time::timeout(PATIENCE, self.responses.recv()).await else {
            bail!("no watch response came for {PATIENCE:?}");
        };
        let response = response.context("the watch stream has ended")?;
        let response = response.map_err(|status| anyhow::anyhow!("the watch stream ended: {status}"))?;
        self.note(response, ids)
    }

    fn note(&mut self, mut response: WatchResponse, ids: &Ids<'_>) -> Result<Option<Answer>> {
        let id = response.watch_id;
        for event in std::mem::take(&mut response.events).iter_mut() {
            ids.event(event);
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if self.closed.get(&id) == Some(&revision) {
                bail!("watcher {id}: revision {revision} goes on in a response though none said so");
            }
            self.reached.insert(id, revision);
            self.events
                .entry(id)
                .or_default()
                .push(shortened(&format!("{event:?}")));
        }
        let reached = self.reached.get(&id).copied().unwrap_or(0);
        let header = response.header.as_ref().map_or(0, |header| header.revision);
        if header < reached && !response.created {
            bail!("watcher {id}: a header says revision {header} after an event of {reached}");
        }
        match response.fragment {
            true => self.closed.remove(&id),
            false => self.closed.insert(id, reached),
        };
        if response.created {
            if !response.canceled {
                self.living.insert(id);
            }
            return Ok(Some(Answer::Created(response)));
        }
        if response.canceled {
            let what = format!(
                "canceled {} {:?}",
                response.compact_revision, response.cancel_reason
            );
            self.events.entry(id).or_default().push(what);
            self.reached.remove(&id);
            self.closed.remove(&id);
            self.living.remove(&id);
            return Ok(Some(Answer::Canceled(id)));
        }
        Ok((id == ALL_WATCHERS).then_some(Answer::Progress(response)))
    }
}

async fn forward(
    mut stream: Streaming<WatchResponse>,
    to: &mpsc::UnboundedSender<Result<WatchResponse, Status>>,
) {
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let is_end = response.is_err();
        if to.send(response).is_err() || is_end {
            return;
        }
    }
}

/// A text that a person can read when it holds a long value.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// The id of responses that are for all watchers of a stream.
const ALL_WATCHERS: i64 = -1;

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(15);
