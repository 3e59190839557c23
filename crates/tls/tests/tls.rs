//! Handshakes over real TCP with certificates of all kinds, and files that change.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use quorate_tls::testing::{Authority, Leaf};
use quorate_tls::{
    Acceptor, Allowed, Clients, Connector, HandshakeError, KeyPairFiles, Protocol, Stream, Terms, TlsError,
    Trust, Version, self_signed,
};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// An authority, another that nobody trusts, and a directory for what they issue.
struct World {
    ours: Authority,
    theirs: Authority,
    directory: TempDir,
}

impl World {
    fn new() -> World {
        World {
            ours: Authority::new("ours"),
            theirs: Authority::new("theirs"),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn issue(&self, name: &str, leaf: &Leaf) -> KeyPairFiles {
        self.ours.issue(self.directory.path(), name, leaf)
    }

    fn trust(&self) -> Trust {
        Trust::CertifiedBy(self.ours.write(self.directory.path(), "ca"))
    }

    /// One that asks for certificates by our authority.
    fn acceptor(&self) -> Acceptor {
        self.acceptor_with(&Leaf::for_hosts(["127.0.0.1"]))
    }

    fn acceptor_with(&self, leaf: &Leaf) -> Acceptor {
        let clients = Clients::CertifiedBy(self.ours.write(self.directory.path(), "ca"));
        Acceptor::open(self.issue("server", leaf), &clients, &[]).unwrap()
    }

    fn connector(&self, leaf: &Leaf) -> Connector {
        Connector::open(Some(self.issue("client", leaf)), &self.trust(), &[]).unwrap()
    }
}

/// What each end says of a connection between them on which the dialer speaks first.
struct Met {
    accepted: Result<Stream, HandshakeError>,
    dialed: Result<String, String>,
}

async fn meet(acceptor: &Acceptor, connector: &Connector) -> Met {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream, PATIENCE).await?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await?;
        stream.write_all(&heard).await?;
        stream.flush().await?;
        Ok(stream)
    };
    let dial = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let connected = connector.connect("127.0.0.1", stream, PATIENCE).await;
        let mut stream = connected.map_err(|error| error.to_string())?;
        let mut said = [0; 5];
        let exchange = async {
            stream.write_all(b"hello").await?;
            stream.flush().await?;
            stream.read_exact(&mut said).await
        };
        match exchange.await {
            Ok(_) => Ok(String::from_utf8(said.to_vec()).unwrap()),
            Err(error) => {
                Err(HandshakeError::found_in(&error).map_or_else(|| error.to_string(), |e| e.to_string()))
            }
        }
    };
    let (accepted, dialed) = tokio::join!(accept, dial);
    Met { accepted, dialed }
}

