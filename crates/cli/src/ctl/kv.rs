//! `put`, `get`, `del` and `compaction`.

use super::args::{self, Keys};
use super::connection::{Client, Effect, Service, kv};
use super::failure::{Failure, code};
use super::print::json::{self, Object};
use super::print::text::Text;
use super::print::{Format, Printer, Report};
use crate::output;
use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use prost::Message;
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse,
};
use std::ffi::OsString;
use std::io::{self, Read};
use tonic::{Response, Status};

/// The arguments of `put`.
#[derive(Args)]
pub(crate) struct Put {
    /// The key and the value; a value that is not given is read from standard input
    #[arg(value_name = "KEY [VALUE]")]
    words: Vec<OsString>,
    /// The lease to attach the key to, in hexadecimal
    #[arg(long, value_name = "ID", default_value = "0")]
    lease: String,
    /// Show the key and value that were there before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value that is there
    #[arg(long)]
    ignore_value: bool,
    /// Keep the lease that is there
    #[arg(long)]
    ignore_lease: bool,
}

impl Put {
    /// The request; a value that is not given is what `read` finds.
    ///
    /// # Errors
    ///
    /// If the arguments make no sense.
    pub(super) fn request(
        &self,
        read: impl FnOnce() -> Result<Bytes, Failure>,
    ) -> Result<PutRequest, Failure> {
        let missing = "put command needs 1 argument and input from stdin or 2 arguments";
        let Some(key) = self.words.first() else {
            return Err(Failure::arguments(missing));
        };
        let value = match (self.words.get(1), self.ignore_value) {
            (Some(_), true) => {
                return Err(Failure::arguments(
                    "put command needs only 1 argument when 'ignore-value' is set",
                ));
            }
            (None, true) => Bytes::new(),
            (Some(value), false) => args::bytes(value),
            (None, false) => match read()? {
                nothing if nothing.is_empty() => return Err(Failure::arguments(missing)),
                value => value,
            },
        };
        Ok(PutRequest {
            key: args::bytes(key),
            value,
            lease: args::lease(&self.lease, "lease ID")?,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }

    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        printer.has_no_table()?;
        let request = self.request(standard_input)?;
        let put = async |service| kv(service).put(request.clone()).await;
        printer.print(&client.ask(Effect::Writes, put).await?)
    }
}

fn standard_input() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut value);
    read.context("cannot read the value from standard input")?;
    Ok(value.into())
}

/// The arguments of `get`.
#[derive(Args)]
pub(crate) struct Get {
    /// The key, or the first key and the one after the last
    #[arg(value_name = "KEY [RANGE_END]")]
    words: Vec<OsString>,
    /// Get all keys that begin with the key
    #[arg(long)]
    prefix: bool,
    /// Get all keys from the key on
    #[arg(long)]
    from_key: bool,
    /// Get so many keys at most; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    limit: i64,
    /// The order of the keys: ASCEND or DESCEND
    #[arg(long, value_name = "ORDER", default_value = "", hide_default_value = true)]
    order: String,
    /// What they are ordered by: CREATE, KEY, MODIFY, VALUE or VERSION
    #[arg(long, value_name = "BY", default_value = "", hide_default_value = true)]
    sort_by: String,
    /// Get them as they were at this revision; 0 is now
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    rev: i64,
    /// Read what is newest (l) or what one member has (s)
    #[arg(long, value_name = "KIND", default_value = "l")]
    consistency: String,
    /// Get keys without their values
    #[arg(long)]
    keys_only: bool,
    /// Get the number of keys, with -w fields
    #[arg(long)]
    count_only: bool,
    /// Show values only, with -w simple
    #[arg(long)]
    print_value_only: bool,
    /// Get keys that were created at this revision or later
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    min_create_rev: i64,
    /// Get keys that were created at this revision or before
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    max_create_rev: i64,
    /// Get keys that were last written at this revision or later
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    min_mod_rev: i64,
    /// Get keys that were last written at this revision or before
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    max_mod_rev: i64,
    /// Have the server send the keys in parts, as etcd 3.7 does
    #[arg(long)]
    stream: bool,
}

