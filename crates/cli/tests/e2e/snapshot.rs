//! `quorate snapshot` against real nodes: saved, killed, restored, started.

use crate::binary;
use crate::harness::cluster::{Cluster, Place};
use crate::harness::{block_on, eventually, run};
use anyhow::{Context, ensure};
use quorate_etcd_api::mvccpb::KeyValue;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn quorate(words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(binary()).args(words).env_remove("RUST_LOG");
    command
}

fn save(cluster: &Cluster, node: usize, file: &Path) -> anyhow::Result<Value> {
    let endpoint = cluster.endpoint(node).to_string();
    let file = file.display().to_string();
    let words = [
        "snapshot",
        "save",
        &file,
        "--endpoints",
        &endpoint,
        "--output",
        "json",
    ];
    Ok(serde_json::from_str(&run(&mut quorate(&words))?)?)
}

/// All keys as a node serves them, once it does.
async fn everything(cluster: &Cluster, node: usize) -> anyhow::Result<Vec<KeyValue>> {
    let client = cluster.client(node);
    let read = || client.everything(0);
    eventually("a node serves its keys", read).await
}

/// Restores a node's directory in the place of the one that it had.
fn restore(cluster: &Cluster, node: usize, file: &Path) -> anyhow::Result<Value> {
    let directory = cluster.data_dir(node);
    fs::remove_dir_all(&directory).context("the directory that is to be replaced")?;
    let members: Vec<String> = (0..cluster.size())
        .map(|node| format!("{}={}", cluster.name(node), cluster.peer_url(node)))
        .collect();
    let (file, directory) = (file.display().to_string(), directory.display().to_string());
    let (members, url) = (members.join(","), cluster.peer_url(node));
    let words = [
        "snapshot",
        "restore",
        &file,
        "--name",
        cluster.name(node),
        "--data-dir",
        &directory,
        "--initial-cluster",
        &members,
        "--initial-advertise-peer-urls",
        &url,
        "--output",
        "json",
    ];
    Ok(serde_json::from_str(&run(&mut quorate(&words))?)?)
}

#[test]
fn three_nodes_come_back_from_one_file_after_all_was_lost() {
    block_on(async {
        let dir = tempfile::tempdir()?;
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &[])?;
        cluster.leader().await?;
        everything(&cluster, 0).await?;
        let endpoint = cluster.endpoint(0).to_string();
        let bench = [
            "bench",
            "put",
            "--total",
            "500",
            "--key-space",
            "60",
            "--endpoints",
            &endpoint,
        ];
        run(&mut quorate(&bench))?;
        let file = dir.path().join("backup.db");
        let before = everything(&cluster, 1).await?;
        let saved = save(&cluster, 1, &file)?;
        for node in 0..3 {
            cluster.kill(node)?;
        }
        let mut ids = Vec::new();
        for node in 0..3 {
            let restored = restore(&cluster, node, &file)?;
            ensure!(
                restored["keys"] == 60 && restored["revision"] == saved["revision"],
                "{restored}"
            );
            ids.push(restored["clusterId"].clone());
            cluster.restart(node)?;
        }
        ensure!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        cluster.leader().await?;
        for node in 0..3 {
            let after = everything(&cluster, node).await?;
            ensure!(after == before, "node {node} differs");
            let again = save(&cluster, node, &dir.path().join("again.db"))?;
            ensure!(again["revision"] == saved["revision"], "{again}");
        }
        // A node goes on by what its directory says, as any other.
        cluster.kill(2)?;
        cluster.restart(2)?;
        let after = everything(&cluster, 2).await?;
        ensure!(after == before, "it differs after a kill");
        let left: Vec<_> = fs::read_dir(dir.path())?.filter_map(Result::ok).collect();
        ensure!(left.len() == 2, "{left:?}");
        Ok(())
    });
}

#[test]
fn mistakes_are_said_in_one_line_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.db").display().to_string();
    let text = dir.path().join("text.db");
    fs::write(&text, vec![b'x'; 8224]).unwrap();
    let text = text.display().to_string();
    let target = dir.path().join("data").display().to_string();
    let file = dir.path().join("new.db").display().to_string();
    let cases = [
        (vec!["snapshot", "status", &missing], "missing.db: No such file"),
        (vec!["snapshot", "status", &text], "is damaged: its SHA-256"),
        (
            vec!["snapshot", "restore", &text, "--data-dir", &target],
            "is damaged: its SHA-256",
        ),
        (
            vec![
                "snapshot",
                "restore",
                &text,
                "--data-dir",
                &target,
                "--skip-hash-check",
            ],
            "not a bbolt database",
        ),
        (
            vec!["snapshot", "restore", &text, "--mark-compacted"],
            "--bump-revision",
        ),
        (
            vec![
                "snapshot",
                "restore",
                &text,
                "--name",
                "a",
                "--initial-cluster",
                "b=http://b:1",
            ],
            "no member named \"a\"",
        ),
        (
            vec!["snapshot", "save", &file, "--endpoints", "127.0.0.1:1"],
            "cannot reach http://127.0.0.1:1",
        ),
    ];
    for (words, expected) in cases {
        let output = quorate(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "only the text is there"
    );
}