#[tokio::test]
async fn each_end_knows_the_other_by_its_certificate() {
    let world = World::new();
    let client = Leaf::for_hosts(["a.example", "10.0.0.1"]).and_named("alice");
    let met = meet(&world.acceptor(), &world.connector(&client)).await;
    assert_eq!(met.dialed.unwrap(), "hello");
    let certificate = met.accepted.unwrap().peer_certificate().unwrap();
    assert_eq!(certificate.common_name().as_deref(), Some("alice"));
    assert!(certificate.is_for("a.example") && certificate.is_for("10.0.0.1"));
    for other in ["b.example", "10.0.0.2", "", "alice", "a.example.", "*"] {
        assert_eq!(certificate.is_for(other), other == "a.example.", "{other:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_missing_or_not_alone_is_none() {
    let world = World::new();
    let acceptor = world.acceptor();
    for leaf in [
        Leaf::default(),
        Leaf::named(""),
        Leaf::named("alice").and_named("root"),
    ] {
        let met = meet(&acceptor, &world.connector(&leaf)).await;
        let certificate = met.accepted.unwrap().peer_certificate().unwrap();
        assert_eq!(certificate.common_name(), None, "{leaf:?}");
    }
}

#[tokio::test]
async fn whoever_has_no_good_certificate_is_refused_and_told_so() {
    let world = World::new();
    let acceptor = world.acceptor();
    let stranger = world
        .theirs
        .issue(world.directory.path(), "stranger", &Leaf::named("alice"));
    let stranger = Connector::open(Some(stranger), &world.trust(), &[]).unwrap();
    let nobody = Connector::open(None, &world.trust(), &[]).unwrap();
    let expired = world.connector(&Leaf::named("alice").expired());
    let cases = [
        (stranger, "not by an authority that is trusted here", "refused"),
        (nobody, "showed no certificate", "CertificateRequired"),
        (expired, "it has expired", "CertificateExpired"),
    ];
    for (connector, here, there) in cases {
        let met = meet(&acceptor, &connector).await;
        let error = met.accepted.expect_err(here).to_string();
        assert!(error.contains(here), "{error}");
        let error = met.dialed.expect_err(there);
        assert!(error.contains("refused") && error.contains(there), "{error}");
    }
}

#[tokio::test]
async fn a_listener_that_is_not_who_was_dialed_is_left() {
    let world = World::new();
    let cases = [
        (Leaf::for_hosts(["127.0.0.2", "localhost"]), "not valid for"),
        (Leaf::for_hosts(["127.0.0.1"]).expired(), "it has expired"),
    ];
    for (leaf, why) in cases {
        let met = meet(&world.acceptor_with(&leaf), &world.connector(&Leaf::default())).await;
        let error = met.dialed.expect_err(why);
        assert!(error.contains(why), "{error}");
        let error = met.accepted.expect_err("the dialer went away").to_string();
        assert!(error.contains("refused the TLS handshake"), "{error}");
    }
    let distrustful = Trust::CertifiedBy(world.theirs.write(world.directory.path(), "other-ca"));
    let pair = world.issue("client", &Leaf::default());
    let met = meet(
        &world.acceptor(),
        &Connector::open(Some(pair.clone()), &distrustful, &[]).unwrap(),
    )
    .await;
    assert!(met.dialed.unwrap_err().contains("not by an authority"));
    let trustful = Connector::open(Some(pair), &Trust::Anyone, &[]).unwrap();
    assert!(meet(&world.acceptor(), &trustful).await.dialed.is_ok());
}

#[tokio::test]
async fn who_says_nothing_or_no_tls_is_not_waited_for() {
    let acceptor = World::new().acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said: [(&[u8], &str); 3] = [
        (b"", "not finished in time"),
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak TLS"),
        // The beginning of a record, and no more.
        (&[22, 3, 1, 2, 0, 1], "not finished in time"),
    ];
    for (bytes, expected) in said {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let error = acceptor
            .accept(stream, Duration::from_millis(200))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let mut rest = Vec::new();
        // Closed, by whatever means.
        let _ = client.read_to_end(&mut rest).await;
    }
}

#[tokio::test]
async fn new_files_count_and_bad_ones_do_not() {
    let world = World::new();
    let acceptor = world.acceptor();
    let connector = world.connector(&Leaf::named("old"));
    let name = async || {
        let met = meet(&acceptor, &connector).await;
        let accepted = met.accepted.map_err(|error| error.to_string())?;
        Ok::<_, String>(accepted.peer_certificate().unwrap().common_name())
    };
    let refresh = || {
        acceptor.refresh();
        connector.refresh();
    };
    let pair = world.issue("client", &Leaf::named("new"));
    assert_eq!(name().await.unwrap().as_deref(), Some("old"));
    refresh();
    assert_eq!(name().await.unwrap().as_deref(), Some("new"));

    let key = fs::read(&pair.key_file).unwrap();
    world.issue("client", &Leaf::named("newest"));
    let newest = fs::read(&pair.key_file).unwrap();
    fs::write(&pair.key_file, key).unwrap();
    refresh();
    assert_eq!(
        name().await.unwrap().as_deref(),
        Some("new"),
        "the key is not the certificate's"
    );
    fs::write(&pair.key_file, newest).unwrap();
    refresh();
    assert_eq!(
        name().await.unwrap().as_deref(),
        Some("newest"),
        "the key came later"
    );

    fs::remove_file(&pair.cert_file).unwrap();
    fs::write(world.directory.path().join("ca.pem"), "nothing").unwrap();
    refresh();
    refresh();
    assert_eq!(name().await.unwrap().as_deref(), Some("newest"));

    // The acceptor comes to trust another authority, and none but that.
    let ca = world.theirs.write(world.directory.path(), "ca");
    acceptor.refresh();
    assert!(name().await.unwrap_err().contains("not by an authority"));
    world.ours.write(world.directory.path(), "ca");
    acceptor.refresh();
    assert_eq!(
        name().await.unwrap().as_deref(),
        Some("newest"),
        "{}",
        ca.display()
    );
}

#[test]
fn what_is_wrong_with_a_file_names_it() {
    let world = World::new();
    let directory = world.directory.path();
    let good = world.issue("good", &Leaf::default());
    let other = world.issue("other", &Leaf::default());
    let empty = directory.join("empty.pem");
    fs::write(&empty, "").unwrap();
    let broken = directory.join("broken.pem");
    fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let error = |cert: &std::path::Path, key: &std::path::Path, clients: &Clients| {
        let pair = KeyPairFiles {
            cert_file: cert.to_owned(),
            key_file: key.to_owned(),
        };
        let error = Acceptor::open(pair, clients, &[]).err().unwrap();
        (error.to_string(), error)
    };
    let (cert, key) = (good.cert_file.as_path(), good.key_file.as_path());
    let missing = directory.join("missing.pem");
    let (text, kind) = error(&missing, key, &Clients::Anyone);
    assert!(
        matches!(kind, TlsError::Read { .. }) && text.contains("missing.pem"),
        "{text}"
    );
    let (text, kind) = error(&empty, key, &Clients::Anyone);
    assert!(
        matches!(kind, TlsError::NoCertificate(_)) && text.contains("empty.pem"),
        "{text}"
    );
    let (text, kind) = error(cert, cert, &Clients::Anyone);
    assert!(
        matches!(kind, TlsError::NoKey(_)) && text.contains("good.pem"),
        "{text}"
    );
    let (text, kind) = error(&broken, key, &Clients::Anyone);
    assert!(
        matches!(kind, TlsError::Malformed { .. }) && text.contains("broken.pem"),
        "{text}"
    );
    let (text, kind) = error(cert, &other.key_file, &Clients::Anyone);
    assert!(matches!(kind, TlsError::Mismatch { .. }), "{text}");
    assert!(
        text.contains("other-key.pem") && text.contains("good.pem"),
        "{text}"
    );
    let (text, kind) = error(cert, key, &Clients::CertifiedBy(broken.clone()));
    assert!(
        matches!(kind, TlsError::Malformed { .. }) && text.contains("broken.pem"),
        "{text}"
    );
    let (text, kind) = error(cert, key, &Clients::CertifiedBy(key.to_owned()));
    assert!(
        matches!(kind, TlsError::NoCertificate(_)) && text.contains("good-key.pem"),
        "{text}"
    );
}

#[tokio::test]
async fn a_self_signed_pair_is_kept_secret_and_used_again() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("tls");
    let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let pair = self_signed(&directory, "client", &hosts).unwrap();
    let mode = |file: &std::path::Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&pair.key_file), mode(&directory)), (0o600, 0o700));
    let key = fs::read(&pair.key_file).unwrap();
    assert_eq!(self_signed(&directory, "client", &hosts[..1]).unwrap(), pair);
    assert_eq!(fs::read(&pair.key_file).unwrap(), key);

    // It is its own authority for those who are given it.
    let acceptor = Acceptor::open(pair.clone(), &Clients::Anyone, &[]).unwrap();
    let trust = Trust::CertifiedBy(pair.cert_file.clone());
    let connector = Connector::open(None, &trust, &[]).unwrap();
    assert!(meet(&acceptor, &connector).await.dialed.is_ok());

    let more = ["10.1.1.1".to_owned()];
    self_signed(&directory, "client", &more).unwrap();
    assert_ne!(fs::read(&pair.key_file).unwrap(), key, "it was not for that host");
    assert_eq!(mode(&pair.key_file), 0o600);
}

