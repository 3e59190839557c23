//! `quorate bench` against a real node.

use crate::binary;
use crate::harness::block_on;
use crate::harness::cluster::{Cluster, Place};
use crate::harness::run;
use anyhow::ensure;
use std::process::Command;

#[test]
fn bench_writes_what_it_reads_and_counts_it() {
    block_on(async {
        let mut cluster = Cluster::start(binary(), 1, Place::Loopback, &[])?;
        cluster.leader().await?;
        let endpoint = cluster.endpoint(0).to_string();
        let bench = |workload: &str| {
            let common = [
                "--total",
                "300",
                "--clients",
                "7",
                "--conns",
                "2",
                "--key-space",
                "50",
            ];
            let output = ["--output", "json", "--endpoints", endpoint.as_str()];
            let mut command = Command::new(binary());
            command.args(["bench", workload]).args(common).args(output);
            anyhow::Ok(serde_json::from_str::<serde_json::Value>(&run(&mut command)?)?)
        };
        for workload in ["put", "range"] {
            let figures = bench(workload)?;
            ensure!(figures["answered"] == 300 && figures["failed"] == 0, "{figures}");
            ensure!(figures["missing"] == 0, "{figures}");
            ensure!(
                figures["latency_us"]["p99"].as_u64() >= figures["latency_us"]["p50"].as_u64(),
                "{figures}"
            );
        }
        let all = cluster.client(0).everything(0).await?;
        ensure!(
            all.len() == 50 && all.iter().all(|kv| kv.value.len() == 256),
            "{} keys",
            all.len()
        );
        Ok(())
    });
}
