//! `watch`: events of keys as they happen, once or by lines typed while it runs.
//!
//! - All watches of one command share a stream. When its server is gone they go on at the next endpoint, each
//!   after the last event that it has seen.
//! - A watch from a revision that is compacted ends, and says so.

use super::args::{self, Keys};
use super::connection::{Client, watch};
use super::failure::{Failure, code, is_of_connection};
use super::print::json::{self, Object};
use super::print::text::{Text, quote};
use super::print::{Printer, Report};
use super::{as_go_has_them, words};
use crate::output;
use clap::{Args, FromArgMatches};
use prost::Message;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use quorate_etcd_api::mvccpb::Event;
use quorate_etcd_api::mvccpb::event::EventType;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status, Streaming};

/// The arguments of `watch`.
#[derive(Args)]
pub(crate) struct Watch {
    /// The key, or the first key and the one after the last
    #[arg(value_name = "KEY [RANGE_END]")]
    words: Vec<OsString>,
    /// A command to run for each event
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Read `watch` and `progress` lines from standard input
    #[arg(short, long)]
    interactive: bool,
    /// Watch all keys that begin with the key
    #[arg(long)]
    prefix: bool,
    /// The revision to begin with; 0 is now
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    rev: i64,
    /// Show what was there before each event
    #[arg(long)]
    prev_kv: bool,
    /// Ask the server to tell from time to time how far it is
    #[arg(long)]
    progress_notify: bool,
}

/// A watch, and the command to run for its events.
struct Watching {
    create: WatchCreateRequest,
    command: Vec<OsString>,
}

/// A line that was typed.
enum Line {
    Watch(Watching),
    Progress,
    /// There are no more.
    End,
}

impl Watch {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        printer.has_no_table()?;
        let (sender, lines) = mpsc::unbounded_channel();
        let is_single = !self.interactive;
        match self.interactive {
            true => read_lines(sender),
            // The channel is ours: it takes what is sent. It is never closed by a single watch.
            false => {
                let ends_with_separator = env::args_os().next_back().is_some_and(|word| word == "--");
                let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
                let watching = self.watching(ends_with_separator, variable)?;
                let _ = sender.send(Line::Watch(watching));
                let session = Session::new(client, printer, lines, is_single).run().await;
                drop(sender);
                return session;
            }
        }
        Session::new(client, printer, lines, is_single).run().await
    }

    fn watching(
        &self,
        ends_with_separator: bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Watching, Failure> {
        if ends_with_separator && self.command.is_empty() {
            let message = "bad number of arguments (found separator --, but no commands)";
            return Err(Failure::arguments(message));
        }
        let named = variable("ETCDCTL_WATCH_KEY");
        let words: Vec<OsString> = match named {
            Some(key) if self.words.is_empty() => [Some(key), variable("ETCDCTL_WATCH_RANGE_END")]
                .into_iter()
                .flatten()
                .collect(),
            Some(_) | None => self.words.clone(),
        };
        let keys = match (words.as_slice(), self.prefix) {
            ([_, _], true) => {
                return Err(Failure::arguments(
                    "`range_end` and `--prefix` are mutually exclusive",
                ));
            }
            ([key], true) => Keys::prefixed(args::bytes(key)),
            ([key], false) => Keys::one(args::bytes(key)),
            ([key, end], false) => Keys {
                key: args::bytes(key),
                range_end: args::bytes(end),
            },
            _ => return Err(Failure::arguments("bad number of arguments")),
        };
        let create = WatchCreateRequest {
            key: keys.key,
            range_end: keys.range_end,
            start_revision: self.rev,
            prev_kv: self.prev_kv,
            progress_notify: self.progress_notify,
            ..WatchCreateRequest::default()
        };
        Ok(Watching {
            create,
            command: self.command.clone(),
        })
    }
}

/// Reads lines from standard input in a thread of its own, which ends with the process.
fn read_lines(sender: UnboundedSender<Line>) {
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            match parse_line(&line) {
                Ok(line) => {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
                Err(complaint) => eprint_line(&complaint),
            }
        }
        // Nobody listens if the command has ended.
        let _ = sender.send(Line::End);
    });
}