const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// One on these terms, which trusts our authority.
    fn acceptor_on(&self, terms: Terms) -> Acceptor {
        let clients = Clients::CertifiedBy(self.ours.write(self.directory.path(), "ca"));
        let pair = self.issue("server", &Leaf::for_hosts(["127.0.0.1"]).numbered(1));
        Acceptor::open_with(pair, &clients, terms, &[]).unwrap()
    }

    fn connector_on(&self, terms: Terms) -> Connector {
        let pair = self.issue("client", &Leaf::named("alice"));
        Connector::open_with(Some(pair), &self.trust(), terms, &[]).unwrap()
    }
}

fn revoking(revoked_file: std::path::PathBuf) -> Terms {
    Terms {
        revoked_file: Some(revoked_file),
        ..Terms::default()
    }
}

#[tokio::test]
async fn whoever_was_revoked_is_refused_at_either_end_and_lists_are_read_again() {
    let world = World::new();
    let path = world.directory.path();
    let acceptor = world.acceptor_on(revoking(world.ours.revoke(path, "revoked", &[7])));
    let met = meet(&acceptor, &world.connector(&Leaf::named("alice").numbered(7))).await;
    let error = met.accepted.unwrap_err().to_string();
    assert!(error.contains("it was revoked"), "{error}");
    let error = met.dialed.unwrap_err();
    assert!(error.contains("CertificateRevoked"), "{error}");
    let eight = world.connector(&Leaf::named("alice").numbered(8));
    assert!(meet(&acceptor, &eight).await.accepted.is_ok());

    // From now on it is number 8.
    world.ours.revoke(path, "revoked", &[8]);
    acceptor.refresh();
    assert!(meet(&acceptor, &eight).await.accepted.is_err());

    // The one that listens is number 1.
    let dialer = world.connector_on(revoking(world.ours.revoke(path, "servers", &[1])));
    let met = meet(&world.acceptor_on(Terms::default()), &dialer).await;
    let error = met.dialed.unwrap_err();
    assert!(error.contains("it was revoked"), "{error}");

    // An authority without a list revokes nothing.
    let other = world.acceptor_on(revoking(world.theirs.revoke(path, "others", &[7])));
    let seven = world.connector(&Leaf::named("alice").numbered(7));
    assert!(meet(&other, &seven).await.accepted.is_ok());
}

