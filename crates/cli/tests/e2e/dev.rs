//! `quorate dev`: starts, serves on three endpoints, stops on a signal, finds its data.

use crate::binary;
use crate::harness::client::{Client, Consistency};
use crate::harness::cluster::loopback_network;
use crate::harness::process::Process;
use crate::harness::{block_on, eventually};
use anyhow::{Context, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

struct Dev {
    process: Process,
    clients: Vec<Client>,
}

impl Dev {
    fn start(dir: &Path, address: Ipv4Addr) -> anyhow::Result<Self> {
        let words = [
            binary().display().to_string(),
            "dev".to_string(),
            "--data-dir".to_string(),
            dir.join("data").display().to_string(),
            "--listen-client".to_string(),
            format!("{address}:2379"),
        ];
        let process = Process::spawn(&words, &dir.join("log"))?;
        let endpoint = |port| Client::new(SocketAddr::new(address.into(), port));
        let clients = [2379, 22379, 32379]
            .into_iter()
            .map(endpoint)
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { process, clients })
    }
}

#[test]
fn dev_stops_on_a_signal_and_finds_its_data_again() {
    block_on(async {
        let dir = tempfile::tempdir()?;
        let address = Ipv4Addr::from_bits(loopback_network());
        let dev = Dev::start(dir.path(), address)?;
        eventually("a first write", || dev.clients[0].put("hello", "world")).await?;
        let status = dev.process.terminate()?;
        ensure!(status.success(), "it ended with {status}");

        let dev = Dev::start(dir.path(), address)?;
        for client in &dev.clients {
            let read = || client.get("hello", Consistency::Linearizable);
            let value = eventually("an answer after the restart", read).await?;
            ensure!(value.as_deref() == Some("world"), "found {value:?}");
        }
        ensure!(dev.process.terminate()?.success(), "it ended with a failure");
        Ok(())
    });
}

#[test]
fn dev_says_what_to_type_next() {
    block_on(async {
        let dir = tempfile::tempdir()?;
        let address = Ipv4Addr::from_bits(loopback_network());
        let dev = Dev::start(dir.path(), address)?;
        let text = eventually("the text at the start", async || greeting(dir.path())).await?;
        let data = dir.path().join("data").display().to_string();
        let all = format!("{address}:2379,{address}:22379,{address}:32379");
        for part in [
            "node1",
            "node3",
            "etcdctl put",
            "curl",
            data.as_str(),
            all.as_str(),
        ] {
            ensure!(text.contains(part), "{part:?} is missing in: {text}");
        }
        ensure!(dev.process.terminate()?.success(), "it ended with a failure");
        Ok(())
    });
}

fn greeting(dir: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(dir.join("log")).context("nothing was printed yet")?;
    ensure!(text.contains("Ctrl-C"), "so far: {text}");
    Ok(text)
}
