//! `make-mirror`: copies keys to another cluster, and then every change of them.

use super::args::Keys;
use super::connection::{Client, Credentials, Effect, kv as kv_client};
use super::failure::Failure;
use super::flags::TlsFiles;
use super::terminal;
use super::watch::Changes;
use crate::endpoint::Tls;
use crate::output;
use bytes::Bytes;
use clap::Args;
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use quorate_etcd_api::mvccpb::Event;
use quorate_etcd_api::mvccpb::event::EventType;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// The arguments of `make-mirror`.
#[derive(Args)]
pub(crate) struct MakeMirror {
    /// An endpoint of the other cluster
    #[arg(value_name = "DESTINATION")]
    words: Vec<OsString>,
    /// Copy the keys that begin with this
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Put this in the place of the prefix
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    dest_prefix: OsString,
    /// Put nothing in the place of the prefix
    #[arg(long)]
    no_dest_prefix: bool,
    /// Who logs in at the other cluster: a name, or name:password
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    dest_user: String,
    /// The password of --dest-user
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    dest_password: String,
    /// The authorities of the other cluster's certificates, in PEM form
    #[arg(long, value_name = "FILE")]
    dest_cacert: Option<PathBuf>,
    /// The certificate to show to the other cluster, in PEM form
    #[arg(long, value_name = "FILE")]
    dest_cert: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, value_name = "FILE")]
    dest_key: Option<PathBuf>,
    /// Whether a destination without a scheme is talked to in clear
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    dest_insecure_transport: bool,
}

impl MakeMirror {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let [destination] = self.words.as_slice() else {
            return Err(Failure::arguments("make-mirror takes one destination argument"));
        };
        if self.no_dest_prefix && !self.dest_prefix.is_empty() {
            return Err(Failure::arguments(
                "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one.",
            ));
        }
        let destination = super::args::text(destination);
        let tls = self.tls(&destination)?;
        let mirror = Mirror {
            source: client,
            target: client.elsewhere(destination, tls, self.credentials()?)?,
            prefix: super::args::bytes(&self.prefix),
            target_prefix: match (self.no_dest_prefix, self.dest_prefix.is_empty()) {
                (true, _) => Bytes::new(),
                (false, true) => super::args::bytes(&self.prefix),
                (false, false) => super::args::bytes(&self.dest_prefix),
            },
            copied: AtomicU64::new(0),
        };
        tokio::select! {
            ended = mirror.run() => ended,
            told = mirror.tell() => told,
        }
    }

    fn tls(&self, destination: &str) -> Result<Tls, Failure> {
        let files = TlsFiles {
            authorities: self.dest_cacert.clone(),
            certificate: self.dest_cert.clone(),
            key: self.dest_key.clone(),
        };
        let is_named = self.dest_cacert.is_some() || self.dest_cert.is_some() || self.dest_key.is_some();
        let is_default = is_named || !self.dest_insecure_transport;
        let connector = match is_default || destination.starts_with("https://") {
            true => files.connector(false, b"h2")?,
            false => None,
        };
        Ok(Tls {
            connector,
            is_default,
            name: None,
        })
    }

    fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let (name, password) = match (self.dest_user.split_once(':'), self.dest_password.as_str()) {
            _ if self.dest_user.is_empty() => return Ok(None),
            (Some((name, password)), "") => (name, password.to_string()),
            (None, "") => (
                self.dest_user.as_str(),
                terminal::secret("Destination Password: ")?,
            ),
            (_, password) => (self.dest_user.as_str(), password.to_string()),
        };
        let name = name.to_string();
        Ok(Some(Credentials::Password { name, password }))
    }
}

struct Mirror<'a> {
    source: &'a Client,
    target: Client,
    prefix: Bytes,
    target_prefix: Bytes,
    /// Puts and deletes that were made at the target.
    copied: AtomicU64,
}