#[tokio::test]
async fn what_was_shown_is_looked_at_again_by_what_counts_now() {
    let world = World::new();
    let path = world.directory.path();
    let acceptor = world.acceptor_on(revoking(world.ours.revoke(path, "clients", &[9])));
    let pair = world.issue("client", &Leaf::named("alice").numbered(2));
    let terms = revoking(world.ours.revoke(path, "servers", &[9]));
    let connector = Connector::open_with(Some(pair), &world.trust(), terms, &[]).unwrap();
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listening.local_addr().unwrap()).await.unwrap();
    let (accepted, dialed) = tokio::join!(
        async {
            acceptor
                .accept(listening.accept().await.unwrap().0, PATIENCE)
                .await
        },
        connector.connect("127.0.0.1", socket, PATIENCE),
    );
    let shown = |stream: Result<Stream, HandshakeError>| stream.unwrap().shown_chain().unwrap();
    let (dialer, listener) = (shown(accepted), shown(dialed));
    assert!(acceptor.recheck(&dialer).is_ok() && !acceptor.has_revoked(&dialer));
    assert!(connector.recheck("127.0.0.1", &listener).is_ok());

    world.ours.revoke(path, "clients", &[2]);
    world.ours.revoke(path, "servers", &[1]);
    assert!(acceptor.refresh() && connector.refresh());
    for error in [
        acceptor.recheck(&dialer),
        connector.recheck("127.0.0.1", &listener),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("it was revoked"), "{error}");
    }
    assert!(acceptor.has_revoked(&dialer));
}