fn parse_line(line: &str) -> Result<Line, String> {
    let line = line.trim();
    let words = words::split(line);
    let invalid = |reason: &str| format!("Invalid command {line} ({reason})");
    match words.split_first() {
        None => Err(format!("Invalid command: {line} (watch and progress supported)")),
        Some((first, [])) if first == "progress" => Ok(Line::Progress),
        Some((first, rest)) if first == "watch" => {
            if rest.is_empty() && env::var_os("ETCDCTL_WATCH_KEY").is_none() {
                return Err(invalid("command type or key is not provided"));
            }
            let command = as_go_has_them(Watch::augment_args(clap::Command::new("watch")));
            let matches = command.no_binary_name(true).try_get_matches_from(rest);
            let watch = matches.and_then(|matches| Watch::from_arg_matches(&matches));
            let watch = watch.map_err(|error| invalid(&crate::args::reason(&error)))?;
            let ends_with_separator = rest.last().is_some_and(|word| word == "--");
            let watching = watch.watching(ends_with_separator, |name| env::var_os(name));
            watching
                .map(Line::Watch)
                .map_err(|failure| invalid(failure.message()))
        }
        Some(_) => Err(invalid("only support watch")),
    }
}

/// The watches of a command.
struct Session<'a> {
    client: &'a Client,
    printer: Printer,
    lines: UnboundedReceiver<Line>,
    /// The watches that have not ended, by their ids.
    watches: BTreeMap<i64, Watching>,
    last_id: i64,
    /// Whether the end of a watch is the end of the command.
    is_single: bool,
}

impl<'a> Session<'a> {
    fn new(client: &'a Client, printer: Printer, lines: UnboundedReceiver<Line>, is_single: bool) -> Self {
        Self {
            client,
            printer,
            lines,
            watches: BTreeMap::new(),
            last_id: 0,
            is_single,
        }
    }

    async fn run(mut self) -> Result<(), Failure> {
        loop {
            match self.follow().await? {
                status if status.code() == Code::Unavailable || is_of_connection(&status) => {
                    self.client.leave(&status);
                    sleep(PAUSE).await;
                }
                status => return Err(status.into()),
            }
        }
    }

    /// Watches over one stream until it breaks; how it broke.
    async fn follow(&mut self) -> Result<Status, Failure> {
        let (sender, requests) = mpsc::unbounded_channel();
        for watching in self.watches.values() {
            send(&sender, RequestUnion::CreateRequest(watching.create.clone()));
        }
        let mut opening = std::pin::pin!(open(self.client, requests));
        let mut stream = loop {
            tokio::select! {
                opened = &mut opening => match opened? {
                    Ok(stream) => break stream,
                    Err(status) => return Ok(status),
                },
                line = self.lines.recv() => self.on_line(line, &sender)?,
            }
        };
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(response)) => self.on_response(response)?,
                    Ok(None) => return Ok(Status::unavailable("the stream of events has ended")),
                    Err(status) => return Ok(status),
                },
                line = self.lines.recv() => self.on_line(line, &sender)?,
            }
        }
    }

    fn on_line(&mut self, line: Option<Line>, sender: &UnboundedSender<WatchRequest>) -> Result<(), Failure> {
        match line {
            Some(Line::Watch(mut watching)) => {
                self.last_id += 1;
                watching.create.watch_id = self.last_id;
                send(sender, RequestUnion::CreateRequest(watching.create.clone()));
                self.watches.insert(self.last_id, watching);
                Ok(())
            }
            Some(Line::Progress) => {
                send(sender, RequestUnion::ProgressRequest(WatchProgressRequest {}));
                Ok(())
            }
            Some(Line::End) | None => Err(Failure::with(
                code::INVALID_INPUT,
                "error reading watch request line: EOF",
            )),
        }
    }

    fn on_response(&mut self, response: WatchResponse) -> Result<(), Failure> {
        // The answer to a request for progress is to all watches.
        let ids: Vec<i64> = match response.watch_id {
            -1 => self.watches.keys().copied().collect(),
            id => vec![id],
        };
        for id in ids {
            let Some(watching) = self.watches.get_mut(&id) else {
                continue;
            };
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            advance(&mut watching.create, &response, revision);
            if response.created && !response.canceled {
                continue;
            }
            let command = watching.command.clone();
            if response.canceled {
                self.watches.remove(&id);
                eprint_line(&format!("watch was canceled ({})", reason(&response)));
            } else if response.events.is_empty() && revision != 0 {
                output::print(&format!("progress notify: {revision}\n"))?;
            }
            self.printer.print(&Shown(&response))?;
            if !command.is_empty() {
                for event in &response.events {
                    run_command(&command, event, revision)?;
                }
            }
            if response.canceled && self.is_single {
                let message = "watch is canceled by the server";
                return Err(Failure::with(code::INTERRUPTED, message));
            }
        }
        Ok(())
    }
}

