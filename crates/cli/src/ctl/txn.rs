//! `txn`: a transaction, from lines of standard input.
//!
//! Three blocks of lines, each ended by an empty line: what is compared, what is done if all of it holds,
//! and what is done if not.
//!
//! ```text
//! mod("key") > "0"
//!
//! put key "a value"
//!
//! get key
//!
//! ```

use super::args;
use super::connection::{Client, Effect, kv};
use super::failure::{Failure, code};
use super::kv::{Del, Get, Put, Range};
use super::print::json::Object;
use super::print::text::{Text, quote, unquote};
use super::print::{Printer, Report};
use super::{as_go_has_them, words};
use crate::output;
use anyhow::Context;
use bytes::Bytes;
use clap::{Args, FromArgMatches, Subcommand};
use prost::Message;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::etcdserverpb::{Compare, RequestOp, ResponseOp, TxnRequest, TxnResponse};
use std::ffi::OsString;
use std::io::{self, BufRead};

/// The arguments of `txn`.
#[derive(Args)]
pub(crate) struct Txn {
    /// There are none
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// Say what is to be typed next
    #[arg(short, long)]
    interactive: bool,
}

impl Txn {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        if !self.words.is_empty() {
            return Err(Failure::arguments("txn command does not accept argument"));
        }
        printer.has_no_table()?;
        let request = self.read(&mut io::stdin().lock())?;
        let txn = async |service| kv(service).txn(request.clone()).await;
        printer.print(&client.ask(Effect::Writes, txn).await?)
    }

    fn read(&self, input: &mut impl BufRead) -> Result<TxnRequest, Failure> {
        self.prompt("compares:")?;
        let compare = block(input, compare)?;
        self.prompt("success requests (get, put, del):")?;
        let success = block(input, operation)?;
        self.prompt("failure requests (get, put, del):")?;
        let failure = block(input, operation)?;
        Ok(TxnRequest {
            compare,
            success,
            failure,
        })
    }

    fn prompt(&self, text: &str) -> Result<(), Failure> {
        match self.interactive {
            true => Ok(output::print(&format!("{text}\n"))?),
            false => Ok(()),
        }
    }
}

/// Lines up to an empty one, each parsed.
fn block<T>(input: &mut impl BufRead, parse: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let mut parsed = Vec::new();
    loop {
        let mut line = String::new();
        let read = input.read_line(&mut line).context("cannot read standard input");
        match read.map_err(|error| invalid(format!("{error:#}")))? {
            0 => return Err(invalid("EOF")),
            _ => match line.trim() {
                "" => return Ok(parsed),
                line => parsed.push(parse(line)?),
            },
        }
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::with(code::INVALID_INPUT, message)
}

/// A line such as `mod("key") > "0"`.
fn compare(line: &str) -> Result<Compare, Failure> {
    let (target, rest) = line.split_once('(').unwrap_or((line, ""));
    let target = target.trim();
    let (key, operator, value) = parts(rest).map_err(|(key, operator)| {
        let got = format!("{target}({}) {operator} \"\"", quote(&key));
        invalid(format!("malformed comparison: {line}; got {got}"))
    })?;
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => {
            let reason = format!("unknown operator {operator}; there are = != > <");
            return Err(invalid(format!("malformed comparison: {line} ({reason})")));
        }
    };
    let bad_value = || invalid(format!("invalid txn compare request: {line}"));
    let number = |radix| {
        let text = std::str::from_utf8(&value).map_err(|_| bad_value())?;
        args::signed(text, radix).map_err(|_| bad_value())
    };
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        _ => {
            let message = format!("malformed comparison: {line} (unknown target {target})");
            return Err(invalid(message));
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(union),
    })
}

/// What follows the parenthesis: `"key") operator "value"`; else as much of it as there is.
fn parts(text: &str) -> Result<(Bytes, &str, Bytes), (Bytes, &str)> {
    let (key, rest) = unquote(text.trim_start()).ok_or((Bytes::new(), ""))?;
    let Some(rest) = rest
        .strip_prefix(')')
        .filter(|rest| rest.starts_with([' ', '\t']))
    else {
        return Err((key, ""));
    };
    let rest = rest.trim_start();
    let (operator, rest) = rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len()));
    match unquote(rest.trim_start()) {
        Some((value, _)) => Ok((key, operator, value)),
        None => Err((key, operator)),
    }
}

#[derive(Subcommand)]
enum Operation {
    Put(Put),
    Get(Get),
    Del(Del),
}

/// A line such as `put key value`.
fn operation(line: &str) -> Result<RequestOp, Failure> {
    let command = Operation::augment_subcommands(clap::Command::new("txn"));
    let command = as_go_has_them(command)
        .no_binary_name(true)
        .disable_help_subcommand(true);
    let bad = |_| invalid(format!("invalid txn request: {line}"));
    let matches = command.try_get_matches_from(words::split(line)).map_err(bad)?;
    let no_input = || Ok(Bytes::new());
    let request = match Operation::from_arg_matches(&matches).map_err(bad)? {
        Operation::Put(put) => Request::RequestPut(put.request(no_input)?),
        Operation::Get(get) => Request::RequestRange(get.request()?),
        Operation::Del(del) => Request::RequestDeleteRange(del.request()?),
    };
    Ok(RequestOp {
        request: Some(request),
    })
}