#[tokio::test]
async fn a_list_in_der_form_is_read_and_what_is_none_is_named() {
    let world = World::new();
    let path = world.directory.path();
    let list = world.ours.revoke(path, "revoked", &[7]);
    let text = fs::read_to_string(&list).unwrap();
    let pem = CertificateRevocationListDer::from_pem_slice(text.as_bytes()).unwrap();
    fs::write(&list, &pem).unwrap();
    let met = meet(
        &world.acceptor_on(revoking(list)),
        &world.connector(&Leaf::named("alice").numbered(7)),
    )
    .await;
    assert!(met.accepted.is_err());

    let clients = Clients::CertifiedBy(world.ours.write(path, "ca"));
    for (name, contents) in [("empty.pem", ""), ("cut.pem", "0 but no DER")] {
        let file = path.join(name);
        fs::write(&file, contents).unwrap();
        let pair = world.issue("server", &Leaf::for_hosts(["127.0.0.1"]));
        let opened = Acceptor::open_with(pair, &clients, revoking(file), &[]);
        let error = opened.err().expect(name).to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn only_allowed_names_and_hosts_are_let_in() {
    let world = World::new();
    let allowing = |allowed| Terms {
        allowed,
        ..Terms::default()
    };
    let names = Allowed::CommonNames(["alice".to_owned()].into());
    let hosts = Allowed::Hosts(["a.example".to_owned()].into());
    for (allowed, good, bad) in [
        (names, Leaf::named("alice"), Leaf::named("bob")),
        (hosts, Leaf::for_hosts(["a.example"]), Leaf::named("a.example")),
    ] {
        let acceptor = world.acceptor_on(allowing(allowed));
        assert!(meet(&acceptor, &world.connector(&good)).await.accepted.is_ok());
        let met = meet(&acceptor, &world.connector(&bad)).await;
        let error = met.accepted.unwrap_err().to_string();
        assert!(error.contains("not among those allowed"), "{error}");
        assert!(met.dialed.unwrap_err().contains("AccessDenied"));
    }
}

#[tokio::test]
async fn versions_and_suites_are_those_asked_for() {
    let world = World::new();
    let speaking = |min, max, suites: &[&str]| Terms {
        protocol: Protocol {
            min,
            max,
            suites: suites.iter().map(|suite| suite.parse().unwrap()).collect(),
        },
        ..Terms::default()
    };
    let (old, new) = (Version::Tls12, Version::Tls13);
    let aes = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let chacha = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    for (listening, dialing, meets) in [
        (speaking(new, new, &[]), speaking(old, old, &[]), false),
        (speaking(old, old, &[]), speaking(old, new, &[]), true),
        (speaking(old, old, &[aes]), speaking(old, old, &[chacha]), false),
        (
            speaking(old, old, &[aes]),
            speaking(old, old, &[aes, chacha]),
            true,
        ),
        (speaking(old, new, &[aes]), speaking(old, new, &[chacha]), true),
    ] {
        let what = format!("{listening:?} and {dialing:?}");
        let met = meet(&world.acceptor_on(listening), &world.connector_on(dialing)).await;
        assert_eq!(met.accepted.is_ok(), meets, "{what}");
        assert_eq!(met.dialed.is_ok(), meets, "{what}");
    }
}
