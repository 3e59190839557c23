//! Who the members of a cluster are, as its first start is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::error::ConfigError;
use crate::url::Url;

/// Whether a cluster starts for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// All members start with empty directories.
    New,
    /// The member has been here before and finds its data, or was added and has an empty directory.
    Existing,
}

/// When a learner becomes a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnerPromotion {
    /// As soon as it has caught up.
    Automatic,
    /// When somebody says so.
    ByHand,
}

impl FromStr for ClusterState {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<ClusterState, ConfigError> {
        match text {
            "new" => Ok(ClusterState::New),
            "existing" => Ok(ClusterState::Existing),
            _ => Err(ConfigError::ClusterState(text.to_owned())),
        }
    }
}

/// The members of a cluster by name, each with its peer URLs.
///
/// It reads and prints as etcd's flag does: `a=http://10.0.0.1:2380,b=http://10.0.0.2:2380`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster(BTreeMap<String, BTreeSet<Url>>);

impl InitialCluster {
    /// Adds a peer URL of a member.
    pub fn insert(&mut self, name: impl Into<String>, url: Url) {
        self.0.entry(name.into()).or_default().insert(url);
    }

    /// The peer URLs of a member.
    pub fn urls(&self, name: &str) -> Option<&BTreeSet<Url>> {
        self.0.get(name)
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The members in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<Url>)> {
        self.0.iter().map(|(name, urls)| (name.as_str(), urls))
    }
}

impl FromStr for InitialCluster {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<InitialCluster, ConfigError> {
        let mut cluster = InitialCluster::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, url) = part
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| ConfigError::ClusterForm(part.to_owned()))?;
            cluster.insert(name, url.parse()?);
        }
        Ok(cluster)
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
            .collect();
        f.write_str(&parts.join(","))
    }
}
