//! The flags of `quorate start` about certificates, which are etcd's.
//!
//! - A certificate and its key go together, and a file beside `--auto-tls` is refused: what is given counts.
//! - Peers that are certified show certificates to each other, whether `--peer-client-cert-auth` is given or not.

use anyhow::{bail, ensure};
use clap::Args;
use quorate_server::{
    Allowed, AllowedPeers, ClientTls, Clients, CommonNames, KeyPairFiles, MemberTls, PeerTls,
};
use quorate_server::{Suite, TermsError, TlsProtocol, TlsTerms, Version};
use std::path::PathBuf;

/// The flags of `quorate start` about certificates.
#[derive(Args)]
pub(crate) struct Flags {
    /// The certificate for clients at https:// URLs, in PEM form
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The authorities of clients' certificates; if given, clients must show one
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate by --trusted-ca-file; with authentication on, its common name is the
    /// user that a client without a token acts as
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    client_cert_auth: bool,
    /// Make a self-signed certificate for clients, which nobody vouches for
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    auto_tls: bool,
    /// This member's certificate for the others at https:// URLs, in PEM form: for both ends of a
    /// connection, and for the host at which the others reach it
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "FILE")]
    peer_cert_file: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "FILE")]
    peer_key_file: Option<PathBuf>,
    /// The authorities of members' certificates; not those of clients
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "FILE")]
    peer_trusted_ca_file: Option<PathBuf>,
    /// Members must show certificates; they always must if they have any
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    peer_client_cert_auth: bool,
    /// Make a self-signed certificate for the other members: nobody can listen, but anybody may pretend to
    /// be one of them
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    peer_auto_tls: bool,
    /// The common names that members' certificates may have, in the place of being for a member's host
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "NAMES", value_delimiter = ',')]
    peer_cert_allowed_cn: Vec<String>,
    /// The hosts that members' certificates may be for, in the place of each for its own
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "HOSTS", value_delimiter = ',')]
    peer_cert_allowed_hostname: Vec<String>,
    /// A list of revoked certificates: clients that show one of them are refused
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "FILE")]
    client_crl_file: Option<PathBuf>,
    /// The common names that clients' certificates may have, of those by --trusted-ca-file
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "NAMES", value_delimiter = ',')]
    client_cert_allowed_cn: Vec<String>,
    /// The hosts that clients' certificates may be for, of those by --trusted-ca-file
    #[arg(long, help_heading = FOR_CLIENTS, value_name = "HOSTS", value_delimiter = ',')]
    client_cert_allowed_hostname: Vec<String>,
    /// A list of revoked certificates: members that show one of them are refused
    #[arg(long, help_heading = BETWEEN_MEMBERS, value_name = "FILE")]
    peer_crl_file: Option<PathBuf>,
    /// The oldest version of TLS that is spoken: TLS1.2 or TLS1.3
    #[arg(long, help_heading = FOR_BOTH, value_name = "VERSION", default_value = "TLS1.2")]
    tls_min_version: Version,
    /// The newest version of TLS that is spoken; empty for the newest there is
    #[arg(long, help_heading = FOR_BOTH, value_name = "VERSION", default_value = "", value_parser = newest)]
    tls_max_version: Version,
    /// The cipher suites of TLS 1.2 that are spoken, by their names in Go; those of TLS 1.3 always are
    #[arg(long, help_heading = FOR_BOTH, value_name = "SUITES", value_delimiter = ',')]
    cipher_suites: Vec<Suite>,
}

impl Flags {
    /// How connections of clients are secured.
    ///
    /// # Errors
    ///
    /// If the flags contradict each other.
    pub(crate) fn client_tls(&self) -> anyhow::Result<Option<ClientTls>> {
        let pair = pair(("--cert-file", &self.cert_file), ("--key-file", &self.key_file))?;
        match (pair, self.auto_tls) {
            (Some(_), true) => {
                bail!("--auto-tls makes a certificate, and --cert-file names one: give one of them")
            }
            (Some(pair), false) => Ok(Some(ClientTls::Certificate {
                pair,
                clients: self.clients()?,
                terms: self.client_terms()?,
                names: match self.client_cert_auth {
                    true => CommonNames::Users,
                    false => CommonNames::Unused,
                },
            })),
            (None, auto) => {
                let asks = self.client_cert_auth || self.trusted_ca_file.is_some();
                ensure!(
                    !asks && self.client_terms()?.revoked_file.is_none(),
                    "clients can be asked for certificates only by a server with one: give --cert-file and --key-file"
                );
                let protocol = self.protocol()?;
                Ok(auto.then_some(ClientTls::Automatic(protocol)))
            }
        }
    }

