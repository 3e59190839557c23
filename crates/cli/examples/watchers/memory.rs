//! The memory of the server processes, as the kernel counts it.

use super::harness::cluster::Cluster;
use anyhow::Context;
use std::fmt;

/// KiB of each node's process.
pub(crate) struct Memory(Vec<u64>);

impl Memory {
    /// What is resident.
    ///
    /// # Errors
    ///
    /// If a node does not run.
    pub(crate) fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        Self::read(cluster, "VmRSS:")
    }

    /// The most that was resident since each process was started.
    ///
    /// # Errors
    ///
    /// If a node does not run.
    pub(crate) fn peak_of(cluster: &Cluster) -> anyhow::Result<Self> {
        Self::read(cluster, "VmHWM:")
    }

    fn read(cluster: &Cluster, field: &str) -> anyhow::Result<Self> {
        let mut sizes = Vec::new();
        for node in 0..cluster.size() {
            let process = cluster.process_id(node)?;
            let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let size = line.and_then(|line| line.split_whitespace().next());
            let size = size.with_context(|| format!("process {process} has no {field}"))?;
            sizes.push(size.parse()?);
        }
        Ok(Self(sizes))
    }

    /// Bytes that all nodes have taken since `earlier`, for each of `count` things.
    pub(crate) fn bytes_since(&self, earlier: &Self, count: usize) -> u64 {
        let grown = self.total().saturating_sub(earlier.total());
        grown * 1024 / count as u64
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.0.iter().map(|kib| format!("{:.1}", mib(*kib))).collect();
        write!(
            f,
            "{:.1} MiB ({} on the nodes)",
            mib(self.total()),
            nodes.join(", ")
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
