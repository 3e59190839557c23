//! What can be wrong with a configuration.

use std::time::Duration;

use thiserror::Error;

use crate::auth::AuthTokenError;
use crate::security::SecurityError;
use crate::url::{Url, UrlError};

/// What is wrong with a configuration, in one line that says what to do.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A URL cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// What is said of TLS makes no sense.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The name is empty.
    #[error("the member has no name: give it one with --name")]
    NoName,
    /// A part of `--initial-cluster` is not `name=URL`.
    #[error("--initial-cluster: {0:?} must have the form name=http://host:port")]
    ClusterForm(String),
    /// The member is not in its own cluster.
    #[error("--initial-cluster has no member named {0:?}: add {0}=<its peer URL>, or correct --name")]
    NotAMember(String),
    /// The advertised peer URLs are not those in the cluster.
    #[error(
        "--initial-advertise-peer-urls {advertised} differs from --initial-cluster, which has {listed} for {name:?}: make them equal"
    )]
    PeerUrlsDiffer {
        /// The member's name.
        name: String,
        /// What it advertises.
        advertised: String,
        /// What the cluster says of it.
        listed: String,
    },
    /// Two members share a peer URL.
    #[error("--initial-cluster: members {0:?} and {1:?} share the peer URL {2}: give each its own")]
    SharedPeerUrl(String, String, Url),
    /// A list of URLs to listen on has the wrong length.
    #[error("{0} needs {1}")]
    ListenUrls(&'static str, &'static str),
    /// Clients and peers are to be listened to at one address.
    #[error("--listen-client-urls and --listen-peer-urls both name {0}: give each its own port")]
    SharedListenUrl(Url),
    /// `--initial-cluster-state` is neither of its two values.
    #[error("--initial-cluster-state {0:?} must be \"new\" or \"existing\"")]
    ClusterState(String),
    /// A node that is to join has nobody to ask.
    #[error(
        "--initial-cluster-state is existing and {0} has no data, so this node joins a cluster: name its members in --initial-cluster, or give the directory the member had"
    )]
    NobodyToJoin(String),
    /// A witness is no member.
    #[error("--initial-witnesses: {0:?} is not in --initial-cluster: add it there, or correct the name")]
    UnknownWitness(String),
    /// Nobody would keep the data.
    #[error("--initial-witnesses names all members: at least one must keep the data")]
    OnlyWitnesses,
    /// The timing cannot work.
    #[error(
        "--election-timeout {election:?} must be at least 5 times --heartbeat-interval {heartbeat:?} and at most 50s"
    )]
    Timing {
        /// The election timeout.
        election: Duration,
        /// The heartbeat interval.
        heartbeat: Duration,
    },
    /// Tokens cannot be made or read as configured.
    #[error(transparent)]
    AuthToken(#[from] AuthTokenError),
    /// Requests could be larger than the log takes.
    #[error("--max-request-bytes must be at most {0}")]
    TooManyRequestBytes(usize),
    /// A number that must be positive is not.
    #[error("{0} must be greater than 0")]
    NotPositive(&'static str),
}