impl Get {
    /// The request.
    ///
    /// # Errors
    ///
    /// If the arguments make no sense.
    pub(super) fn request(&self) -> Result<RangeRequest, Failure> {
        if self.words.is_empty() {
            let missing = "get command needs one argument as key and an optional argument as range_end";
            return Err(Failure::arguments(missing));
        }
        if self.keys_only && self.count_only {
            return Err(Failure::arguments(
                "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
            ));
        }
        let serializable = match self.consistency.as_str() {
            "l" => false,
            "s" => true,
            other => {
                let message = format!("unknown consistency flag {other:?}");
                return Err(Failure::with(code::BAD_FEATURE, message));
            }
        };
        let Keys { key, range_end } = range(&self.words, self.prefix, self.from_key)?;
        let (sort_order, sort_target) = sorting(&self.order, &self.sort_by)?;
        Ok(RangeRequest {
            key,
            range_end,
            limit: self.limit,
            revision: self.rev,
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_create_revision: self.min_create_rev,
            max_create_revision: self.max_create_rev,
            min_mod_revision: self.min_mod_rev,
            max_mod_revision: self.max_mod_rev,
        })
    }

    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        let request = self.request()?;
        if self.count_only && printer.format != Format::Fields {
            return Err(Failure::arguments(
                "--count-only is only for `--write-out=fields`",
            ));
        }
        if self.print_value_only && !printer.is_simple() {
            return Err(Failure::arguments(
                "print-value-only is only for `--write-out=simple`",
            ));
        }
        printer.has_no_table()?;
        let response = match self.stream {
            false => {
                let get = async |service| kv(service).range(request.clone()).await;
                client.ask(Effect::Reads, get).await?
            }
            true => {
                let get = async |service| in_parts(service, request.clone()).await;
                client.ask(Effect::Reads, get).await?
            }
        };
        printer.print(&Range {
            response: &response,
            values_only: self.print_value_only,
        })
    }
}

/// The answer to a request that comes in parts: the header and the number of keys are in the last of them.
async fn in_parts(service: Service, request: RangeRequest) -> Result<Response<RangeResponse>, Status> {
    let mut parts = kv(service).range_stream(request).await?.into_inner();
    let mut whole = RangeResponse::default();
    while let Some(part) = parts.message().await? {
        let part = part.range_response.unwrap_or_default();
        whole.kvs.extend(part.kvs);
        whole.header = part.header.or(whole.header);
        whole.count = whole.count.max(part.count);
        whole.more |= part.more;
    }
    Ok(Response::new(whole))
}

/// The keys that arguments and flags speak of.
fn range(words: &[OsString], prefix: bool, from_key: bool) -> Result<Keys, Failure> {
    if prefix && from_key {
        return Err(Failure::arguments(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    let key = words.first().map(args::bytes).unwrap_or_default();
    match words.get(1) {
        Some(_) if prefix || from_key => Err(Failure::arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        )),
        Some(end) => Ok(Keys {
            key,
            range_end: args::bytes(end),
        }),
        None if prefix => Ok(Keys::prefixed(key)),
        None if from_key => Ok(Keys::from(key)),
        None => Ok(Keys::one(key)),
    }
}

fn sorting(order: &str, by: &str) -> Result<(SortOrder, SortTarget), Failure> {
    let bad = |message: String| Failure::with(code::BAD_FEATURE, message);
    let order = match (order.to_uppercase().as_str(), by) {
        ("", "") => SortOrder::None,
        ("" | "ASCEND", _) => SortOrder::Ascend,
        ("DESCEND", _) => SortOrder::Descend,
        _ => return Err(bad(format!("bad sort order {order}"))),
    };
    let target = match by.to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(bad(format!("bad sort target {by}"))),
    };
    Ok((order, target))
}

/// The arguments of `del`.
#[derive(Args)]
pub(crate) struct Del {
    /// The key, or the first key and the one after the last
    #[arg(value_name = "KEY [RANGE_END]")]
    words: Vec<OsString>,
    /// Delete all keys that begin with the key
    #[arg(long)]
    prefix: bool,
    /// Delete all keys from the key on
    #[arg(long)]
    from_key: bool,
    /// Show the keys and values that were deleted
    #[arg(long)]
    prev_kv: bool,
}

impl Del {
    /// The request.
    ///
    /// # Errors
    ///
    /// If the arguments make no sense.
    pub(super) fn request(&self) -> Result<DeleteRangeRequest, Failure> {
        if !(1..=2).contains(&self.words.len()) {
            let message = "del command needs one argument as key and an optional argument as range_end";
            return Err(Failure::arguments(message));
        }
        let Keys { key, range_end } = range(&self.words, self.prefix, self.from_key)?;
        Ok(DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.prev_kv,
        })
    }

    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        printer.has_no_table()?;
        let request = self.request()?;
        let delete = async |service| kv(service).delete_range(request.clone()).await;
        printer.print(&client.ask(Effect::Writes, delete).await?)
    }
}

