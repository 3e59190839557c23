//! A server of one member, started from a binary with etcd's flags and ended with this process.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// How a server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Etcd,
    Quorate,
}

/// A running server with a directory of its own; both go when this is dropped.
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    endpoint: String,
}

impl Server {
    /// Starts `binary` on free ports of the loopback address.
    pub(crate) fn start(kind: Kind, binary: &Path) -> Result<Server> {
        let dir = tempfile::tempdir()?;
        let (clients, peers) = free_ports()?;
        let (clients, peers) = (local_url(clients), local_url(peers));
        let mut command = Command::new(binary);
        if kind == Kind::Quorate {
            // Nobody waits in etcd because logins have failed.
            command.args(["start", "--max-failed-logins", "1000000"]);
        }
        command
            .args(["--name", "a", "--data-dir"])
            .arg(dir.path().join("data"))
            .args([
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
            ])
            .args([
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
            ])
            .args(["--initial-cluster", &format!("a={peers}")])
            // Short, so that a server is there at once; one member alone never elects again.
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .args(["--bcrypt-cost", "4", "--log-level", "error"]);
        let log = File::create(log_of(&dir))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        Ok(Server {
            child,
            dir,
            endpoint: clients,
        })
    }

    /// Where it serves clients.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended by itself, {status}: {}", self.last_words()),
        }
    }

    /// The end of what it printed.
    fn last_words(&self) -> String {
        let text = std::fs::read(log_of(&self.dir)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nothing more to be done about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(dir: &TempDir) -> PathBuf {
    dir.path().join("log")
}

fn local_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Two ports on which nobody listens.
fn free_ports() -> Result<(u16, u16)> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (listen()?, listen()?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}
