//! Who a member is when it starts: by its directory, by the flags of a first start, or by asking the
//! cluster that it joins.
//!
//! | directory | `--initial-cluster-state` | it is |
//! |---|---|---|
//! | never used | new | who the flags say: one of the first members |
//! | never used | existing | who the cluster says is to be at its peer URL: it was added before |
//! | used | new | who the flags say, and the directory must agree |
//! | used | existing | who the directory says |
//!
//! Who the flags say depends on the directory where it was restored from a backup: see `backup::salt`.

use std::collections::BTreeMap;

use quorate::storage::StorageError;
use quorate::{InquiryError, MemberContext, MemberKind, NodeId, PeerTls, Start};

use crate::backup::{SaltError, salt};
use crate::config::{ClusterState, Identity, MemberConfig, ServerConfig};
use crate::url::{Scheme, Url};

/// Who a member is, and how its replica is to start.
pub(crate) struct Entrance {
    pub(crate) identity: Identity,
    pub(crate) start: Start,
    /// Which of the members are witnesses, as far as that must be known before the log says so.
    pub(crate) witnesses: Vec<u64>,
}

/// Why it is not known who a member is.
pub(crate) enum EntranceError {
    Directory(StorageError),
    Salt(SaltError),
    Inquiry(InquiryError),
}

/// Who the member is that was told `told`. May block for as long as peers do not answer.
pub(crate) fn entrance(
    config: &ServerConfig,
    told: Identity,
    peer_tls: Option<&PeerTls>,
) -> Result<Entrance, EntranceError> {
    let salt = salt(&config.data_dir).map_err(EntranceError::Salt)?;
    let told = match &salt {
        None => told,
        Some(salt) => config.identity(Some(salt)),
    };
    let owner = quorate::storage::owner(&config.data_dir).map_err(EntranceError::Directory)?;
    match (owner, config.initial_cluster_state) {
        // Members that came and went since make no other cluster of it.
        (Some(owner), ClusterState::New) if owner.node == NodeId(told.member_id) => Ok(Entrance {
            witnesses: told.witnesses.clone(),
            identity: Identity {
                cluster_id: owner.cluster.0,
                ..told
            },
            start: Start::Found,
        }),
        (_, ClusterState::New) => Ok(Entrance {
            witnesses: told.witnesses.clone(),
            identity: told,
            start: Start::Found,
        }),
        (Some(owner), ClusterState::Existing) => Ok(Entrance {
            identity: Identity {
                cluster_id: owner.cluster.0,
                member_id: owner.node.0,
                ..told
            },
            start: Start::Found,
            witnesses: Vec::new(),
        }),
        (None, ClusterState::Existing) => join(config, peer_tls).map_err(EntranceError::Inquiry),
    }
}

fn join(config: &ServerConfig, peer_tls: Option<&PeerTls>) -> Result<Entrance, InquiryError> {
    let asked: Vec<String> = config
        .initial_cluster
        .iter()
        .filter(|(name, _)| *name != config.name)
        .flat_map(|(_, urls)| urls.iter().map(Url::authority))
        .collect();
    // The configuration has at least one: its check has seen to that.
    let own = config.initial_advertise_peer_urls[0].authority();
    let introduced = match peer_tls {
        None => quorate::inquire(&asked, &own),
        Some(tls) => quorate::inquire_securely(&asked, &own, tls),
    }?;
    let members = introduced.members.members().into_iter().filter_map(|node| {
        let context = MemberContext::of(&introduced.members.info(node));
        let peer_urls = peer_urls(&context, config.peer_scheme());
        let member = MemberConfig {
            name: context.name,
            peer_urls,
        };
        (!member.peer_urls.is_empty()).then_some((node.0, member))
    });
    let NodeId(member_id) = introduced.node;
    Ok(Entrance {
        identity: Identity {
            cluster_id: introduced.cluster.0,
            member_id,
            members: members.collect::<BTreeMap<_, _>>(),
            witnesses: Vec::new(),
        },
        start: Start::Join,
        witnesses: match introduced.kind {
            MemberKind::Witness => vec![member_id],
            MemberKind::Full => Vec::new(),
        },
    })
}

/// Where the peers of a member reach it.
pub(crate) fn peer_urls(context: &MemberContext, scheme: Scheme) -> Vec<Url> {
    let urls = context.addresses.iter();
    urls.filter_map(|address| format!("{}{address}", scheme.prefix()).parse().ok())
        .collect()
}
