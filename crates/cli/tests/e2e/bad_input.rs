//! What goes wrong at the start ends as one line that says what to do, and touches nothing.

use crate::binary;
use crate::harness::block_on;
use crate::harness::cluster::{Cluster, Place, loopback_network};
use crate::harness::run;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the program, which must fail with one line; that line.
fn fails(words: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.arg("60").arg(binary()).args(words).env_remove("RUST_LOG");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{words:?} ended with {}: {text}",
        output.status
    );
    assert_eq!(text.lines().count(), 1, "{words:?} must print one line: {text}");
    assert!(text.starts_with("quorate: "), "{text}");
    assert!(
        output.stdout.is_empty(),
        "{words:?} printed {:?}",
        String::from_utf8_lossy(&output.stdout)
    );
    text
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

/// Every file below `dir` with its content.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The flags of one node at its own address, with its data in `dir`.
fn node_flags(dir: &Path, address: Ipv4Addr) -> Vec<String> {
    let settings = [
        ("--data-dir", dir.display().to_string()),
        ("--listen-peer-urls", format!("http://{address}:2380")),
        ("--listen-client-urls", format!("http://{address}:2379")),
        ("--log-level", "error".to_string()),
    ];
    settings
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_string(), value])
        .collect()
}

fn start_fails(flags: &[String]) -> String {
    let mut words = vec!["start"];
    words.extend(flags.iter().map(String::as_str));
    fails(&words)
}

#[test]
fn a_wrong_command_line() {
    assert_says(
        &fails(&["start", "--nmae", "a"]),
        &["--nmae", "--name", "quorate start --help"],
    );
    assert_says(&fails(&["strat"]), &["strat", "start"]);
    assert_says(&fails(&["dev", "--nodes", "0"]), &["--nodes", "0"]);
    assert_says(
        &fails(&["dev", "--listen-client", "2379"]),
        &["--listen-client", "2379"],
    );
    assert_says(
        &fails(&["bench", "put", "--endpoints", "127.0.0.1:1"]),
        &["127.0.0.1:1", "running"],
    );
    assert_says(
        &fails(&["sim", "run", "--seed", "18446744073709551615", "--seeds", "3"]),
        &["--seed", "3 seeds"],
    );
    assert_says(
        &fails(&["start", "--force-new-cluster"]),
        &["--force-new-cluster", "etcd", "quorate snapshot"],
    );
}

#[test]
fn a_configuration_that_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = |extra: &[&str]| {
        let mut flags = node_flags(&data, Ipv4Addr::LOCALHOST);
        flags.extend(extra.iter().map(ToString::to_string));
        let text = start_fails(&flags);
        assert!(!data.exists(), "the data directory was made");
        text
    };
    assert_says(
        &start(&["--initial-cluster", "other=http://127.0.0.1:2380"]),
        &["default", "--initial-cluster"],
    );
    assert_says(
        &start(&["--initial-cluster", "default"]),
        &["--initial-cluster", "name="],
    );
    assert_says(&start(&["--election-timeout", "10"]), &["--election-timeout"]);
    assert_says(
        &start(&["--initial-cluster-state", "existing"]),
        &["existing", data.to_str().unwrap()],
    );
}

/// Nothing is made in the size of a limit, and no sum of times is too much for a clock.
#[test]
fn the_largest_numbers_are_no_bad_input() {
    let largest = u64::MAX.to_string();
    let numbers = [
        "max-handshakes",
        "max-connections-per-address",
        "max-txn-ops",
        "max-watchers-per-stream",
        "max-watchers",
        "max-leases",
        "snapshot-count",
        "snapshot-catchup-entries",
        "auth-token-ttl",
    ];
    let times = [
        "watch-progress-notify-interval",
        "grpc-keepalive-interval",
        "grpc-keepalive-timeout",
        "warning-apply-duration",
        "auto-compaction-retention",
    ];
    let numbers = numbers.map(|flag| format!("--{flag}={largest}"));
    let times = times.map(|flag| format!("--{flag}=2562047h"));
    let tls = ["--auto-tls", "--listen-client-http-urls=https://127.0.0.1:0"];
    let flags = numbers.iter().chain(&times).map(String::as_str).chain(tls);
    block_on(async {
        let mut cluster = Cluster::start(binary(), 1, Place::Loopback, &flags.collect::<Vec<_>>())?;
        cluster.leader().await?;
        cluster.client(0).put("a", "b").await?;
        cluster.terminate(0)
    });
}

