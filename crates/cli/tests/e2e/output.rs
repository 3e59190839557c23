//! What becomes of a process whose output nobody reads, or a file does.

use crate::binary;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// The command, which ends if it should hang.
fn quorate(words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(binary()).args(words).env_remove("RUST_LOG");
    command
}

/// A writer whose reader has gone.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_printing_quietly() {
    let replay = [
        "sim",
        "replay",
        "7",
        "--nodes",
        "1",
        "--faults-for",
        "1",
        "--trace",
    ];
    let output = quorate(&replay).stdout(closed_pipe()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.is_empty(),
        "{}: {text}",
        output.status
    );
}

#[test]
fn a_mistake_nobody_can_read_is_still_a_mistake() {
    let status = quorate(&["start", "--nmae"]).stderr(closed_pipe()).status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn a_node_introduces_itself_without_colours_and_outlives_its_logs_reader() {
    let dir = tempfile::tempdir().unwrap();
    let address = Ipv4Addr::from_bits(crate::harness::cluster::loopback_network());
    let data = dir.path().join("data");
    let (peers, clients) = (format!("http://{address}:2380"), format!("http://{address}:2379"));
    let mut node = Command::new("timeout")
        .args(["--signal", "TERM", "--preserve-status", "4"])
        .arg(binary())
        .args([
            "start",
            "--listen-peer-urls",
            &peers,
            "--listen-client-urls",
            &clients,
        ])
        .args(["--data-dir", data.to_str().unwrap()])
        .env("ETCD_QUOTA_BACKEND_BYTES", "8")
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(node.stderr.take().unwrap()).lines();
    let warning = lines.next().unwrap().unwrap();
    assert!(
        warning.contains("--quota-backend-bytes has no effect"),
        "{warning}"
    );
    let banner = lines.next().unwrap().unwrap();
    for part in [clients.as_str(), data.to_str().unwrap()] {
        assert!(banner.contains(part), "{part:?} is missing in: {banner}");
    }
    assert!(!banner.contains('\u{1b}'), "{banner:?}");
    // A node that joins has to ask who it is, so that every node says it once it is open.
    let mut lines_left = lines.by_ref().map(Result::unwrap);
    let who = lines_left.find(|line| line.contains("member_id=")).unwrap();
    assert!(who.contains("cluster_id="), "{who}");
    // Everything it logs from here on, to its end, meets a pipe that is closed.
    drop(lines);
    let status = node.wait().unwrap();
    assert!(status.success(), "it ended with {status}");
}