    fn client_terms(&self) -> anyhow::Result<TlsTerms> {
        let (names, hosts) = (&self.client_cert_allowed_cn, &self.client_cert_allowed_hostname);
        let allowed = match (names.is_empty(), hosts.is_empty()) {
            (true, true) => Allowed::All,
            (false, true) => Allowed::CommonNames(names.iter().cloned().collect()),
            (true, false) => Allowed::Hosts(hosts.iter().cloned().collect()),
            (false, false) => bail!(
                "--client-cert-allowed-cn and --client-cert-allowed-hostname exclude each other: give one of them"
            ),
        };
        let looks = self.client_crl_file.is_some() || allowed != Allowed::All;
        ensure!(
            !looks || self.trusted_ca_file.is_some(),
            "what is said of clients' certificates needs their authorities: give --trusted-ca-file"
        );
        Ok(TlsTerms {
            protocol: self.protocol()?,
            revoked_file: self.client_crl_file.clone(),
            allowed,
        })
    }

    fn protocol(&self) -> anyhow::Result<TlsProtocol> {
        let protocol = TlsProtocol {
            min: self.tls_min_version,
            max: self.tls_max_version,
            suites: self.cipher_suites.clone(),
        };
        protocol.check()?;
        Ok(protocol)
    }

    fn clients(&self) -> anyhow::Result<Clients> {
        match &self.trusted_ca_file {
            Some(file) => Ok(Clients::CertifiedBy(file.clone())),
            None if self.client_cert_auth => {
                bail!(
                    "--client-cert-auth needs the authorities of clients' certificates: give --trusted-ca-file"
                )
            }
            None => Ok(Clients::Anyone),
        }
    }

    /// How connections between members are secured.
    ///
    /// # Errors
    ///
    /// If the flags contradict each other.
    pub(crate) fn peer_tls(&self) -> anyhow::Result<Option<MemberTls>> {
        let pair = pair(
            ("--peer-cert-file", &self.peer_cert_file),
            ("--peer-key-file", &self.peer_key_file),
        )?;
        let allowed = self.allowed_peers()?;
        match (pair, &self.peer_trusted_ca_file) {
            (Some(_), _) if self.peer_auto_tls => {
                bail!("--peer-auto-tls makes a certificate, and --peer-cert-file names one: give one of them")
            }
            (Some(pair), Some(authority)) => Ok(Some(MemberTls::Certificates(PeerTls::Mutual {
                pair,
                trusted_ca_file: authority.clone(),
                allowed,
                terms: TlsTerms {
                    protocol: self.protocol()?,
                    revoked_file: self.peer_crl_file.clone(),
                    ..TlsTerms::default()
                },
            }))),
            (Some(_), None) => bail!(
                "members show certificates to each other: give the authorities with --peer-trusted-ca-file"
            ),
            (None, authority) => {
                let is_strict = self.peer_client_cert_auth
                    || self.peer_crl_file.is_some()
                    || allowed != AllowedPeers::MemberHost;
                ensure!(
                    authority.is_none() && !is_strict,
                    "members can be told by their certificates only if all have one: give --peer-cert-file and --peer-key-file"
                );
                let protocol = self.protocol()?;
                Ok(self.peer_auto_tls.then_some(MemberTls::Automatic(protocol)))
            }
        }
    }

    fn allowed_peers(&self) -> anyhow::Result<AllowedPeers> {
        let (names, hosts) = (&self.peer_cert_allowed_cn, &self.peer_cert_allowed_hostname);
        match (names.is_empty(), hosts.is_empty()) {
            (true, true) => Ok(AllowedPeers::MemberHost),
            (false, true) => Ok(AllowedPeers::CommonNames(names.iter().cloned().collect())),
            (true, false) => Ok(AllowedPeers::Hosts(hosts.iter().cloned().collect())),
            (false, false) => {
                bail!(
                    "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other: give one of them"
                )
            }
        }
    }
}

/// etcd's empty `--tls-max-version` sets no bound.
fn newest(text: &str) -> Result<Version, String> {
    match text {
        "" => Ok(Version::Tls13),
        _ => text.parse().map_err(|error: TermsError| error.to_string()),
    }
}

/// Both files, or none of them.
fn pair(
    (cert_flag, cert_file): (&str, &Option<PathBuf>),
    (key_flag, key_file): (&str, &Option<PathBuf>),
) -> anyhow::Result<Option<KeyPairFiles>> {
    match (cert_file.clone(), key_file.clone()) {
        (Some(cert_file), Some(key_file)) => Ok(Some(KeyPairFiles { cert_file, key_file })),
        (None, None) => Ok(None),
        _ => bail!("{cert_flag} and {key_flag} go together: give both"),
    }
}