impl Report for TxnResponse {
    fn simple(&self, text: &mut Text) {
        text.line(match self.succeeded {
            true => "SUCCESS",
            false => "FAILURE",
        });
        for response in &self.responses {
            text.line("");
            if let Some(report) = report(response) {
                report.simple(text);
            }
        }
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        text.field("Succeeded", self.succeeded);
        for report in self.responses.iter().filter_map(report) {
            report.fields(text);
        }
    }

    fn json(&self, _: bool) -> String {
        let response = |response: &ResponseOp| {
            let name = match response.response.as_ref()? {
                Response::ResponsePut(_) => "response_put",
                Response::ResponseRange(_) => "response_range",
                Response::ResponseDeleteRange(_) => "response_delete_range",
                Response::ResponseTxn(_) => "response_txn",
            };
            let inside = Object::new().always(name, report(response)?.json(false)).end();
            Some(Object::new().always("Response", inside).end())
        };
        Object::new()
            .header("header", self.header.as_ref())
            .flag("succeeded", self.succeeded)
            .list("responses", self.responses.iter().filter_map(response))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

fn report(response: &ResponseOp) -> Option<Box<dyn Report + '_>> {
    Some(match response.response.as_ref()? {
        Response::ResponsePut(put) => Box::new(put.clone()),
        Response::ResponseRange(range) => Box::new(Range::from(range)),
        Response::ResponseDeleteRange(delete) => Box::new(delete.clone()),
        Response::ResponseTxn(txn) => Box::new(txn.clone()),
    })
}

/// The transaction that is typed, or what is said of it.
#[cfg(test)]
pub(super) fn read_from(mut input: &[u8]) -> Result<TxnRequest, String> {
    let txn = Txn {
        words: Vec::new(),
        interactive: false,
    };
    let read = txn.read(&mut input);
    read.map_err(|failure| failure.message().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TxnRequest, String> {
        read_from(text.as_bytes())
    }

    #[test]
    fn a_transaction_has_three_blocks() {
        let text = "mod(\"a\\x00\") > \"0\"\nval(\"b\") = \"x y\"\n\nput k 'a b' --lease=7f\n\nget --prefix p\ndel k\n\n";
        let txn = read(text).unwrap();
        assert_eq!(txn.compare[0].key, &b"a\0"[..]);
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::ModRevision(0)));
        assert_eq!(
            txn.compare[1].target_union,
            Some(TargetUnion::Value("x y".into()))
        );
        let Some(Request::RequestPut(put)) = &txn.success[0].request else {
            panic!("{:?}", txn.success);
        };
        assert_eq!((put.value.as_ref(), put.lease), (&b"a b"[..], 0x7f));
        let Some(Request::RequestRange(range)) = &txn.failure[0].request else {
            panic!("{:?}", txn.failure);
        };
        assert_eq!(range.range_end, &b"q"[..]);
        assert_eq!(txn.failure.len(), 2);
        assert_eq!(read("\n\n\n").unwrap(), TxnRequest::default());
    }

    #[test]
    fn every_operator_and_target_is_read() {
        for (line, result, union) in [
            (r#"ver("a") = "1""#, CompareResult::Equal, TargetUnion::Version(1)),
            (
                r#"c("a") != "-1""#,
                CompareResult::NotEqual,
                TargetUnion::CreateRevision(-1),
            ),
            (
                r#"m("a") < "2""#,
                CompareResult::Less,
                TargetUnion::ModRevision(2),
            ),
            (
                r#"value("a") > "z""#,
                CompareResult::Greater,
                TargetUnion::Value("z".into()),
            ),
            (
                r#"lease("a") = "1f""#,
                CompareResult::Equal,
                TargetUnion::Lease(0x1f),
            ),
        ] {
            let compare = compare(line).unwrap();
            assert_eq!(compare.result, i32::from(result), "{line}");
            assert_eq!(compare.target_union, Some(union), "{line}");
        }
    }

    #[test]
    fn what_is_no_transaction_is_refused_in_etcdctls_words() {
        for (text, message) in [
            ("", "EOF"),
            ("mod(\"a\") = \"1\"\n", "EOF"),
            (
                "foo(\"a\") = \"1\"\n",
                "malformed comparison: foo(\"a\") = \"1\" (unknown target foo)",
            ),
            (
                "val(\"a\")=\"b\"\n",
                "malformed comparison: val(\"a\")=\"b\"; got val(\"a\")  \"\"",
            ),
            (
                "mod(a = \"x\"\n",
                "malformed comparison: mod(a = \"x\"; got mod(\"\")  \"\"",
            ),
            (
                "mod(\"a\") = \"x\"\n",
                "invalid txn compare request: mod(\"a\") = \"x\"",
            ),
            ("\nfoo x\n", "invalid txn request: foo x"),
            (
                "\nput\n",
                "put command needs 1 argument and input from stdin or 2 arguments",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), message);
        }
    }
}
