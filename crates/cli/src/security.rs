//! The flags of `quorate start` about certificates, which are etcd's.
//!
//! - A certificate and its key go together, and a file beside `--auto-tls` is refused: what is given counts.
//! - Peers that are certified show certificates to each other, whether `--peer-client-cert-auth` is given or not.

use anyhow::{bail, ensure};
use clap::Args;
use quorate_server::{AllowedPeers, ClientTls, Clients, KeyPairFiles, MemberTls, PeerTls};
use std::path::PathBuf;

/// The flags of `quorate start` about certificates.
#[derive(Args)]
pub(crate) struct Flags {
    /// The certificate for clients at https:// URLs, in PEM form
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The authorities of clients' certificates; if given, clients must show one
    #[arg(long, value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate by --trusted-ca-file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    client_cert_auth: bool,
    /// Make a self-signed certificate for clients, which nobody vouches for
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    auto_tls: bool,
    /// This member's certificate for the others at https:// URLs, in PEM form: for both ends of a
    /// connection, and for the host at which the others reach it
    #[arg(long, value_name = "FILE")]
    peer_cert_file: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, value_name = "FILE")]
    peer_key_file: Option<PathBuf>,
    /// The authorities of members' certificates; not those of clients
    #[arg(long, value_name = "FILE")]
    peer_trusted_ca_file: Option<PathBuf>,
    /// Members must show certificates; they always must if they have any
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    peer_client_cert_auth: bool,
    /// Make a self-signed certificate for the other members: nobody can listen, but anybody may pretend to
    /// be one of them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    peer_auto_tls: bool,
    /// The common names that members' certificates may have, in the place of being for a member's host
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    peer_cert_allowed_cn: Vec<String>,
    /// The hosts that members' certificates may be for, in the place of each for its own
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    peer_cert_allowed_hostname: Vec<String>,
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
            })),
            (None, auto) => {
                ensure!(
                    !self.client_cert_auth && self.trusted_ca_file.is_none(),
                    "clients can be asked for certificates only by a server with one: give --cert-file and --key-file"
                );
                Ok(auto.then_some(ClientTls::Automatic))
            }
        }
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
            }))),
            (Some(_), None) => bail!(
                "members show certificates to each other: give the authorities with --peer-trusted-ca-file"
            ),
            (None, authority) => {
                let is_strict = self.peer_client_cert_auth || allowed != AllowedPeers::MemberHost;
                ensure!(
                    authority.is_none() && !is_strict,
                    "members can be told by their certificates only if all have one: give --peer-cert-file and --peer-key-file"
                );
                Ok(self.peer_auto_tls.then_some(MemberTls::Automatic))
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
            Some(ClientTls::Automatic)
        );
        let pair = KeyPairFiles {
            cert_file: "c".into(),
            key_file: "k".into(),
        };
        let required = ClientTls::Certificate {
            pair: pair.clone(),
            clients: Clients::CertifiedBy("ca".into()),
        };
        let line = "--cert-file c --key-file k --trusted-ca-file ca";
        assert_eq!(flags(line).client_tls().unwrap(), Some(required.clone()));
        let line = "--cert-file c --key-file k --trusted-ca-file ca --client-cert-auth";
        assert_eq!(flags(line).client_tls().unwrap(), Some(required));
        assert_eq!(
            flags("--peer-auto-tls").peer_tls().unwrap(),
            Some(MemberTls::Automatic)
        );
        let line = "--peer-cert-file c --peer-key-file k --peer-trusted-ca-file ca --peer-client-cert-auth \
                    --peer-cert-allowed-cn a,b";
        let names = ["a", "b"].map(str::to_owned);
        let expected = PeerTls::Mutual {
            pair,
            trusted_ca_file: "ca".into(),
            allowed: AllowedPeers::CommonNames(names.into()),
        };
        assert_eq!(
            flags(line).peer_tls().unwrap(),
            Some(MemberTls::Certificates(expected))
        );
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
