//! What an end demands of a connection beside a certificate: versions, suites, and certificates not revoked.
//!
//! - Names are etcd's: `TLS1.2`, and suites as Go and the standards write them.
//! - What is not spoken is refused when it is read, with what there is instead.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

use crate::certificate::PeerCertificate;

/// What an end demands of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What may be spoken.
    pub protocol: Protocol,
    /// Lists of revoked certificates, in PEM form (or one in DER form). One that is listed is refused; one by an
    /// authority without a list is not.
    pub revoked_file: Option<PathBuf>,
    /// Whose certificates are taken by an end that listens, of those that are good otherwise.
    pub allowed: Allowed,
}

/// Which versions and suites of TLS may be used. All that there are, by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The oldest version.
    pub min: Version,
    /// The newest version.
    pub max: Version,
    /// The suites of TLS 1.2; empty means all. Those of TLS 1.3 are always all there, as in etcd.
    pub suites: Vec<Suite>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A suite that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite(CipherSuite);

/// Which certificates by a trusted authority are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// All of them.
    #[default]
    All,
    /// Those with one of these as their only common name.
    CommonNames(BTreeSet<String>),
    /// Those that are for one of these hosts.
    Hosts(BTreeSet<String>),
}

/// A version or a suite that is not spoken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TermsError {
    /// No version of this name.
    #[error("{0:?} is not spoken: only TLS1.2 and TLS1.3 are")]
    Version(String),
    /// No suite of this name.
    #[error("{name:?} is not spoken: only {} are", known.join(", "))]
    Suite {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The oldest version is newer than the newest.
    #[error("the oldest version of TLS, {0}, is newer than the newest, {1}: no connection could be made")]
    Order(Version, Version),
}

impl Default for Protocol {
    fn default() -> Protocol {
        Protocol {
            min: Version::Tls12,
            max: Version::Tls13,
            suites: Vec::new(),
        }
    }
}

impl Protocol {
    /// Whether any connection could be made by it.
    ///
    /// # Errors
    /// [`TermsError::Order`].
    pub fn check(&self) -> Result<(), TermsError> {
        match self.min <= self.max {
            true => Ok(()),
            false => Err(TermsError::Order(self.min, self.max)),
        }
    }

    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = ring::default_provider();
        if !self.suites.is_empty() {
            let is_kept = |suite: &SupportedCipherSuite| {
                suite.tls13().is_some() || self.suites.contains(&Suite(suite.suite()))
            };
            provider.cipher_suites.retain(is_kept);
        }
        Arc::new(provider)
    }

    pub(crate) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
        let asked = all
            .into_iter()
            .filter(|(version, _)| (self.min..=self.max).contains(version));
        asked.map(|(_, version)| version).collect()
    }
}

impl Allowed {
    /// Whether this certificate is among them.
    #[must_use]
    pub fn allows(&self, certificate: &PeerCertificate) -> bool {
        match self {
            Allowed::All => true,
            Allowed::CommonNames(names) => certificate
                .common_name()
                .is_some_and(|name| names.contains(&name)),
            Allowed::Hosts(hosts) => hosts.iter().any(|host| certificate.is_for(host)),
        }
    }
}

impl FromStr for Version {
    type Err = TermsError;

    fn from_str(text: &str) -> Result<Version, TermsError> {
        match text {
            "TLS1.2" => Ok(Version::Tls12),
            "TLS1.3" => Ok(Version::Tls13),
            _ => Err(TermsError::Version(text.to_owned())),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::Tls12 => "TLS1.2",
            Version::Tls13 => "TLS1.3",
        })
    }
}

impl FromStr for Suite {
    type Err = TermsError;

    fn from_str(text: &str) -> Result<Suite, TermsError> {
        let spoken = ring::default_provider().cipher_suites;
        let spoken = spoken.iter().map(SupportedCipherSuite::suite);
        // Go has a short name for two of them.
        let asked = match text.ends_with("_CHACHA20_POLY1305") {
            true => format!("{text}_SHA256"),
            false => text.to_owned(),
        };
        let found = spoken.clone().find(|suite| name(*suite) == asked);
        found.map(Suite).ok_or_else(|| TermsError::Suite {
            name: text.to_owned(),
            known: spoken.map(name).collect(),
        })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self.0))
    }
}

/// The name by the standards: rustls marks those of TLS 1.3.
fn name(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_that_go_gives_them() {
        for name in [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_AES_256_GCM_SHA384",
        ] {
            assert_eq!(name.parse::<Suite>().unwrap().to_string(), name);
        }
        let short: Suite = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305".parse().unwrap();
        assert_eq!(short.to_string(), "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256");
        let error = "TLS_RSA_WITH_AES_128_CBC_SHA".parse::<Suite>().unwrap_err();
        assert!(error.to_string().contains("TLS_AES_128_GCM_SHA256"), "{error}");
    }

    #[test]
    fn versions_are_a_range() {
        assert!("TLS1.1".parse::<Version>().is_err());
        let only = |min, max| Protocol {
            min,
            max,
            suites: Vec::new(),
        };
        assert_eq!(only(Version::Tls12, Version::Tls12).versions(), [&TLS12]);
        assert_eq!(Protocol::default().versions(), [&TLS13, &TLS12]);
        assert!(Protocol::default().check().is_ok());
        assert!(only(Version::Tls13, Version::Tls12).check().is_err());
    }

    #[test]
    fn a_list_of_suites_leaves_those_of_tls_1_3() {
        let suite: Suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".parse().unwrap();
        let protocol = Protocol {
            suites: vec![suite],
            ..Protocol::default()
        };
        let provider = protocol.provider();
        let (new, old): (Vec<&SupportedCipherSuite>, Vec<_>) = provider
            .cipher_suites
            .iter()
            .partition(|suite| suite.tls13().is_some());
        assert_eq!(
            old.iter().map(|suite| Suite(suite.suite())).collect::<Vec<_>>(),
            [suite]
        );
        assert_eq!(new.len(), 3);
    }
}
