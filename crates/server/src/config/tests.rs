//! Configurations that make sense, and those that do not.

use std::time::Duration;

use quorate::TlsProtocol;

use super::*;

fn three(name: &str) -> ServerConfig {
    let cluster = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380";
    let mut config = ServerConfig::new(name, "nowhere");
    config.initial_cluster = cluster.parse().unwrap();
    let own = config.initial_cluster.urls(name);
    config.initial_advertise_peer_urls = own.into_iter().flatten().cloned().collect();
    config
}

fn error(change: impl FnOnce(&mut ServerConfig)) -> String {
    let mut config = three("a");
    change(&mut config);
    config.check().unwrap_err().to_string()
}

#[test]
fn members_compute_the_same_ids() {
    let (a, b) = (three("a").check().unwrap(), three("b").check().unwrap());
    assert_eq!((a.cluster_id, &a.members), (b.cluster_id, &b.members));
    assert_ne!(a.member_id, b.member_id);
    assert_eq!(a.members[&b.member_id].name, "b");
}

#[test]
fn another_token_makes_another_cluster() {
    let mut other = three("a");
    other.initial_cluster_token = "other".to_owned();
    let (a, other) = (three("a").check().unwrap(), other.check().unwrap());
    assert_ne!(a.cluster_id, other.cluster_id);
    assert_ne!(a.member_id, other.member_id);
}

#[test]
fn defaults_make_a_cluster_of_one() {
    let identity = ServerConfig::new("default", "nowhere").check().unwrap();
    assert_eq!(identity.members.len(), 1);
}

#[test]
fn a_member_that_is_not_in_its_cluster_is_told_so() {
    let text = error(|config| config.name = "d".to_owned());
    assert!(text.contains("no member named \"d\""), "{text}");
}

#[test]
fn advertised_urls_must_be_those_of_the_cluster() {
    let text = error(|config| {
        config.initial_advertise_peer_urls = vec!["http://10.0.0.9:2380".parse().unwrap()];
    });
    assert!(text.contains("10.0.0.9") && text.contains("10.0.0.1"), "{text}");
}

#[test]
fn two_members_cannot_share_a_url() {
    let text = error(|config| {
        let url = "http://10.0.0.2:2380".parse().unwrap();
        config.initial_cluster.insert("c", url);
    });
    assert!(text.contains("share"), "{text}");
}

#[test]
fn clients_and_peers_have_a_port_each() {
    let text = error(|config| config.listen_client_urls = config.listen_peer_urls.clone());
    assert!(
        text.contains("--listen-client-urls") && text.contains("--listen-peer-urls"),
        "{text}"
    );
}

#[test]
fn urls_and_certificates_must_agree() {
    let secured = |config: &mut ServerConfig| {
        let text = config.initial_cluster.to_string().replace("http:", "https:");
        config.initial_cluster = text.parse().unwrap();
        for url in config
            .initial_advertise_peer_urls
            .iter_mut()
            .chain(&mut config.listen_peer_urls)
        {
            *url = url.clone().with_scheme(Scheme::Https);
        }
    };
    let text = error(secured);
    assert!(text.contains("--peer-cert-file"), "{text}");
    let text = error(|config| config.peer_tls = Some(MemberTls::Automatic(TlsProtocol::default())));
    assert!(
        text.contains("would not be secured") && text.contains("--listen-peer-urls"),
        "{text}"
    );
    let text = error(|config| {
        config
            .initial_cluster
            .insert("d", "https://10.0.0.4:2380".parse().unwrap());
    });
    assert!(text.contains("differ in http:// and https://"), "{text}");
    let text = error(|config| config.client_tls = Some(ClientTls::Automatic(TlsProtocol::default())));
    assert!(
        text.contains("would not be secured") && text.contains("--listen-client-urls"),
        "{text}"
    );
    let text = error(|config| config.listen_client_urls = vec!["https://h:1".parse().unwrap()]);
    assert!(text.contains("https://h:1 needs a certificate"), "{text}");
    let mut config = three("a");
    secured(&mut config);
    config.peer_tls = Some(MemberTls::Automatic(TlsProtocol::default()));
    config.listen_client_urls.push("https://h:1".parse().unwrap());
    config.client_tls = Some(ClientTls::Automatic(TlsProtocol::default()));
    assert!(config.check().is_ok(), "a client URL in clear may stand beside");
}

#[test]
fn an_election_lasts_five_heartbeats() {
    let text = error(|config| config.election_timeout = Duration::from_millis(499));
    assert!(text.contains("5 times"), "{text}");
    let text = error(|config| config.election_timeout = Duration::from_secs(51));
    assert!(text.contains("50s"), "{text}");
}

#[test]
fn who_joins_names_somebody_to_ask() {
    let mut config = ServerConfig::new("a", "nowhere");
    config.initial_cluster_state = ClusterState::Existing;
    let text = config.check().unwrap_err().to_string();
    assert!(
        text.contains("nowhere") && text.contains("--initial-cluster"),
        "{text}"
    );
    let mut config = three("a");
    config.initial_cluster_state = ClusterState::Existing;
    assert!(config.check().is_ok());
}

#[test]
fn witnesses_are_members_and_leave_somebody_with_the_data() {
    let witnesses = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let text = error(|config| config.initial_witnesses = witnesses(&["d"]));
    assert!(text.contains("\"d\""), "{text}");
    let text = error(|config| config.initial_witnesses = witnesses(&["a", "b", "c"]));
    assert!(text.contains("keep the data"), "{text}");
    let mut config = three("a");
    config.initial_witnesses = witnesses(&["c"]);
    let identity = config.check().unwrap();
    assert_eq!(identity.members[&identity.witnesses[0]].name, "c");
}

#[test]
fn the_shortest_lease_outlasts_an_election() {
    let mut config = three("a");
    assert_eq!(config.min_lease_ttl(), 2);
    config.election_timeout = Duration::from_millis(500);
    assert_eq!(config.min_lease_ttl(), 1);
}

#[test]
fn a_cluster_prints_as_it_was_read() {
    let text = "a=http://h:1,a=http://h:2,b=http://h:3";
    assert_eq!(text.parse::<InitialCluster>().unwrap().to_string(), text);
    assert!("a".parse::<InitialCluster>().is_err());
    assert!("=http://h:1".parse::<InitialCluster>().is_err());
}
