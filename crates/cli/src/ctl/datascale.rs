//! `check datascale`: how much memory an endpoint uses for many keys.
//!
//! The memory is what the endpoint's own metrics say of its process, before and after.

use super::check::{Cleaning, refuse_existing, steps};
use super::connection::{Client, Effect, kv};
use super::failure::{Failure, code};
use super::flags::Global;
use crate::endpoint;
use crate::output;
use bytes::Bytes;
use clap::Args;
use futures::StreamExt;
use futures::stream;
use indicatif::ProgressBar;
use quorate_etcd_api::etcdserverpb::PutRequest;
use std::collections::BTreeMap;
use std::ffi::OsString;
use tokio::time::timeout;

/// The arguments of `check datascale`.
#[derive(Args)]
pub(crate) struct Datascale {
    /// Ignored
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// How much to write: s (small), m (medium), l (large), xl (very large)
    #[arg(long, value_name = "LOAD", default_value = "s")]
    load: String,
    /// What the keys to write begin with
    #[arg(long, value_name = "PREFIX", default_value = "/etcdctl-check-datascale/")]
    prefix: String,
    /// Compact the history when the check is done
    #[arg(long)]
    auto_compact: bool,
    /// Defragment all endpoints when the check is done
    #[arg(long)]
    auto_defrag: bool,
}

impl Datascale {
    pub(super) async fn run(&self, flags: &Global, client: &Client) -> Result<(), Failure> {
        let (keys, clients) = match self.load.to_lowercase().as_str() {
            "s" | "small" => (10_000_u64, 50),
            "m" | "medium" => (100_000, 200),
            "l" | "large" => (1_000_000, 500),
            "xl" | "xlarge" => (3_000_000, 1000),
            other => {
                let message = format!("unknown load option {other}");
                return Err(Failure::with(code::BAD_FEATURE, message));
            }
        };
        refuse_existing(client, &self.prefix).await?;
        let before = self.memory(flags, "before").await?;
        output::print(&format!(
            "Start data scale check for work load [{keys} key-value pairs, {PAIR_BYTES} bytes per key-value, {clients} concurrent clients].\n"
        ))?;
        let failures = self.write(client, keys, clients).await;
        let after = self.memory(flags, "after").await?;
        let cleaning = Cleaning {
            prefix: &self.prefix,
            steps: steps(self.auto_compact, self.auto_defrag),
        };
        cleaning.clean_up(client).await?;
        if failures.is_empty() {
            let used = (after - before) / f64::from(1 << 20);
            let verdict = format!("PASS: Approximate system memory used : {used:.2} MB.\n");
            return Ok(output::print(&verdict)?);
        }
        output::print("FAIL: too many errors\n")?;
        for (error, times) in failures {
            output::print(&format!("FAIL: ERROR({error}) -> {times}\n"))?;
        }
        Err(Failure::Silent(code::ERROR))
    }

    /// Writes the keys; what went wrong, and how often.
    async fn write(&self, client: &Client, keys: u64, clients: usize) -> BTreeMap<String, u64> {
        let bar = ProgressBar::new(keys);
        let filler = Bytes::from_static(&[b'x'; PAIR_BYTES / 2]);
        let writes = stream::iter(0..keys).map(|number| {
            let (filler, bar) = (filler.clone(), &bar);
            async move {
                // As many bytes as the value has.
                let mut key = format!("{}{number:016x}", self.prefix).into_bytes();
                key.resize(self.prefix.len() + PAIR_BYTES / 2, b'x');
                let request = PutRequest {
                    key: key.into(),
                    value: filler,
                    ..PutRequest::default()
                };
                let put = async |service| kv(service).put(request.clone()).await;
                let answer = client.ask(Effect::Writes, put).await;
                bar.inc(1);
                answer.err()
            }
        });
        let mut failures = BTreeMap::new();
        let mut answers = writes.buffer_unordered(clients);
        while let Some(answer) = answers.next().await {
            if let Some(failure) = answer {
                *failures.entry(failure.to_string()).or_default() += 1;
            }
        }
        failures
    }

    /// The bytes of memory of the first endpoint's process.
    async fn memory(&self, flags: &Global, when: &str) -> Result<f64, Failure> {
        let unknown = || {
            let message = format!("FAIL: Could not read {METRIC} {when} the put operations.\n");
            output::print(&message).map_or(Failure::ReaderGone, |()| Failure::Silent(code::ERROR))
        };
        let endpoint = flags.endpoints.first().ok_or_else(unknown)?;
        let connector = flags.web_connector(endpoint)?;
        let page = timeout(
            flags.command_timeout,
            endpoint::page(endpoint, connector, "/metrics"),
        )
        .await;
        let page = page.ok().and_then(Result::ok).ok_or_else(unknown)?;
        resident(&page).filter(|bytes| *bytes > 0.0).ok_or_else(unknown)
    }
}

/// The resident memory that metrics tell of.
fn resident(page: &str) -> Option<f64> {
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(METRIC)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

const METRIC: &str = "process_resident_memory_bytes";
/// Half of it is the key, the other half the value.
const PAIR_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_servers_write_it() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# HELP process_resident_memory_bytes Resident memory\n\
                    process_resident_memory_bytes 2.1e+07\nprocess_resident_memory_bytes_max 5\n";
        assert_eq!(resident(page), Some(2.1e7));
        assert_eq!(resident("process_resident_memory_bytes 1024\n"), Some(1024.0));
        assert_eq!(resident("# none"), None);
    }
}