const FOR_CLIENTS: &str = "TLS for clients";
const BETWEEN_MEMBERS: &str = "TLS between members";
const FOR_BOTH: &str = "TLS for both";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Start {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(line: &str) -> Flags {
        let words = ["start"].into_iter().chain(line.split_whitespace());
        Start::try_parse_from(words).unwrap().flags
    }

    #[test]
    fn flags_that_fit_arrive() {
        assert_eq!(flags("").client_tls().unwrap(), None);
        assert_eq!(
            flags("--client-cert-auth=false --auto-tls=false")
                .client_tls()
                .unwrap(),
            None
        );
        assert_eq!(
            flags("--auto-tls").client_tls().unwrap(),
            Some(ClientTls::Automatic(TlsProtocol::default()))
        );
        let pair = KeyPairFiles {
            cert_file: "c".into(),
            key_file: "k".into(),
        };
        let required = |names| ClientTls::Certificate {
            pair: pair.clone(),
            clients: Clients::CertifiedBy("ca".into()),
            terms: TlsTerms::default(),
            names,
        };
        let line = "--cert-file c --key-file k --trusted-ca-file ca";
        assert_eq!(
            flags(line).client_tls().unwrap(),
            Some(required(CommonNames::Unused))
        );
        let line = "--cert-file c --key-file k --trusted-ca-file ca --client-cert-auth";
        assert_eq!(
            flags(line).client_tls().unwrap(),
            Some(required(CommonNames::Users))
        );
        assert_eq!(
            flags("--peer-auto-tls").peer_tls().unwrap(),
            Some(MemberTls::Automatic(TlsProtocol::default()))
        );
        let line = "--peer-cert-file c --peer-key-file k --peer-trusted-ca-file ca --peer-client-cert-auth \
                    --peer-cert-allowed-cn a,b";
        let names = ["a", "b"].map(str::to_owned);
        let expected = PeerTls::Mutual {
            pair,
            trusted_ca_file: "ca".into(),
            allowed: AllowedPeers::CommonNames(names.into()),
            terms: TlsTerms::default(),
        };
        assert_eq!(
            flags(line).peer_tls().unwrap(),
            Some(MemberTls::Certificates(expected))
        );
    }

    #[test]
    fn versions_suites_lists_and_names_arrive_on_both_sides() {
        let protocol = TlsProtocol {
            min: Version::Tls12,
            max: Version::Tls12,
            suites: vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".parse().unwrap()],
        };
        let spoken = "--tls-max-version TLS1.2 --cipher-suites TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let line = format!(
            "{spoken} --cert-file c --key-file k --trusted-ca-file ca --client-crl-file r --client-cert-allowed-cn a"
        );
        let Some(ClientTls::Certificate { terms, .. }) = flags(&line).client_tls().unwrap() else {
            panic!("{line}");
        };
        let expected = TlsTerms {
            protocol: protocol.clone(),
            revoked_file: Some("r".into()),
            allowed: Allowed::CommonNames(["a".to_owned()].into()),
        };
        assert_eq!(terms, expected);
        let line = format!(
            "{spoken} --peer-cert-file c --peer-key-file k --peer-trusted-ca-file ca --peer-crl-file r"
        );
        let peers = flags(&line).peer_tls().unwrap();
        let Some(MemberTls::Certificates(PeerTls::Mutual { terms, .. })) = peers else {
            panic!("{line}");
        };
        let allowed = Allowed::All;
        assert_eq!(terms, TlsTerms { allowed, ..expected });
        let automatic = flags(&format!("{spoken} --peer-auto-tls")).peer_tls().unwrap();
        assert_eq!(automatic, Some(MemberTls::Automatic(protocol)));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for (line, flag) in [
            ("--cert-file c", "--key-file"),
            ("--cert-file c --key-file k --auto-tls", "--auto-tls"),
            (
                "--cert-file c --key-file k --client-cert-auth",
                "--trusted-ca-file",
            ),
            ("--client-cert-auth", "--cert-file"),
            ("--auto-tls --trusted-ca-file ca", "--cert-file"),
            ("--auto-tls --client-crl-file r", "--trusted-ca-file"),
            (
                "--cert-file c --key-file k --client-cert-allowed-hostname h",
                "--trusted-ca-file",
            ),
            (
                "--cert-file c --key-file k --tls-min-version TLS1.3 --tls-max-version TLS1.2",
                "TLS1.3",
            ),
        ] {
            let error = flags(line).client_tls().expect_err(line).to_string();
            assert!(error.contains(flag), "{line}: {error}");
        }
        for (line, flag) in [
            ("--peer-key-file k", "--peer-cert-file"),
            ("--peer-cert-file c --peer-key-file k", "--peer-trusted-ca-file"),
            (
                "--peer-cert-file c --peer-key-file k --peer-auto-tls",
                "--peer-auto-tls",
            ),
            ("--peer-auto-tls --peer-client-cert-auth", "--peer-cert-file"),
            ("--peer-auto-tls --peer-crl-file r", "--peer-cert-file"),
            ("--peer-auto-tls --peer-cert-allowed-cn a", "--peer-cert-file"),
            (
                "--peer-cert-allowed-hostname h --peer-cert-allowed-cn a",
                "exclude",
            ),
        ] {
            let error = flags(line).peer_tls().expect_err(line).to_string();
            assert!(error.contains(flag), "{line}: {error}");
        }
    }
}
