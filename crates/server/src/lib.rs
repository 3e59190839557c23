//! The etcd v3 API over a replicated keyspace.

mod config;
mod url;

pub use config::{ClusterState, ConfigError, Identity, InitialCluster, Limits, MemberConfig, ServerConfig};
pub use url::{Url, UrlError};
