//! Who the members are and how each is reached, as of one moment.
//!
//! - It follows from the configuration in effect. Settings only fill in what that does not say: the
//!   address of a member that has none there, and all of it while no configuration is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_raft::{Configuration, NodeId};

use crate::codec::MemberContext;
use crate::config::Config;

/// How another member is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Contact {
    fn describe(&self, node: NodeId) -> String {
        let (Self { name, address }, id) = (self, node.0);
        match name.as_str() {
            "" => format!("node ({id:x}) at {address}"),
            name => format!("{name} ({id:x}) at {address}"),
        }
    }
}

/// The other members, as of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    own: NodeId,
    configuration: Arc<Configuration>,
    contacts: BTreeMap<NodeId, Contact>,
}

impl Roster {
    pub(crate) fn new(
        own: NodeId,
        configuration: Arc<Configuration>,
        settings: &BTreeMap<NodeId, Contact>,
    ) -> Self {
        let contacts = if configuration.is_unknown() {
            settings.clone()
        } else {
            let members = configuration.members().into_iter();
            members
                .filter_map(|node| Some((node, contact(node, &configuration, settings.get(&node))?)))
                .collect()
        };
        let mut roster = Self {
            own,
            configuration,
            contacts,
        };
        roster.contacts.remove(&own);
        roster
    }

    /// The other members that can be dialed.
    pub(crate) fn contacts(&self) -> &BTreeMap<NodeId, Contact> {
        &self.contacts
    }

    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// Whether `node` may speak: a member, or anybody of the cluster while this node knows none.
    pub(crate) fn admits(&self, node: NodeId) -> bool {
        self.configuration.is_unknown() || self.configuration.is_member(node)
    }

    /// Whether this node and those that are connected could decide anything.
    pub(crate) fn has_quorum(&self, is_connected: impl Fn(NodeId) -> bool) -> bool {
        self.configuration
            .has_quorum(|node| node == self.own || is_connected(node))
    }

    /// The other voters that are not connected.
    pub(crate) fn missing(&self, is_connected: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let members = self.configuration.members().into_iter();
        members
            .filter(|node| *node != self.own && self.configuration.is_voter(*node) && !is_connected(*node))
            .collect()
    }

    /// Whether so many of the other voters say that this node was removed that it is no mistake of a few: more than
    /// half of them.
    ///
    /// One that was a member and is in no configuration of a voter's was left out by a change that its members had
    /// committed to (thesis §4.3: the joint configuration is committed before the one without it is appended).
    pub(crate) fn was_removed(&self, says_so: impl Fn(NodeId) -> bool) -> bool {
        let members = self.configuration.members().into_iter();
        let others = members.filter(|node| *node != self.own && self.configuration.is_voter(*node));
        let (say_so, others) = others.fold((0, 0), |(say_so, others), node| {
            (say_so + usize::from(says_so(node)), others + 1)
        });
        say_so * 2 > others
    }

    /// A node as the log names it: name, id in hexadecimal digits, address.
    pub(crate) fn describe(&self, node: NodeId) -> String {
        match self.contacts.get(&node) {
            Some(contact) => contact.describe(node),
            None => format!("node ({:x})", node.0),
        }
    }

    /// As [`Self::describe`], for a node that was reached as `known` says if it is no member any more.
    pub(crate) fn describe_at(&self, node: NodeId, known: &Contact) -> String {
        self.contacts.get(&node).unwrap_or(known).describe(node)
    }
}

/// How the settings say that the members are reached.
pub(crate) fn settings(config: &Config) -> BTreeMap<NodeId, Contact> {
    let contact = |(node, address): (&NodeId, &String)| {
        let contact = Contact {
            name: config.names.get(node).cloned().unwrap_or_default(),
            address: address.clone(),
        };
        (*node, contact)
    };
    config.peers.iter().map(contact).collect()
}

/// How the configuration says that `node` is reached, or else the settings.
fn contact(node: NodeId, configuration: &Configuration, settings: Option<&Contact>) -> Option<Contact> {
    let MemberContext { name, addresses } = MemberContext::of(&configuration.info(node));
    let Some(address) = addresses.into_iter().next() else {
        return settings.cloned();
    };
    let name = match settings {
        Some(set) if name.is_empty() => set.name.clone(),
        Some(_) | None => name,
    };
    Some(Contact { name, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> BTreeMap<NodeId, Contact> {
        let contact = |id: u64| {
            let contact = Contact {
                name: format!("s{id}"),
                address: format!("set:{id}"),
            };
            (NodeId(id), contact)
        };
        [1, 2, 3].map(contact).into()
    }

    fn configuration() -> Configuration {
        let info = |id: u64| (NodeId(id), MemberContext::at("", format!("log:{id}")).into_info());
        let members = Configuration::new([1, 2, 3].map(NodeId), [NodeId(4)]).unwrap();
        members.with_info([info(2), info(4)]).unwrap()
    }

    fn address(roster: &Roster, id: u64) -> Option<&str> {
        let contact = roster.contacts().get(&NodeId(id))?;
        Some(contact.address.as_str())
    }

    #[test]
    fn the_log_says_where_members_are_and_settings_fill_in() {
        let roster = Roster::new(NodeId(1), Arc::new(configuration()), &settings());
        assert_eq!(address(&roster, 1), None, "nobody dials itself");
        assert_eq!(address(&roster, 2), Some("log:2"));
        assert_eq!(address(&roster, 3), Some("set:3"));
        assert_eq!(address(&roster, 4), Some("log:4"));
        assert_eq!(roster.describe(NodeId(2)), "s2 (2) at log:2");
        assert!(roster.admits(NodeId(4)) && !roster.admits(NodeId(5)));
        let left = Contact {
            name: "e".to_owned(),
            address: "log:5".to_owned(),
        };
        assert_eq!(
            roster.describe_at(NodeId(5), &left),
            "e (5) at log:5",
            "it was left out"
        );
        assert_eq!(roster.describe_at(NodeId(2), &left), "s2 (2) at log:2");
    }

    #[test]
    fn who_knows_no_members_yet_listens_to_the_cluster_and_dials_those_it_was_told() {
        let roster = Roster::new(NodeId(9), Arc::new(Configuration::unknown()), &settings());
        assert_eq!(roster.contacts().len(), 3);
        assert!(roster.admits(NodeId(77)));
        assert!(!roster.has_quorum(|_| true));
    }

    #[test]
    fn a_node_was_removed_if_most_of_the_other_voters_say_so() {
        let roster = |own| Roster::new(NodeId(own), Arc::new(configuration()), &settings());
        assert!(roster(1).was_removed(|node| node.0 != 1), "both others");
        assert!(
            !roster(1).was_removed(|node| node.0 == 2),
            "one may be mistaken, or lie"
        );
        assert!(
            !roster(1).was_removed(|node| node.0 == 4),
            "a learner is not counted"
        );
        assert!(
            roster(9).was_removed(|node| node.0 <= 2),
            "its log does not name it any more"
        );
        let unknown = Roster::new(NodeId(9), Arc::new(Configuration::unknown()), &settings());
        assert!(!unknown.was_removed(|_| true), "it is to be added first");
    }

    #[test]
    fn a_majority_is_more_than_half_of_the_voters() {
        let roster = Roster::new(NodeId(1), Arc::new(configuration()), &settings());
        assert!(roster.has_quorum(|node| node == NodeId(2)));
        assert!(
            !roster.has_quorum(|node| node == NodeId(4)),
            "a learner is not counted"
        );
        assert_eq!(roster.missing(|node| node == NodeId(2)), [NodeId(3)]);
    }
}
