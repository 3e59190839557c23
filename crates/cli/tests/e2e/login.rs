//! Our own commands where authentication is on.

use crate::binary;
use crate::faults::{TIMING, TURN};
use crate::harness::cluster::{Cluster, Place};
use crate::harness::{block_on, run};
use anyhow::{Context, ensure};
use std::process::Command;
use std::sync::PoisonError;

/// The program, at the first node.
fn quorate(cluster: &Cluster, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(words)
        .env("ETCDCTL_ENDPOINTS", cluster.endpoint(0).to_string());
    command
}

#[test]
fn members_loads_and_backups_say_who_asks() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let mut cluster = Cluster::start(binary(), 1, Place::Loopback, &TIMING)?;
        cluster.leader().await?;
        for words in [
            ["user", "add", "root:pw"].as_slice(),
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            run(&mut quorate(&cluster, &[&["ctl"], words].concat()))?;
        }
        let directory = tempfile::tempdir()?;
        let backup = directory.path().join("backup.db");
        let backup = backup.to_str().context("no UTF-8")?;
        for words in [
            ["member", "list"].as_slice(),
            &["bench", "put", "--total", "10"],
            &["snapshot", "save", backup],
        ] {
            let refused = run(&mut quorate(&cluster, words)).map(drop);
            let told = format!("{:#}", refused.err().context("nobody was asked who they are")?);
            ensure!(told.contains("user name is empty"), "{told}");
            let wrong = [words, &["--user", "root:guess"]].concat();
            let refused = run(&mut quorate(&cluster, &wrong)).map(drop);
            let told = format!("{:#}", refused.err().context("any password will do")?);
            ensure!(told.contains("invalid user ID or password"), "{told}");
            run(&mut quorate(&cluster, &[words, &["--user", "root:pw"]].concat()))?;
            run(quorate(&cluster, words).env("ETCDCTL_USER", "root:pw"))?;
            run(quorate(&cluster, words)
                .env("ETCDCTL_USER", "root")
                .env("ETCDCTL_PASSWORD", "pw"))?;
        }
        Ok(())
    });
}
