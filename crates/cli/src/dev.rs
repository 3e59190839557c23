//! `quorate dev`: a whole cluster in one process, to try things out.
//!
//! - Its nodes are real: each has its own log on disk, its own client endpoint, and they talk to
//!   each other over TCP. Only the process is shared, so that one Ctrl-C stops them all.
//! - Started again with the same directory and addresses, it finds its data.

use crate::{logging, output, start};
use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use futures::future::select_all;
use quorate_server::{InitialCluster, Server, ServerConfig, StartError, Url};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  quorate dev
  quorate dev --nodes 5 --data-dir /tmp/try --listen-client 127.0.0.1:4001

Node 1 serves clients at --listen-client, the others 20000, 30000, ... ports above it, or 10, 20, ...
above it where those would be past 65535. Each talks to the others one port above its own, on
loopback only if clients are served on all interfaces (0.0.0.0). The data stays in --data-dir until
you delete it, and belongs to the addresses it was made with: start it with the same ones.";

/// The arguments of `quorate dev`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Where the nodes keep their data
    #[arg(long, value_name = "DIR", default_value = "quorate-dev")]
    data_dir: PathBuf,
    /// Where the first node serves clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2379", value_parser = parse_address)]
    listen_client: SocketAddr,
    /// The least severe log line that is written
    #[arg(long, value_enum, default_value = "error")]
    log_level: logging::Level,
    /// How log lines are written, on standard error
    #[arg(long, value_enum, default_value = "console")]
    log_format: logging::Format,
}

/// Runs the cluster until a signal or a fatal error stops it.
///
/// # Errors
///
/// If the directory holds another cluster, a port is taken, or a node had to stop by itself.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    logging::start(options.log_level, options.log_format)?;
    let stop = start::stop_signal()?;
    let configs = configs(&options)?;
    let servers = start_all(configs.clone()).await?;
    let running = async {
        for server in &servers {
            server.ready().await;
        }
        greet(&configs, &options.data_dir)?;
        first_failure(&servers).await
    };
    let outcome = tokio::select! {
        outcome = running => outcome,
        () = stop => output::print_if_read("\nStopping.\n"),
    };
    stop_all(servers).await;
    outcome
}

async fn start_all(configs: Vec<ServerConfig>) -> anyhow::Result<Vec<Server>> {
    let mut servers = Vec::new();
    for config in configs {
        let name = config.name.clone();
        match Server::start(config).await {
            Ok(server) => servers.push(server),
            Err(error) => {
                stop_all(servers).await;
                return Err(in_our_terms(error)).with_context(|| format!("cannot start {name}"));
            }
        }
    }
    Ok(servers)
}

/// What went wrong, with our flag in the place of those of `quorate start`.
fn in_our_terms(error: StartError) -> anyhow::Error {
    if let StartError::Listen { url, source, .. } = error {
        return anyhow!(
            "cannot listen on {url}: {source}; stop what uses it, or choose other ports with --listen-client"
        );
    }
    error.into()
}

async fn stop_all(servers: Vec<Server>) {
    for server in servers {
        server.shutdown().await;
    }
}

/// Waits until a node stops by itself, which it does when it can no longer keep what it promised.
async fn first_failure(servers: &[Server]) -> anyhow::Result<()> {
    let failures = servers.iter().map(|server| Box::pin(server.failed()));
    let (reason, place, _) = select_all(failures).await;
    bail!("{} stopped: {reason}", member(place))
}

