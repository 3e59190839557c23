//! A cluster of `quorate start` processes: started, killed, cut off, healed, cleaned up.

use super::client::{Client, Consistency};
use super::process::Process;
use super::{eventually, run};
use anyhow::{Context, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// Where the nodes of a cluster run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine's loopback network, each with an address of its own.
    Loopback,
    /// Each in a network namespace of its own, joined by a bridge. Our own process must be inside
    /// a sandbox of namespaces (see the torture run), which takes them all away when it ends.
    Namespaces,
}

/// Which packets of a node are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All between the node and its peers; its clients still reach it.
    Peers,
    /// All that come from its peers; what it says still leaves.
    FromPeers,
    /// All.
    Link,
}

/// A cluster; its processes and its directory go when this is dropped.
pub(crate) struct Cluster {
    binary: PathBuf,
    dir: TempDir,
    place: Place,
    flags: Vec<String>,
    nodes: Vec<Node>,
    /// How many nodes it began with, and where the first of them is.
    first: (usize, u32),
}

/// One node, running or not.
pub(crate) struct Node {
    name: String,
    address: Ipv4Addr,
    process: Option<Process>,
    client: Client,
}

impl Cluster {
    /// Starts `size` nodes of the program `binary`, each with `flags` added to what it needs.
    ///
    /// # Errors
    ///
    /// If the network cannot be made or a process cannot be run.
    pub(crate) fn start(binary: &Path, size: u8, place: Place, flags: &[&str]) -> anyhow::Result<Self> {
        let mut cluster = Self {
            binary: binary.to_path_buf(),
            dir: tempfile::tempdir()?,
            place,
            flags: flags.iter().map(ToString::to_string).collect(),
            nodes: Vec::new(),
            first: (usize::from(size), 0),
        };
        let first = cluster.network()?;
        cluster.first.1 = first;
        for number in 0..size {
            let node = Node::new(number, first + u32::from(number))?;
            if place == Place::Namespaces {
                plug_in(&node)?;
            }
            cluster.nodes.push(node);
        }
        for node in 0..cluster.nodes.len() {
            cluster.restart(node)?;
        }
        Ok(cluster)
    }

    /// Gives one more node a place. It is no member, and does not run.
    ///
    /// # Errors
    ///
    /// If the network cannot be made.
    pub(crate) fn make_room(&mut self) -> anyhow::Result<usize> {
        let place = self.nodes.len();
        let number = u8::try_from(place)?;
        let node = Node::new(number, self.first.1 + u32::from(number))?;
        if self.place == Place::Namespaces {
            plug_in(&node)?;
        }
        self.nodes.push(node);
        Ok(place)
    }

    /// What a node is called.
    pub(crate) fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Where the other members reach a node.
    pub(crate) fn peer_url(&self, node: usize) -> String {
        self.nodes[node].peer_url()
    }

    /// How many nodes there are.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes other than `node`.
    pub(crate) fn others(&self, node: usize) -> Vec<usize> {
        (0..self.size()).filter(|other| *other != node).collect()
    }

    /// A client of `node`.
    pub(crate) fn client(&self, node: usize) -> Client {
        self.nodes[node].client.clone()
    }

