//! Whether a configuration makes sense.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ServerConfig;
use super::cluster::ClusterState;
use super::error::ConfigError;
use super::identity::Identity;
use crate::compaction::AutoCompaction;
use crate::security;
use crate::url::Url;

impl ServerConfig {
    /// Who this member and its peers are, if the configuration makes sense.
    pub fn check(&self) -> Result<Identity, ConfigError> {
        self.check_urls()?;
        self.check_numbers()?;
        self.check_cluster()?;
        self.check_existing()?;
        self.check_witnesses()?;
        security::check(self)?;
        Ok(self.identity(None))
    }

    /// Whether the members of a cluster make sense, and this is one of them.
    pub(crate) fn check_members(&self) -> Result<(), ConfigError> {
        self.check_cluster()?;
        self.check_witnesses()
    }

    fn check_urls(&self) -> Result<(), ConfigError> {
        if self.listen_peer_urls.len() != 1 {
            return Err(ConfigError::ListenUrls("--listen-peer-urls", "one URL"));
        }
        if self.listen_client_urls.is_empty() {
            return Err(ConfigError::ListenUrls("--listen-client-urls", "a URL"));
        }
        let peers = &self.listen_peer_urls[0];
        if peers.port() != 0 && self.listen_client_urls.contains(peers) {
            return Err(ConfigError::SharedListenUrl(peers.clone()));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        self.limits.check()?;
        if let Some(AutoCompaction::Periodic(Duration::ZERO) | AutoCompaction::Revisions(0)) =
            self.auto_compaction
        {
            return Err(ConfigError::NotPositive("--auto-compaction-retention"));
        }
        if self.keep_alive.interval.is_zero() || self.keep_alive.timeout.is_zero() {
            return Err(ConfigError::NotPositive(
                "--grpc-keepalive-interval and --grpc-keepalive-timeout",
            ));
        }
        if self.heartbeat_interval.is_zero() {
            return Err(ConfigError::NotPositive("--heartbeat-interval"));
        }
        if self.auth.simple_ttl.is_zero() {
            return Err(ConfigError::NotPositive("--auth-token-ttl"));
        }
        if self.snapshot_count == 0 {
            return Err(ConfigError::NotPositive("--snapshot-count"));
        }
        let (election, heartbeat) = (self.election_timeout, self.heartbeat_interval);
        if election < heartbeat * 5 || election > MAX_ELECTION_TIMEOUT {
            return Err(ConfigError::Timing { election, heartbeat });
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(ConfigError::NoName);
        }
        let listed = self
            .initial_cluster
            .urls(&self.name)
            .ok_or_else(|| ConfigError::NotAMember(self.name.clone()))?;
        let advertised: BTreeSet<Url> = self.initial_advertise_peer_urls.iter().cloned().collect();
        if advertised != *listed {
            return Err(ConfigError::PeerUrlsDiffer {
                name: self.name.clone(),
                advertised: join(&advertised),
                listed: join(listed),
            });
        }
        self.check_shared_urls()
    }

    fn check_shared_urls(&self) -> Result<(), ConfigError> {
        let mut owners: BTreeMap<&Url, &str> = BTreeMap::new();
        for (name, urls) in self.initial_cluster.iter() {
            for url in urls {
                if let Some(other) = owners.insert(url, name) {
                    let (other, name) = (other.to_owned(), name.to_owned());
                    return Err(ConfigError::SharedPeerUrl(other, name, url.clone()));
                }
            }
        }
        Ok(())
    }

    fn check_existing(&self) -> Result<(), ConfigError> {
        let is_empty = std::fs::read_dir(&self.data_dir)
            .map(|mut entries| entries.next().is_none())
            .unwrap_or(true);
        let is_alone = self.initial_cluster.len() < 2;
        match self.initial_cluster_state {
            ClusterState::Existing if is_empty && is_alone => {
                Err(ConfigError::NobodyToJoin(self.data_dir.display().to_string()))
            }
            ClusterState::Existing | ClusterState::New => Ok(()),
        }
    }

    fn check_witnesses(&self) -> Result<(), ConfigError> {
        let is_unknown = |name: &&String| self.initial_cluster.urls(name).is_none();
        if let Some(name) = self.initial_witnesses.iter().find(is_unknown) {
            return Err(ConfigError::UnknownWitness(name.clone()));
        }
        match self.initial_witnesses.len() < self.initial_cluster.len() {
            true => Ok(()),
            false => Err(ConfigError::OnlyWitnesses),
        }
    }
}

pub(super) fn join(urls: &BTreeSet<Url>) -> String {
    let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.join(",")
}

const MAX_ELECTION_TIMEOUT: Duration = Duration::from_secs(50);