/// The configurations of all nodes, first to last.
fn configs(options: &Options) -> anyhow::Result<Vec<ServerConfig>> {
    check_size(&options.data_dir, options.nodes)?;
    let addresses = addresses(options.listen_client, options.nodes)?;
    let mut initial_cluster = InitialCluster::default();
    for (place, (_, peer)) in addresses.iter().enumerate() {
        initial_cluster.insert(member(place), Url::from_addr(*peer));
    }
    let config = |(place, (client, peer)): (usize, &(SocketAddr, SocketAddr))| ServerConfig {
        listen_client_urls: vec![Url::from_addr(*client)],
        advertise_client_urls: vec![Url::from_addr(within_reach(*client))],
        listen_peer_urls: vec![Url::from_addr(*peer)],
        initial_advertise_peer_urls: vec![Url::from_addr(*peer)],
        initial_cluster: initial_cluster.clone(),
        initial_cluster_token: "quorate-dev".to_string(),
        ..ServerConfig::new(member(place), options.data_dir.join(member(place)))
    };
    let configs: Vec<ServerConfig> = addresses.iter().enumerate().map(config).collect();
    configs.iter().try_for_each(check_owner)?;
    Ok(configs)
}

/// Fails if a node's directory is that of a cluster with other addresses, of which the ids are made.
fn check_owner(config: &ServerConfig) -> anyhow::Result<()> {
    let ours = config.check()?.cluster_id;
    // A directory that cannot be read is the node's to complain of.
    let identity = fs::read_to_string(config.data_dir.join("IDENTITY")).unwrap_or_default();
    let id = identity.lines().find_map(|line| line.strip_prefix("cluster "));
    let found = id.and_then(|id| u64::from_str_radix(id.trim(), 16).ok());
    ensure!(
        found.is_none_or(|found| found == ours),
        "{} belongs to the addresses it was made with: give the same --listen-client, or another --data-dir",
        config.data_dir.display(),
    );
    Ok(())
}

/// The address itself, or loopback in the place of all interfaces.
fn within_reach(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn member(place: usize) -> String {
    format!("node{}", place + 1)
}

/// Fails if the directory holds a cluster of another size.
fn check_size(data_dir: &Path, nodes: u16) -> anyhow::Result<()> {
    let found = (0..)
        .take_while(|place| data_dir.join(member(*place)).exists())
        .count();
    ensure!(
        found == 0 || found == usize::from(nodes),
        "{} holds a cluster of {found}: give --nodes {found}, or another --data-dir",
        data_dir.display(),
    );
    Ok(())
}

/// An address to listen on whose port others can be counted from.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let form = "it must be a host and a port, as in 127.0.0.1:2379";
    let url: Url = format!("http://{text}").parse().map_err(|_| form.to_string())?;
    if url.port() == 0 {
        return Err("the port cannot be 0, since those of the other nodes are counted from it".to_string());
    }
    url.resolve()
        .map_err(|error| format!("the host has no address that can be found: {error}"))
}

/// Where each node listens: for clients, and for its peers one port above.
fn addresses(first: SocketAddr, nodes: u16) -> anyhow::Result<Vec<(SocketAddr, SocketAddr)>> {
    let spread = |offset: fn(u16) -> u16| -> Option<Vec<_>> {
        (0..nodes).map(|place| pair(first, offset(place))).collect()
    };
    let wide = spread(|place| {
        if place == 0 {
            0
        } else {
            (place + 1).saturating_mul(10_000)
        }
    });
    let found = wide.or_else(|| spread(|place| place * 10));
    found.with_context(|| format!("{first} leaves no ports above it: give --listen-client a lower port"))
}

fn pair(first: SocketAddr, offset: u16) -> Option<(SocketAddr, SocketAddr)> {
    let client = first.port().checked_add(offset)?;
    let peer = client.checked_add(1)?;
    Some((
        SocketAddr::new(first.ip(), client),
        // Peers are believed what they say, so that nobody outside this machine may be one.
        within_reach(SocketAddr::new(first.ip(), peer)),
    ))
}

