//! How peers prove to each other who they are.

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use quorate_tls::{KeyPairFiles, Protocol as TlsProtocol, Terms as TlsTerms, TlsError};

/// How connections between peers are secured: by TLS 1.2 or 1.3, both when accepted and when dialed.
///
/// All members of a cluster must be set up alike: one with TLS and one without refuse each other. The files
/// are read again when they change; connections made from then on use what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTls {
    /// Each peer shows a certificate to the other.
    Mutual {
        /// This node's certificate, which must serve both ends of a connection, and its key. It should be
        /// for the host at which peers reach the node.
        pair: KeyPairFiles,
        /// The authorities that issue peers' certificates, in PEM form; better not those of clients.
        trusted_ca_file: PathBuf,
        /// Which certificates are those of peers.
        allowed: AllowedPeers,
        /// What else is demanded, of either end: of [`TlsTerms::allowed`], `allowed` takes the place.
        terms: TlsTerms,
    },
    /// What peers say cannot be read on the way, but anybody may pretend to be one of them. The certificate
    /// may be one that nobody vouches for.
    EncryptedOnly {
        /// This node's certificate and its key.
        pair: KeyPairFiles,
        /// Which versions and suites may be used.
        protocol: TlsProtocol,
    },
}

/// Which of the certificates by the peers' authority are those of peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedPeers {
    /// That for the host at which a member is reached is the member's.
    #[default]
    MemberHost,
    /// Those with one of these as their common name are any member's.
    CommonNames(BTreeSet<String>),
    /// Those that are for one of these hosts are any member's.
    Hosts(BTreeSet<String>),
}

impl PeerTls {
    /// Certificates on both sides, each for the host at which its member is reached.
    #[must_use]
    pub fn mutual(pair: KeyPairFiles, trusted_ca_file: impl Into<PathBuf>) -> PeerTls {
        PeerTls::Mutual {
            pair,
            trusted_ca_file: trusted_ca_file.into(),
            allowed: AllowedPeers::MemberHost,
            terms: TlsTerms::default(),
        }
    }
}