/// The arguments of `compaction`.
#[derive(Args)]
pub(crate) struct Compaction {
    /// The revision before which the history is forgotten
    #[arg(value_name = "REVISION")]
    words: Vec<OsString>,
    /// Wait until it is gone from the disk
    #[arg(long)]
    physical: bool,
}

impl Compaction {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let [revision] = self.words.as_slice() else {
            return Err(Failure::arguments("compaction command needs 1 argument"));
        };
        let revision = args::signed(&args::text(revision), 10).map_err(Failure::error)?;
        compact(client, revision, self.physical).await?;
        Ok(output::print(&format!("compacted revision {revision}\n"))?)
    }
}

/// Forgets the history before a revision.
///
/// # Errors
///
/// As the server refuses it.
pub(super) async fn compact(client: &Client, revision: i64, physical: bool) -> Result<(), Failure> {
    let request = CompactionRequest { revision, physical };
    let compact = async |service| kv(service).compact(request).await;
    // What waits for the disk may take its time.
    match physical {
        true => client.ask_within(PHYSICAL, Effect::Writes, compact).await?,
        false => client.ask(Effect::Writes, compact).await?,
    };
    Ok(())
}

const PHYSICAL: std::time::Duration = std::time::Duration::from_secs(3600);

impl Report for PutResponse {
    fn simple(&self, text: &mut Text) {
        text.line("OK");
        if let Some(kv) = &self.prev_kv {
            text.key_value(kv);
        }
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        if let Some(kv) = &self.prev_kv {
            text.key_value_fields("Prev", kv);
        }
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.header.as_ref())
            .maybe("prev_kv", self.prev_kv.as_ref().map(json::key_value))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

/// Keys that were asked for.
pub(super) struct Range<'a> {
    pub(super) response: &'a RangeResponse,
    /// Leave out the keys among the lines.
    pub(super) values_only: bool,
}

impl<'a> From<&'a RangeResponse> for Range<'a> {
    fn from(response: &'a RangeResponse) -> Self {
        Self {
            response,
            values_only: false,
        }
    }
}

impl Report for Range<'_> {
    fn simple(&self, text: &mut Text) {
        for kv in &self.response.kvs {
            match self.values_only {
                true => text.data(&kv.value),
                false => text.key_value(kv),
            }
        }
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.response.header.as_ref());
        for kv in &self.response.kvs {
            text.key_value_fields("", kv);
        }
        text.field("More", self.response.more);
        text.field("Count", self.response.count);
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.response.header.as_ref())
            .list("kvs", self.response.kvs.iter().map(json::key_value))
            .flag("more", self.response.more)
            .number("count", self.response.count)
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}

impl Report for DeleteRangeResponse {
    fn simple(&self, text: &mut Text) {
        text.line(self.deleted);
        self.prev_kvs.iter().for_each(|kv| text.key_value(kv));
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        text.field("Deleted", self.deleted);
        for kv in &self.prev_kvs {
            text.key_value_fields("Prev", kv);
        }
    }

    fn json(&self, _: bool) -> String {
        Object::new()
            .header("header", self.header.as_ref())
            .number("deleted", self.deleted)
            .list("prev_kvs", self.prev_kvs.iter().map(json::key_value))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