/// Prints what runs where and what to type next.
fn greet(configs: &[ServerConfig], data_dir: &Path) -> anyhow::Result<()> {
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
    let endpoints: Vec<String> = configs.iter().map(client_endpoint).collect();
    output::print_if_read(&format!(
        "\nQuorate {version}: {nodes} in this process, ready.\n\n{members}\n\n\
         Data  {data}\n\n\
         Try, in another terminal:\n\n\
         \x20 export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={all}\n\
         \x20 etcdctl put hello world\n\
         \x20 etcdctl get hello\n\
         \x20 etcdctl endpoint status -w table\n\
         \x20 curl http://{one}/health\n\n\
         Ctrl-C stops the cluster. Its data stays, and the next start finds it.\n",
        version = env!("CARGO_PKG_VERSION"),
        nodes = number(configs.len()),
        members = members(configs).trim_fmt(),
        data = data_dir.display(),
        all = endpoints.join(","),
        one = endpoints.first().map_or("", String::as_str),
    ))
}

fn number(nodes: usize) -> String {
    match nodes {
        1 => "1 node".to_string(),
        more => format!("{more} nodes"),
    }
}

fn members(configs: &[ServerConfig]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["member", "for clients", "for peers"]);
    for config in configs {
        let peer = config
            .listen_peer_urls
            .first()
            .map(Url::authority)
            .unwrap_or_default();
        table.add_row([config.name.clone(), client_endpoint(config), peer]);
    }
    table
}

fn client_endpoint(config: &ServerConfig) -> String {
    config
        .advertise_client_urls
        .first()
        .map(Url::authority)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(first: &str, nodes: u16) -> Vec<u16> {
        let addresses = addresses(first.parse().unwrap(), nodes).unwrap();
        assert!(
            addresses
                .iter()
                .all(|(client, peer)| peer.port() == client.port() + 1)
        );
        addresses.iter().map(|(client, _)| client.port()).collect()
    }

    #[test]
    fn the_usual_ports_are_etcds() {
        assert_eq!(ports("127.0.0.1:2379", 3), [2379, 22379, 32379]);
        assert_eq!(ports("127.0.0.1:2379", 5), [2379, 22379, 32379, 42379, 52379]);
        assert_eq!(ports("127.0.0.1:4001", 1), [4001]);
    }

    #[test]
    fn a_high_port_leaves_less_room() {
        assert_eq!(ports("127.0.0.1:45000", 3), [45000, 45010, 45020]);
        assert_eq!(
            ports("127.0.0.1:2379", 7),
            [2379, 2389, 2399, 2409, 2419, 2429, 2439]
        );
        assert!(addresses("127.0.0.1:65535".parse().unwrap(), 1).is_err());
        assert!(parse_address("127.0.0.1:0").is_err() && parse_address("2379").is_err());
    }

    #[test]
    fn names_are_resolved_and_a_port_of_zero_is_explained() {
        let found = parse_address("localhost:4300").unwrap();
        assert!(found.ip().is_loopback() && found.port() == 4300, "{found}");
        let error = parse_address("127.0.0.1:0").unwrap_err();
        assert!(error.contains("cannot be 0"), "{error}");
    }

    #[test]
    fn peers_are_on_loopback_when_clients_are_everywhere() {
        for (first, loopback) in [("0.0.0.0:2379", "127.0.0.1:2380"), ("[::]:2379", "[::1]:2380")] {
            let addresses = addresses(first.parse().unwrap(), 1).unwrap();
            assert_eq!(addresses, [(first.parse().unwrap(), loopback.parse().unwrap())]);
        }
    }

    #[test]
    fn one_node_is_one() {
        assert_eq!([number(1), number(3)], ["1 node", "3 nodes"]);
    }

    #[test]
    fn a_directory_keeps_its_number_of_nodes() {
        let dir = tempfile::tempdir().unwrap();
        check_size(dir.path(), 3).unwrap();
        std::fs::create_dir(dir.path().join("node1")).unwrap();
        std::fs::create_dir(dir.path().join("node2")).unwrap();
        check_size(dir.path(), 2).unwrap();
        let error = check_size(dir.path(), 3).unwrap_err().to_string();
        assert!(error.contains("--nodes 2"), "{error}");
    }
}
