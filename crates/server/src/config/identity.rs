//! Who a member and its peers are.
//!
//! Ids are drawn from the peer URLs and the token by a hash, so that every member computes the same ones without
//! asking another.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::ServerConfig;
use super::check::join;
use crate::backup::Salt;
use crate::url::Url;

/// Who a member is and who its peers are, computed alike by all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The members by id, as far as they are known before the log says who they are.
    pub members: BTreeMap<u64, MemberConfig>,
    /// Those of them that are witnesses.
    pub witnesses: Vec<u64>,
}

/// A member as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its name.
    pub name: String,
    /// Where its peers reach it, sorted.
    pub peer_urls: Vec<Url>,
}

impl ServerConfig {
    /// Who this member and its peers are. In a cluster that was restored from a backup, its salt counts too.
    pub(crate) fn identity(&self, salt: Option<&Salt>) -> Identity {
        let salted = |text: String| match salt {
            None => text,
            Some(salt) => format!("{text}\n{}", salt.as_str()),
        };
        let mut members = BTreeMap::new();
        let mut witnesses = Vec::new();
        let mut member_id = 0;
        for (name, urls) in self.initial_cluster.iter() {
            let text = format!("{}\n{}", join(urls), self.initial_cluster_token);
            let id = hash_id(&salted(text));
            if name == self.name {
                member_id = id;
            }
            if self.initial_witnesses.contains(name) {
                witnesses.push(id);
            }
            let member = MemberConfig {
                name: name.to_owned(),
                peer_urls: urls.iter().cloned().collect(),
            };
            members.insert(id, member);
        }
        let ids: Vec<String> = members.keys().map(|id| format!("{id:016x}")).collect();
        Identity {
            cluster_id: hash_id(&ids.join("\n")),
            member_id,
            members,
            witnesses,
        }
    }
}

/// The first eight bytes of the text's SHA-256, and never 0, which means "none" on the wire.
fn hash_id(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(head).max(1)
}