impl Mirror<'_> {
    /// Says from time to time how much was copied.
    async fn tell(&self) -> Result<(), Failure> {
        loop {
            sleep(TELL).await;
            output::print(&format!("{}\n", self.copied.load(Ordering::Relaxed)))?;
        }
    }

    async fn run(&self) -> Result<(), Failure> {
        let mut next = self.copy_all().await? + 1;
        loop {
            let keys = Keys::prefixed(self.prefix.clone());
            let Some(mut changes) = Changes::of(self.source, keys, next).await? else {
                continue;
            };
            while let Some(response) = changes.next().await? {
                let last = response.events.last().and_then(|event| event.kv.as_ref());
                let last = last.map_or(next, |kv| kv.mod_revision);
                self.repeat(response.events).await?;
                next = last + 1;
            }
        }
    }

    /// Copies what is there; the revision that it is of.
    async fn copy_all(&self) -> Result<i64, Failure> {
        let Keys { mut key, range_end } = Keys::prefixed(self.prefix.clone());
        let mut revision = 0;
        loop {
            let page = self.page(key.clone(), range_end.clone(), revision).await?;
            if revision == 0 {
                revision = page.header.as_ref().map_or(0, |header| header.revision);
            }
            for kv in &page.kvs {
                let request = PutRequest {
                    key: self.renamed(&kv.key),
                    value: kv.value.clone(),
                    ..PutRequest::default()
                };
                // Written twice is the same as once.
                let put = async |service| kv_client(service).put(request.clone()).await;
                self.target.ask(Effect::Reads, put).await?;
                self.copied.fetch_add(1, Ordering::Relaxed);
            }
            match page.kvs.last() {
                Some(last) if page.more => key = [last.key.as_ref(), b"\0"].concat().into(),
                Some(_) | None => return Ok(revision),
            }
        }
    }

    async fn page(&self, key: Bytes, range_end: Bytes, revision: i64) -> Result<RangeResponse, Failure> {
        let request = RangeRequest {
            key,
            range_end,
            revision,
            limit: PAGE,
            ..RangeRequest::default()
        };
        let range = async |service| kv_client(service).range(request.clone()).await;
        self.source.ask(Effect::Reads, range).await
    }

    /// Repeats events at the target: those of one revision in one transaction.
    async fn repeat(&self, events: Vec<Event>) -> Result<(), Failure> {
        let mut batch = Batch::default();
        for event in events {
            let Some(kv) = event.kv.clone() else { continue };
            if batch.revision != kv.mod_revision || batch.requests.len() >= MAX_OPERATIONS {
                self.send(std::mem::take(&mut batch)).await?;
            }
            batch.revision = kv.mod_revision;
            let key = self.renamed(&kv.key);
            if !batch.keys.insert(key.clone()) {
                continue;
            }
            batch.requests.push(RequestOp {
                request: Some(match event.r#type() {
                    EventType::Put => Request::RequestPut(PutRequest {
                        key,
                        value: kv.value,
                        ..PutRequest::default()
                    }),
                    EventType::Delete => Request::RequestDeleteRange(DeleteRangeRequest {
                        key,
                        ..DeleteRangeRequest::default()
                    }),
                }),
            });
        }
        self.send(batch).await
    }

    async fn send(&self, batch: Batch) -> Result<(), Failure> {
        let count = batch.requests.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let request = TxnRequest {
            success: batch.requests,
            ..TxnRequest::default()
        };
        // Done twice in a row is the same as once.
        let txn = async |service| kv_client(service).txn(request.clone()).await;
        self.target.ask(Effect::Reads, txn).await?;
        self.copied.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// A key of the source as it is called at the target.
    fn renamed(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(self.prefix.as_ref()).unwrap_or(key);
        [self.target_prefix.as_ref(), rest].concat().into()
    }
}

/// What happened at one revision.
#[derive(Default)]
struct Batch {
    revision: i64,
    keys: BTreeSet<Bytes>,
    requests: Vec<RequestOp>,
}

const PAGE: i64 = 1000;
/// As many as servers take in one transaction.
const MAX_OPERATIONS: usize = 128;
const TELL: Duration = Duration::from_secs(30);
