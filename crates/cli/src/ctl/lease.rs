//! `lease`: leases and how long they live.

use super::args;
use super::connection::{Client, Effect, lease};
use super::failure::{Failure, code};
use super::print::json::{self, Object};
use super::print::text::Text;
use super::print::{Done, Printer, Report};
use crate::output;
use clap::Subcommand;
use prost::Message;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};
use std::ffi::OsString;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tonic::{Response, Status};

/// What can be done with leases.
#[derive(Subcommand)]
pub(crate) enum Lease {
    /// Create a lease
    #[command(after_help = "Example:\n  quorate ctl lease grant 60")]
    Grant {
        /// Seconds to live
        #[arg(value_name = "TTL")]
        words: Vec<OsString>,
    },
    /// End a lease, and delete the keys attached to it
    #[command(after_help = "Example:\n  quorate ctl lease revoke 67a2a20a3e783a01")]
    Revoke {
        /// The lease, in hexadecimal
        #[arg(value_name = "ID")]
        words: Vec<OsString>,
    },
    /// Show how long a lease lives
    #[command(after_help = "Example:\n  quorate ctl lease timetolive 67a2a20a3e783a01 --keys")]
    Timetolive {
        /// The lease, in hexadecimal
        #[arg(value_name = "ID")]
        words: Vec<OsString>,
        /// Show the keys attached to it
        #[arg(long)]
        keys: bool,
    },
    /// Show all leases
    #[command(after_help = "Example:\n  quorate ctl lease list")]
    List {
        /// Ignored
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// Renew a lease again and again
    #[command(
        name = "keep-alive",
        after_help = "Example:\n  quorate ctl lease keep-alive 67a2a20a3e783a01"
    )]
    KeepAlive {
        /// The lease, in hexadecimal
        #[arg(value_name = "ID")]
        words: Vec<OsString>,
        /// Renew it once only
        #[arg(long)]
        once: bool,
    },
}

impl Lease {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        printer.has_no_table()?;
        match self {
            Self::Grant { words } => {
                let [ttl] = words.as_slice() else {
                    return Err(Failure::arguments("lease grant command needs TTL argument"));
                };
                let ttl = args::signed(&args::text(ttl), 10);
                let ttl = ttl.map_err(|error| Failure::arguments(format!("bad TTL ({error})")))?;
                printer.print(&grant(client, ttl).await?)
            }
            Self::Revoke { words } => {
                let [id] = words.as_slice() else {
                    return Err(Failure::arguments("lease revoke command needs 1 argument"));
                };
                let id = lease_id(id)?;
                let revoke = async |service| lease(service).lease_revoke(LeaseRevokeRequest { id }).await;
                let response = client.ask(Effect::Writes, revoke).await;
                let wrap = |text: &str| format!("failed to revoke lease ({text})");
                let response = response.map_err(|failure| failure.within(wrap))?;
                printer.print(&Done {
                    header: response.header.as_ref(),
                    message: &response,
                    line: format!("lease {id:016x} revoked"),
                })
            }
            Self::Timetolive { words, keys } => {
                let [id] = words.as_slice() else {
                    return Err(Failure::arguments(
                        "lease timetolive command needs lease ID as argument",
                    ));
                };
                let id = lease_id(id)?;
                let request = LeaseTimeToLiveRequest { id, keys: *keys };
                let ask = async |service| lease(service).lease_time_to_live(request).await;
                let response = client.ask(Effect::Reads, ask).await?;
                printer.print(&TimeToLive {
                    response: &response,
                    with_keys: *keys,
                })
            }
            Self::List { .. } => {
                let list = async |service| lease(service).lease_leases(LeaseLeasesRequest {}).await;
                printer.print(&client.ask(Effect::Reads, list).await?)
            }
            Self::KeepAlive { words, once } => {
                let [id] = words.as_slice() else {
                    return Err(Failure::arguments(
                        "lease keep-alive command needs lease ID as argument",
                    ));
                };
                let id = lease_id(id)?;
                match once {
                    true => keep_alive_once(client, id, printer).await,
                    false => {
                        keep_alive(client, id, |response| printer.print(response)).await?;
                        Ok(output::print(&format!("lease {id:016x} expired or revoked.\n"))?)
                    }
                }
            }
        }
    }
}

fn lease_id(word: &OsString) -> Result<i64, Failure> {
    args::lease(&args::text(word), "lease ID arg")
}

/// Creates a lease.
///
/// # Errors
///
/// As the server refuses it.
pub(super) async fn grant(client: &Client, ttl: i64) -> Result<LeaseGrantResponse, Failure> {
    let request = LeaseGrantRequest { ttl, id: 0 };
    let grant = async |service| lease(service).lease_grant(request).await;
    let response = client.ask(Effect::Writes, grant).await;
    response.map_err(|failure| failure.within(|text| format!("failed to grant lease ({text})")))
}

/// Ends a lease.
///
/// # Errors
///
/// As the server refuses it.
pub(super) async fn revoke(client: &Client, id: i64) -> Result<(), Failure> {
    let revoke = async |service| lease(service).lease_revoke(LeaseRevokeRequest { id }).await;
    // Ended twice is ended: an answer that was lost can be asked for again.
    client.ask(Effect::Reads, revoke).await.map(|_| ())
}