/// Makes a watch go on after what was seen of it, should it have to be created again.
fn advance(create: &mut WatchCreateRequest, response: &WatchResponse, revision: i64) {
    let seen = match response.events.last().and_then(|event| event.kv.as_ref()) {
        Some(kv) => kv.mod_revision,
        // Without a revision to begin with, it is one of what comes after its creation.
        None if response.created && create.start_revision != 0 => return,
        None => revision,
    };
    create.start_revision = create.start_revision.max(seen.saturating_add(1));
}

/// Why a watch was cancelled, as etcd's Go client has it.
fn reason(response: &WatchResponse) -> String {
    let status = match (response.compact_revision, response.cancel_reason.as_str()) {
        (0, "") => Status::new(EtcdError::FutureRev.code(), EtcdError::FutureRev.message()),
        // One that never began.
        (0, reason) if response.created => return reason.to_owned(),
        (0, reason) => Status::failed_precondition(reason),
        (_, _) => Status::new(EtcdError::Compacted.code(), EtcdError::Compacted.message()),
    };
    super::failure::text(&status)
}

fn eprint_line(line: &str) {
    // There is no other place to say that standard error is gone.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{line}\n"));
}

fn send(sender: &UnboundedSender<WatchRequest>, union: RequestUnion) {
    let request = WatchRequest {
        request_union: Some(union),
    };
    // A stream that broke is noticed where its answers are read; the watches are then created again.
    let _ = sender.send(request);
}

/// Opens a stream of watches; or what its server says.
async fn open(
    client: &Client,
    requests: UnboundedReceiver<WatchRequest>,
) -> Result<Result<Streaming<WatchResponse>, Status>, Failure> {
    let service = client.service().await?;
    let mut request = Request::new(UnboundedReceiverStream::new(requests));
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
    let opened = watch(service).watch(request).await;
    Ok(opened.map(tonic::Response::into_inner))
}

/// The changes of some keys.
pub(super) struct Changes {
    stream: Streaming<WatchResponse>,
    /// The stream of requests, which must stay open.
    _requests: UnboundedSender<WatchRequest>,
}

impl Changes {
    /// The changes of `keys` from a revision on; or none if the server cannot be asked for now.
    ///
    /// # Errors
    ///
    /// If nobody may watch as whoever logged in.
    pub(super) async fn of(client: &Client, keys: Keys, from: i64) -> Result<Option<Self>, Failure> {
        let (sender, requests) = mpsc::unbounded_channel();
        let create = WatchCreateRequest {
            key: keys.key,
            range_end: keys.range_end,
            start_revision: from,
            ..WatchCreateRequest::default()
        };
        send(&sender, RequestUnion::CreateRequest(create));
        match open(client, requests).await? {
            Ok(stream) => Ok(Some(Self {
                stream,
                _requests: sender,
            })),
            Err(status) if status.code() == Code::Unavailable || is_of_connection(&status) => {
                client.leave(&status);
                sleep(PAUSE).await;
                Ok(None)
            }
            Err(status) => Err(status.into()),
        }
    }

    /// The next of them; none if they must be watched anew.
    ///
    /// # Errors
    ///
    /// If the server refuses to show them.
    pub(super) async fn next(&mut self) -> Result<Option<WatchResponse>, Failure> {
        loop {
            match self.stream.message().await {
                Ok(Some(response)) if response.canceled && response.compact_revision == 0 => {
                    return Err(Failure::error(reason(&response)));
                }
                Ok(Some(response)) if response.canceled => return Ok(None),
                Ok(Some(response)) if response.events.is_empty() => {}
                Ok(Some(response)) => return Ok(Some(response)),
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}

/// Runs the command of a watch for an event.
fn run_command(command: &[OsString], event: &Event, revision: i64) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let kv = event.kv.clone().unwrap_or_default();
    let mut child = Command::new(program);
    child
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(kind(event).as_bytes()))
        .env("ETCD_WATCH_KEY", quote(&kv.key))
        .env("ETCD_WATCH_VALUE", quote(&kv.value));
    let reason = match tokio::task::block_in_place(|| child.status()) {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => exit_text(status),
        Err(error) => start_text(program, &error),
    };
    let words: Vec<String> = command
        .iter()
        .map(|word| quote(&word.clone().into_vec()))
        .collect();
    eprint_line(&format!("command [{}] error ({reason})", words.join(" ")));
    Err(Failure::Silent(code::ERROR))
}

/// How a process ended, as Go has it.
pub(super) fn exit_text(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

/// Why a process could not be started, as Go has it.
pub(super) fn start_text(program: &OsString, error: &io::Error) -> String {
    let program = quote(&program.clone().into_vec());
    match error.kind() == io::ErrorKind::NotFound {
        true => format!("exec: {program}: executable file not found in $PATH"),
        false => format!("exec: {program}: {error}"),
    }
}

fn kind(event: &Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

/// A response of a watch.
struct Shown<'a>(&'a WatchResponse);

impl Report for Shown<'_> {
    fn simple(&self, text: &mut Text) {
        for event in &self.0.events {
            text.line(kind(event));
            event.prev_kv.iter().for_each(|kv| text.key_value(kv));
            event.kv.iter().for_each(|kv| text.key_value(kv));
        }
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.0.header.as_ref());
        for event in &self.0.events {
            text.field("Type", kind(event));
            event
                .prev_kv
                .iter()
                .for_each(|kv| text.key_value_fields("Prev", kv));
            event.kv.iter().for_each(|kv| text.key_value_fields("", kv));
        }
    }