    /// Clients of all nodes.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.nodes.iter().map(|node| node.client.clone()).collect()
    }

    /// Where `node` serves clients.
    pub(crate) fn endpoint(&self, node: usize) -> SocketAddr {
        SocketAddr::new(self.nodes[node].address.into(), CLIENT_PORT)
    }

    /// The process of `node`.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub(crate) fn process_id(&self, node: usize) -> anyhow::Result<u32> {
        let process = self.nodes[node].process.as_ref();
        Ok(process.context("the node does not run")?.id())
    }

    /// Where `node` keeps its data.
    pub(crate) fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(&self.nodes[node].name)
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// If it does not run, or ended by itself.
    pub(crate) fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        let process = self.nodes[node].process.take().context("the node does not run")?;
        process.kill()
    }

    /// Stops the node as an operator does.
    ///
    /// # Errors
    ///
    /// If it does not end, or not with success.
    pub(crate) fn terminate(&mut self, node: usize) -> anyhow::Result<()> {
        let process = self.nodes[node].process.take().context("the node does not run")?;
        let status = process.terminate()?;
        ensure!(
            status.success(),
            "a node that was asked to stop ended with {status}"
        );
        Ok(())
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    ///
    /// If the process cannot be run.
    pub(crate) fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        self.restart_with(node, &[])
    }

    /// Starts a node that does not run, with flags that win over the cluster's.
    ///
    /// # Errors
    ///
    /// If the process cannot be run.
    pub(crate) fn restart_with(&mut self, node: usize, flags: &[&str]) -> anyhow::Result<()> {
        let mut words = self.command(node);
        words.extend(flags.iter().map(ToString::to_string));
        let log = self.dir.path().join(format!("{}.log", self.nodes[node].name));
        self.nodes[node].process = Some(Process::spawn(&words, &log)?);
        Ok(())
    }

    /// Fails if a node that should run has ended by itself.
    ///
    /// # Errors
    ///
    /// With what it printed last.
    pub(crate) fn check_running(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                process.check_running().context(node.name.clone())?;
            }
        }
        Ok(())
    }

    /// What a node printed last that has ended by itself.
    ///
    /// # Errors
    ///
    /// If it runs, or was stopped.
    pub(crate) fn last_words_of_ended(&mut self, node: usize) -> anyhow::Result<String> {
        let process = self.nodes[node].process.as_mut().context("it was stopped")?;
        ensure!(process.check_running().is_err(), "it runs");
        let words = process.last_words();
        self.nodes[node].process = None;
        Ok(words)
    }

    /// Waits until the nodes follow one leader and answer; which one leads.
    ///
    /// # Errors
    ///
    /// If that does not happen.
    pub(crate) async fn leader_among(&mut self, nodes: &[usize]) -> anyhow::Result<usize> {
        let clients: Vec<Client> = nodes.iter().map(|node| self.client(*node)).collect();
        let leader = eventually("one leader that all follow", || agreed_leader(&clients)).await;
        self.check_running()?;
        leader.map(|place| nodes[place])
    }

    /// As [`Cluster::leader_among`], of all nodes.
    ///
    /// # Errors
    ///
    /// If that does not happen.
    pub(crate) async fn leader(&mut self) -> anyhow::Result<usize> {
        let all: Vec<usize> = (0..self.size()).collect();
        self.leader_among(&all).await
    }

    /// Waits until `node` has applied all that is committed at this moment.
    ///
    /// # Errors
    ///
    /// If that does not happen.
    pub(crate) async fn caught_up(&mut self, node: usize) -> anyhow::Result<()> {
        let others = self.others(node);
        self.caught_up_with(node, &others).await
    }

    /// As [`Cluster::caught_up`], as far as `others` know.
    ///
    /// # Errors
    ///
    /// If that does not happen.
    pub(crate) async fn caught_up_with(&mut self, node: usize, others: &[usize]) -> anyhow::Result<()> {
        let clients: Vec<Client> = others.iter().map(|other| self.client(*other)).collect();
        let mut goal = 0;
        for client in &clients {
            goal = goal.max(client.revision(Consistency::Serializable).await.unwrap_or(0));
        }
        let client = self.client(node);
        let reached = eventually("a node that catches up", || reached(&client, goal)).await;
        self.check_running()?;
        reached
    }

    /// Drops packets of `node`, until [`Cluster::heal`].
    ///
    /// # Errors
    ///
    /// If iptables cannot do it.
    pub(crate) fn cut(&self, node: usize, cut: Cut) -> anyhow::Result<()> {
        let peer = PEER_PORT.to_string();
        let to = ["-p", "tcp", "--dport", peer.as_str()];
        let from = ["-p", "tcp", "--sport", peer.as_str()];
        let rules: Vec<(&str, &[&str])> = match cut {
            Cut::Peers => vec![
                ("INPUT", &to),
                ("INPUT", &from),
                ("OUTPUT", &to),
                ("OUTPUT", &from),
            ],
            Cut::FromPeers => vec![("INPUT", &to), ("INPUT", &from)],
            Cut::Link => vec![("INPUT", &[]), ("OUTPUT", &[])],
        };
        for (chain, packets) in rules {
            let rule = [&["-A", chain], packets, &["-j", "DROP"]].concat();
            self.iptables(node, &rule)?;
        }
        Ok(())
    }

    /// Lets all packets of `node` pass again.
    ///
    /// # Errors
    ///
    /// If iptables cannot do it.
    pub(crate) fn heal(&self, node: usize) -> anyhow::Result<()> {
        self.iptables(node, &["-F"])
    }

    fn iptables(&self, node: usize, words: &[&str]) -> anyhow::Result<()> {
        ensure!(
            self.place == Place::Namespaces,
            "only a node in a namespace can be cut off"
        );
        let name = self.nodes[node].name.as_str();
        run(Command::new("ip")
            .args(["netns", "exec", name, "iptables", "-w"])
            .args(words))
        .map(|_| ())
    }

    /// Makes the network; the address of the first node.
    fn network(&self) -> anyhow::Result<u32> {
        match self.place {
            Place::Loopback => Ok(loopback_network()),
            Place::Namespaces => {
                make_bridge()?;
                Ok(Ipv4Addr::new(169, 254, 77, 1).to_bits())
            }
        }
    }

    /// What runs `node`, as words.
    fn command(&self, node: usize) -> Vec<String> {
        let (first, _) = self.first;
        // One that came later joins those that are there.
        let (named, state) = match node < first {
            true => (first, "new"),
            false => (self.nodes.len(), "existing"),
        };
        let node = &self.nodes[node];
        let inside = ["ip", "netns", "exec", node.name.as_str()];
        let prefix: &[&str] = match self.place {
            Place::Loopback => &[],
            Place::Namespaces => &inside,
        };
        let mut words: Vec<String> = prefix.iter().map(ToString::to_string).collect();
        words.extend([self.binary.display().to_string(), "start".to_string()]);
        let client = format!("http://{}:{CLIENT_PORT}", node.address);
        let settings = [
            ("--name", node.name.clone()),
            (
                "--data-dir",
                self.dir.path().join(&node.name).display().to_string(),
            ),
            ("--listen-peer-urls", node.peer_url()),
            ("--initial-advertise-peer-urls", node.peer_url()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--initial-cluster", self.initial_cluster(named)),
            ("--initial-cluster-state", state.to_string()),
        ];
        for (flag, value) in settings {
            words.extend([flag.to_string(), value]);
        }
        words.extend(self.flags.iter().cloned());
        words
    }

    fn initial_cluster(&self, named: usize) -> String {
        let members: Vec<String> = self
            .nodes
            .iter()
            .take(named)
            .map(|node| format!("{}={}", node.name, node.peer_url()))
            .collect();
        members.join(",")
    }
}