async fn keep_alive_once(client: &Client, id: i64, printer: Printer) -> Result<(), Failure> {
    let renewed = renew(client, id, client.command_timeout()).await;
    let renewed = renewed.map_err(|failure| failure.exits_with(code::BAD_CONNECTION))?;
    match renewed.ttl {
        ..=0 => Err(Failure::with(
            code::BAD_CONNECTION,
            EtcdError::LeaseNotFound.message(),
        )),
        _ => printer.print(&renewed),
    }
}

/// Renews a lease until it is gone, or nobody has answered for as long as it lives.
///
/// # Errors
///
/// If it may not be renewed, or `each` fails.
pub(super) async fn keep_alive(
    client: &Client,
    id: i64,
    each: impl Fn(&LeaseKeepAliveResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut lives_until = Instant::now() + client.command_timeout();
    loop {
        let left = lives_until.saturating_duration_since(Instant::now());
        let started = Instant::now();
        let renewed = match renew(client, id, left).await {
            Ok(renewed) => renewed,
            Err(_) if Instant::now() >= lives_until => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let Ok(ttl @ 1..) = u64::try_from(renewed.ttl) else {
            return Ok(());
        };
        lives_until = started + Duration::from_secs(ttl);
        each(&renewed)?;
        sleep(Duration::from_millis(ttl.saturating_mul(1000) / 3)).await;
    }
}

/// Renews a lease once, within a time. It may be done twice.
async fn renew(client: &Client, id: i64, limit: Duration) -> Result<LeaseKeepAliveResponse, Failure> {
    let renew = async |service| {
        let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
        let mut stream = lease(service).lease_keep_alive(requests).await?.into_inner();
        let answer = stream.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the stream of renewals has ended"))?;
        Ok(Response::new(answer))
    };
    client.ask_within(limit, Effect::Reads, renew).await
}

/// An object with the fields of a header among its own.
fn flat(header: Option<&ResponseHeader>) -> Object {
    match header {
        Some(header) => Object::new().header_fields(header),
        None => Object::new(),
    }
}

impl Report for LeaseGrantResponse {
    fn simple(&self, text: &mut Text) {
        text.line(format_args!(
            "lease {:016x} granted with TTL({}s)",
            self.id, self.ttl
        ));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        text.field("ID", self.id);
        text.field("TTL", self.ttl);
    }

    fn json(&self, _: bool) -> String {
        flat(self.header.as_ref())
            .always("ID", self.id)
            .always("TTL", self.ttl)
            .always("Error", json::text(&self.error))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

impl Report for LeaseKeepAliveResponse {
    fn simple(&self, text: &mut Text) {
        text.line(format_args!(
            "lease {:016x} keepalived with TTL({})",
            self.id, self.ttl
        ));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        text.field("ID", self.id);
        text.field("TTL", self.ttl);
    }

    fn json(&self, _: bool) -> String {
        flat(self.header.as_ref())
            .always("ID", self.id)
            .always("TTL", self.ttl)
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

struct TimeToLive<'a> {
    response: &'a LeaseTimeToLiveResponse,
    with_keys: bool,
}

impl Report for TimeToLive<'_> {
    fn simple(&self, text: &mut Text) {
        let LeaseTimeToLiveResponse {
            id,
            ttl,
            granted_ttl,
            keys,
            ..
        } = self.response;
        if *granted_ttl == 0 && *ttl == -1 {
            text.line(format_args!("lease {id:016x} already expired"));
            return;
        }
        let line = format!("lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)");
        text.raw(line.as_bytes());
        if self.with_keys {
            text.raw(b", attached keys([");
            text.raw(&keys.join(&b' '));
            text.raw(b"])");
        }
        text.line("");
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.response.header.as_ref());
        text.field("ID", self.response.id);
        text.field("TTL", self.response.ttl);
        text.field("GrantedTTL", self.response.granted_ttl);
        for key in &self.response.keys {
            text.quoted("Key", key);
        }
    }

    fn json(&self, _: bool) -> String {
        let keys = match self.response.keys.as_slice() {
            [] => "null".to_string(),
            keys => json::list(keys.iter().map(|key| json::base64(key))),
        };
        flat(self.response.header.as_ref())
            .always("id", self.response.id)
            .always("ttl", self.response.ttl)
            .always("granted-ttl", self.response.granted_ttl)
            .always("keys", keys)
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}

impl Report for LeaseLeasesResponse {
    fn simple(&self, text: &mut Text) {
        text.line(format_args!("found {} leases", self.leases.len()));
        for lease in &self.leases {
            text.line(format_args!("{:016x}", lease.id));
        }
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        for lease in &self.leases {
            text.field("ID", lease.id);
        }
    }

    fn json(&self, _: bool) -> String {
        let lease = |id: i64| Object::new().always("id", id).end();
        flat(self.header.as_ref())
            .always(
                "leases",
                json::list(self.leases.iter().map(|status| lease(status.id))),
            )
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