    fn json(&self, _: bool) -> String {
        let event = |event: &Event| {
            Object::new()
                .number("type", event.r#type)
                .maybe("kv", event.kv.as_ref().map(json::key_value))
                .maybe("prev_kv", event.prev_kv.as_ref().map(json::key_value))
                .end()
        };
        Object::new()
            .header("Header", self.0.header.as_ref())
            .always("Events", json::list(self.0.events.iter().map(event)))
            .always("CompactRevision", self.0.compact_revision)
            .always("Canceled", self.0.canceled)
            .always("Created", self.0.created)
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        let shown = WatchResponse {
            watch_id: 0,
            cancel_reason: String::new(),
            ..self.0.clone()
        };
        Some(shown.encode_to_vec())
    }
}

const PAUSE: Duration = Duration::from_millis(50);

/// Whether a line is one that may be typed, or what is said of it.
#[cfg(test)]
pub(super) fn check_line(line: &str) -> Result<(), String> {
    parse_line(line).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Watching, String> {
        match parse_line(text)? {
            Line::Watch(watching) => Ok(watching),
            Line::Progress => Err("progress".to_string()),
            Line::End => Err("end".to_string()),
        }
    }

    #[test]
    fn lines_are_watches_with_their_flags_and_commands() {
        let watching = line("watch --prefix --rev 7 'a b' -- echo \"x y\"").unwrap();
        assert_eq!(watching.create.key, &b"a b"[..]);
        assert_eq!(watching.create.range_end, &b"a c"[..]);
        assert_eq!(watching.create.start_revision, 7);
        assert_eq!(watching.command, ["echo", "x y"]);
        let watching = line("watch a b --prev-kv=true").unwrap();
        assert_eq!(watching.create.range_end, &b"b"[..]);
        assert!(watching.create.prev_kv && watching.command.is_empty());
        assert_eq!(line("progress").err().unwrap(), "progress");
    }

    #[test]
    fn why_a_watch_was_canceled_is_said_as_gos_client_does() {
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        let canceled = |created| WatchResponse {
            created,
            canceled: true,
            cancel_reason: denied.to_owned(),
            ..WatchResponse::default()
        };
        assert_eq!(reason(&canceled(true)), denied);
        let wrapped = format!("rpc error: code = FailedPrecondition desc = {denied}");
        assert_eq!(reason(&canceled(false)), wrapped);
    }

    #[test]
    fn lines_that_are_none_are_refused_and_not_the_end() {
        for (text, complaint) in [
            ("nope", "Invalid command nope (only support watch)"),
            (
                "watch",
                "Invalid command watch (command type or key is not provided)",
            ),
            ("  ", "Invalid command:  (watch and progress supported)"),
            (
                "watch --prefix a b",
                "Invalid command watch --prefix a b (`range_end` and `--prefix` are mutually exclusive)",
            ),
            (
                "watch a b c",
                "Invalid command watch a b c (bad number of arguments)",
            ),
        ] {
            assert_eq!(line(text).err().unwrap(), complaint);
        }
        assert!(line("watch --bad a").err().unwrap().contains("--bad"));
    }

    #[test]
    fn a_watch_goes_on_after_what_it_has_seen() {
        let mut create = WatchCreateRequest::default();
        let mut response = WatchResponse {
            created: true,
            ..WatchResponse::default()
        };
        advance(&mut create, &response, 5);
        assert_eq!(create.start_revision, 6);
        let mut from_history = WatchCreateRequest {
            start_revision: 2,
            ..WatchCreateRequest::default()
        };
        advance(&mut from_history, &response, 5);
        assert_eq!(from_history.start_revision, 2);
        response.created = false;
        let mut event = Event::default();
        event.kv.get_or_insert_default().mod_revision = 9;
        response.events.push(event);
        advance(&mut create, &response, 12);
        assert_eq!(create.start_revision, 10);
    }
}