#[test]
fn a_port_in_use() {
    let address = Ipv4Addr::from_bits(loopback_network());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for port in [2379, 2380] {
        let _taken = TcpListener::bind((address, port)).unwrap();
        let text = start_fails(&node_flags(&data, address));
        assert_says(&text, &[&format!("{address}:{port}"), "in use"]);
        assert!(!data.exists(), "the data directory was made");
    }
    let _taken = TcpListener::bind((address, 2379)).unwrap();
    let endpoint = format!("{address}:2379");
    let text = fails(&[
        "dev",
        "--data-dir",
        data.to_str().unwrap(),
        "--listen-client",
        &endpoint,
    ]);
    assert_says(&text, &[&endpoint, "in use", "--listen-client"]);
    assert!(!text.contains("--listen-client-urls"), "{text}");
}

#[test]
fn a_directory_in_use() {
    block_on(async {
        let mut cluster = Cluster::start(binary(), 1, Place::Loopback, &[])?;
        cluster.leader().await?;
        let data = cluster.data_dir(0);
        let text = start_fails(&node_flags(&data, Ipv4Addr::from_bits(loopback_network())));
        assert_says(&text, &[data.to_str().unwrap(), "use"]);
        cluster.terminate(0)
    });
}

#[test]
fn a_directory_of_another_cluster() {
    let node = stopped_node();
    let text = node.start_fails_untouched(&["--initial-cluster-token", "another"]);
    assert_says(&text, &[node.data.to_str().unwrap(), "cluster"]);
}

#[test]
fn a_directory_of_a_newer_version() {
    let node = stopped_node();
    let identity = node.data.join("IDENTITY");
    let text = std::fs::read_to_string(&identity)
        .unwrap()
        .replace("format 1", "format 2");
    std::fs::write(&identity, text).unwrap();
    let text = node.start_fails_untouched(&[]);
    assert_says(&text, &[node.data.to_str().unwrap(), "format is 2", "version"]);
}

#[test]
fn a_damaged_log() {
    let node = stopped_node();
    let mut segments: Vec<PathBuf> = std::fs::read_dir(node.data.join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    let place = bytes.windows(6).position(|window| window == b"key100").unwrap();
    bytes[place] ^= 0x10;
    std::fs::write(&segments[0], bytes).unwrap();
    let text = node.start_fails_untouched(&[]);
    let name = segments[0].file_name().unwrap().to_str().unwrap();
    assert_says(&text, &[name, "damaged at byte"]);
}

/// A node that ran and was stopped.
struct StoppedNode {
    data: PathBuf,
    address: Ipv4Addr,
    _dir: tempfile::TempDir,
}

impl StoppedNode {
    /// Starts it with `flags` added, which must fail and change nothing; what it says.
    fn start_fails_untouched(&self, flags: &[&str]) -> String {
        let before = contents(&self.data);
        let mut all = node_flags(&self.data, self.address);
        all.extend(["--name", "n1"].iter().chain(flags).map(ToString::to_string));
        let text = start_fails(&all);
        assert!(contents(&self.data) == before, "the directory was touched");
        text
    }
}

/// A node with a few hundred entries in its log.
fn stopped_node() -> StoppedNode {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    block_on(async {
        let mut cluster = Cluster::start(binary(), 1, Place::Loopback, &[])?;
        cluster.leader().await?;
        for count in 0..200 {
            cluster
                .client(0)
                .put(&format!("key{count}"), &"value".repeat(10))
                .await?;
        }
        let kept = cluster.data_dir(0);
        let address = cluster.endpoint(0).ip();
        cluster.terminate(0)?;
        run(Command::new("cp").arg("-r").arg(kept).arg(&data))?;
        let std::net::IpAddr::V4(address) = address else {
            anyhow::bail!("{address} is not IPv4")
        };
        Ok(StoppedNode {
            data,
            address,
            _dir: dir,
        })
    })
}