impl Node {
    fn new(number: u8, address: u32) -> anyhow::Result<Self> {
        let address = Ipv4Addr::from_bits(address);
        let client = Client::new(SocketAddr::new(address.into(), CLIENT_PORT))?;
        Ok(Self {
            name: format!("n{}", number + 1),
            address,
            process: None,
            client,
        })
    }

    fn peer_url(&self) -> String {
        format!("http://{}:{PEER_PORT}", self.address)
    }
}

/// Which of the clients' nodes leads, if they all say the same one does.
async fn agreed_leader(clients: &[Client]) -> anyhow::Result<usize> {
    let mut leaders = Vec::new();
    let mut members = Vec::new();
    for client in clients {
        let status = client.status().await?;
        members.push(
            status
                .header
                .as_ref()
                .context("the status has no header")?
                .member_id,
        );
        leaders.push(status.leader);
    }
    let leader = *leaders.first().context("there are no nodes to ask")?;
    if leaders.iter().any(|other| *other != leader) {
        bail!("the nodes name different leaders: {leaders:x?}");
    }
    members
        .iter()
        .position(|member| *member == leader)
        .context("none of the nodes leads")
}

async fn reached(client: &Client, goal: i64) -> anyhow::Result<()> {
    let revision = client.revision(Consistency::Serializable).await?;
    ensure!(revision >= goal, "revision {revision} of {goal}");
    Ok(())
}

/// The first address of a network on loopback that no other cluster uses: drawn from the id of our
/// process, and new at each call. All of 127.0.0.0/8 is loopback on Linux, so that every node has
/// the usual ports, which no other program is given by chance.
pub(crate) fn loopback_network() -> u32 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let process = std::process::id() % 0x7e00 + 0x100;
    let cluster = NEXT.fetch_add(10, Ordering::Relaxed);
    Ipv4Addr::new(127, 0, 0, 1).to_bits() + (process << 8) + u32::from(cluster)
}

fn make_bridge() -> anyhow::Result<()> {
    ip("link add quorate type bridge")?;
    // An address of the link itself: nothing routes it, so that no packet can leave the sandbox.
    ip("addr add 169.254.77.254/24 dev quorate")?;
    ip("link set quorate up")
}

fn plug_in(node: &Node) -> anyhow::Result<()> {
    let (name, address) = (&node.name, node.address);
    ip(&format!("netns add {name}"))?;
    ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
    ip(&format!("link set {name} master quorate up"))?;
    ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
    ip(&format!("-n {name} link set eth0 up"))?;
    ip(&format!("-n {name} link set lo up"))
}

fn ip(words: &str) -> anyhow::Result<()> {
    run(Command::new("ip").args(words.split(' '))).map(|_| ())
}

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
