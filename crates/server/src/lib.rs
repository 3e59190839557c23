//! The etcd v3 API over a replicated keyspace.
//!
//! [`Server::start`] runs one member of a cluster: it binds its ports, opens its data, joins its peers
//! and serves etcd's clients by gRPC, and people and probes by HTTP on the same port.
//!
//! ```text
//!   client -> listener -> surface -> services -> node -> quorate::Replica <- peers
//!                          |    |                          | apply thread
//!                    gateway    pages                  machine over quorate_kv::Keyspace
//! ```
//!
//! - It translates and decides nothing: what a request does is the keyspace's business, in which order
//!   is the replica's.
//! - Errors are etcd's, code and text, wherever etcd has one.
//! - Nothing is opened, bound or changed before the configuration makes sense.

mod addresses;
mod auth;
mod authority;
mod backup;
mod call;
mod compaction;
mod config;
mod flag;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod http;
mod identity;
mod leases;
mod listener;
mod machine;
mod meter;
mod metrics;
mod node;
mod probes;
mod prompt;
mod query;
mod reading;
mod reflection;
mod rpc;
mod security;
mod seldom;
mod server;
mod services;
mod surface;
mod tasks;
mod translate;
mod url;
mod web;

pub use auth::{AuthConfig, AuthTokenError, BcryptCost, JwtConfig, SignMethod, TokenKind};
pub use backup::{
    Backup, BackupError, HashCheck, Restore, RestoreError, Restored, SaltError, Status as BackupStatus,
};
pub use compaction::AutoCompaction;
pub use config::{
    ClusterState, ConfigError, Identity, InitialCluster, KeepAlive, LearnerPromotion, Limits, MemberConfig,
    ServerConfig, WarnAfter,
};
pub use quorate::{AllowedPeers, KeyPairFiles, PeerTls, TlsProtocol, TlsTerms};
pub use quorate_tls::{Allowed, Clients, Suite, TermsError, Version};
pub use security::{ClientName, ClientTls, CommonNames, MemberTls, SecurityError};
pub use server::{Server, StartError};
pub use url::{Scheme, Url, UrlError};
pub use web::Web;

/// The version of etcd whose API this is, where clients ask for it. Some parse it: the API server of
/// Kubernetes trusts the progress of watches from certain versions on.
pub const ETCD_VERSION: &str = "3.5.21";

/// The version that etcd would say the whole cluster has.
pub const CLUSTER_VERSION: &str = "3.5.0";
