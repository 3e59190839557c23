//! What the system says of this process. What it does not say, as outside Linux, is left out.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads what the system says whenever the page is asked for.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let stat = Stat::read();
        let cpu = stat.as_ref().and_then(Stat::cpu_seconds);
        // The encoder adds `_total`.
        if let Some(seconds) = cpu {
            let (name, help) = ("process_cpu_seconds", "CPU time, user and system, in seconds.");
            put(&mut encoder, name, help, &ConstCounter::new(seconds))?;
        }
        let figures = [
            (
                "process_start_time_seconds",
                "When the process started, in Unix time.",
                stat.as_ref().and_then(Stat::started),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory.",
                status_bytes("VmRSS:"),
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory.",
                status_bytes("VmSize:"),
            ),
            (
                "process_virtual_memory_max_bytes",
                "The most virtual memory that there may be.",
                limit("Max address space"),
            ),
            ("process_open_fds", "Open file descriptors.", open_fds()),
            (
                "process_max_fds",
                "The most file descriptors that may be open.",
                limit("Max open files"),
            ),
            ("os_fd_used", "Open file descriptors.", open_fds()),
            (
                "os_fd_limit",
                "The most file descriptors that may be open.",
                limit("Max open files"),
            ),
            (
                "etcd_server_quota_backend_bytes",
                "The memory that the keyspace may take: that of the machine, or what the process is limited to.",
                memory_limit(),
            ),
        ];
        for (name, help, figure) in figures {
            if let Some(figure) = figure {
                put(&mut encoder, name, help, &ConstGauge::new(figure))?;
            }
        }
        Ok(())
    }
}

fn put(encoder: &mut DescriptorEncoder, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// `/proc/self/stat` from its third field on, which is what comes after the name in parentheses.
struct Stat(Vec<String>);

impl Stat {
    fn read() -> Option<Stat> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_name, rest) = stat.rsplit_once(')')?;
        Some(Stat(rest.split_whitespace().map(str::to_owned).collect()))
    }

    /// A field by its number in proc(5), in seconds.
    fn seconds(&self, field: usize) -> Option<f64> {
        let ticks: f64 = self.0.get(field - 3)?.parse().ok()?;
        Some(ticks / TICKS_PER_SECOND)
    }

    fn cpu_seconds(&self) -> Option<f64> {
        Some(self.seconds(14)? + self.seconds(15)?)
    }

    fn started(&self) -> Option<f64> {
        let since_boot = self.seconds(22)?;
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = number(stat.lines().find_map(|line| line.strip_prefix("btime"))?)?;
        Some(boot + since_boot)
    }
}

/// A line of `/proc/self/status` that is in kB.
fn status_bytes(name: &str) -> Option<f64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, name)
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let kilobytes: f64 = number(text.lines().find_map(|line| line.strip_prefix(name))?)?;
    Some(kilobytes * 1024.0)
}

/// A soft limit of this process; the greatest number that there is, as Go has it, if it is unlimited.
fn limit(name: &str) -> Option<f64> {
    match soft_limit(name)?.as_str() {
        "unlimited" => Some(UNLIMITED),
        soft => soft.parse().ok(),
    }
}

fn soft_limit(name: &str) -> Option<String> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// How many files, connections among them, this process may have open; none if that is not known, or there is no limit.
pub(crate) fn max_fds() -> Option<u64> {
    soft_limit("Max open files")?.parse().ok()
}

fn open_fds() -> Option<f64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    u32::try_from(entries.count()).ok().map(f64::from)
}

/// The memory of this machine, or what the control groups of this process are limited to, if that is less.
fn memory_limit() -> Option<f64> {
    let machine = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups)
        .into_iter()
        .filter_map(|file| number::<f64>(&fs::read_to_string(file).ok()?));
    Some(limits.fold(machine, f64::min))
}

/// Where the limits on memory of these control groups are, and of those that they are in. What of them is
/// there depends on the version of control groups, and on how much of their tree a container sees.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (root, name) = match fields.next() {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some(controllers) if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(fields.next().unwrap_or_default());
        let ancestors = group
            .ancestors()
            .map(|group| group.strip_prefix("/").unwrap_or(group));
        files.extend(ancestors.map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// The first word of a text, if it is a number.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.split_whitespace().next()?.parse().ok()
}

/// `USER_HZ`, which Linux has been promising to programs since 2.4.
const TICKS_PER_SECOND: f64 = 100.0;
#[expect(clippy::cast_precision_loss, reason = "Go prints it as a float too")]
const UNLIMITED: f64 = u64::MAX as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_all_groups_around_the_process_are_looked_for() {
        let v2 = limit_files("0::/a/b\n");
        let v2: Vec<_> = v2.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            v2,
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        let v1 = limit_files("5:cpu,memory:/a\n4:cpuset:/b\n");
        let v1: Vec<_> = v1.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            v1,
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert!(limit_files("").is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_is_seen() {
        let memory = memory_limit().unwrap();
        assert!(status_bytes("VmRSS:").unwrap() < memory, "{memory}");
        assert!(open_fds().unwrap() >= 3.0);
        let started = Stat::read().unwrap().started().unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        assert!(started > 1e9 && started <= now.as_secs_f64() + 1.0, "{started}");
    }
}
