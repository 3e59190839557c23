//! `elect`: leads until it is interrupted, or tells who leads.

use super::args::{self, Keys};
use super::connection::{Client, Effect, kv};
use super::failure::Failure;
use super::kv::Range;
use super::print::Printer;
use super::queue::{Interrupts, Session, prefix, read};
use super::watch::Changes;
use bytes::Bytes;
use clap::Args;
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::{RangeRequest, RangeResponse};
use quorate_etcd_api::mvccpb::event::EventType;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The arguments of `elect`.
#[derive(Args)]
pub(crate) struct Elect {
    /// The name of the election, and what to say as its leader
    #[arg(value_name = "NAME [PROPOSAL]")]
    words: Vec<OsString>,
    /// Show who leads, and who does after
    #[arg(short, long)]
    listen: bool,
}

impl Elect {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        let (name, proposal) = match self.words.as_slice() {
            [name] => (name, None),
            [name, proposal] => (name, Some(proposal)),
            _ => {
                let message = "elect takes one election name argument and an optional proposal argument";
                return Err(Failure::arguments(message));
            }
        };
        printer.has_no_table()?;
        match (proposal, self.listen) {
            (None, true) => observe(client, printer, &prefix(name.as_bytes())).await,
            (Some(_), true) => Err(Failure::arguments("proposal given but -l is set")),
            (None, false) => Err(Failure::arguments("no proposal argument but -l not set")),
            (Some(proposal), false) => campaign(client, printer, name, proposal).await,
        }
    }
}

async fn campaign(
    client: &Client,
    printer: Printer,
    name: &OsString,
    proposal: &OsString,
) -> Result<(), Failure> {
    let mut interrupts = Interrupts::catch()?;
    let session = Session::begin(client, TTL).await?;
    let lead = async {
        tokio::select! {
            head = session.queue_up(name.as_bytes(), args::bytes(proposal)) => {
                let response = read(client, head?.key).await?;
                if response.kvs.is_empty() {
                    return Err(Failure::error("no leader"));
                }
                printer.print(&Range::from(&response))?;
            }
            () = interrupts.next() => return Err(Failure::error("context canceled")),
        }
        interrupts.next().await;
        Ok(())
    };
    let outcome = session.during(lead, "elect: session expired").await;
    let ended = session.end().await;
    outcome.and(ended)
}

/// Shows the leader, and each after it, until nobody listens.
async fn observe(client: &Client, printer: Printer, prefix: &[u8]) -> Result<(), Failure> {
    let mut shown = Shown {
        printer,
        said: (Bytes::new(), 0),
    };
    loop {
        let mut leader = first(client, prefix).await?;
        let at = revision(&leader);
        if leader.kvs.is_empty() {
            match first_after(client, prefix, at).await? {
                Some(found) => leader = found,
                None => continue,
            }
        }
        follow(client, &mut shown, leader).await?;
    }
}

/// What was shown of leaders. One that is found again, after its server was lost, is not shown again.
struct Shown {
    printer: Printer,
    /// The last key, and the revision at which it was written.
    said: (Bytes, i64),
}

impl Shown {
    fn show(&mut self, leader: &RangeResponse) -> Result<(), Failure> {
        let said = leader.kvs.first().map(|kv| (kv.key.clone(), kv.mod_revision));
        match said {
            Some(said) if said == self.said => Ok(()),
            said => {
                self.said = said.unwrap_or_default();
                self.printer.print(&Range::from(leader))
            }
        }
    }
}

/// Shows a leader and what it says, until it leads no more.
async fn follow(client: &Client, shown: &mut Shown, mut leader: RangeResponse) -> Result<(), Failure> {
    leader.count = 0;
    shown.show(&leader)?;
    let Some(kv) = leader.kvs.first() else {
        return Ok(());
    };
    let from = revision(&leader).max(kv.mod_revision) + 1;
    let Some(mut changes) = Changes::of(client, Keys::one(kv.key.clone()), from).await? else {
        return Ok(());
    };
    while let Some(response) = changes.next().await? {
        for event in response.events {
            if event.r#type() == EventType::Delete {
                return Ok(());
            }
            let said = RangeResponse {
                header: response.header,
                kvs: event.kv.into_iter().collect(),
                ..RangeResponse::default()
            };
            shown.show(&said)?;
        }
    }
    Ok(())
}

async fn first(client: &Client, prefix: &[u8]) -> Result<RangeResponse, Failure> {
    let Keys { key, range_end } = Keys::prefixed(prefix.to_vec());
    let request = RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    };
    let range = async |service| kv(service).range(request.clone()).await;
    client.ask(Effect::Reads, range).await
}

/// Waits for the first candidate after a revision at which there was none.
async fn first_after(client: &Client, prefix: &[u8], at: i64) -> Result<Option<RangeResponse>, Failure> {
    let Some(mut changes) = Changes::of(client, Keys::prefixed(prefix.to_vec()), at + 1).await? else {
        return Ok(None);
    };
    while let Some(response) = changes.next().await? {
        let mut puts = response
            .events
            .into_iter()
            .filter(|event| event.r#type() == EventType::Put);
        if let Some(event) = puts.next() {
            return Ok(Some(RangeResponse {
                header: response.header,
                kvs: event.kv.into_iter().collect(),
                ..RangeResponse::default()
            }));
        }
    }
    Ok(None)
}

fn revision(response: &RangeResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// Seconds after which a leader that died leads no more.
const TTL: i64 = 60;
