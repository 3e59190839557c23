//! The flags that all commands of `quorate ctl` have, and their environment: etcdctl's.
//!
//! - `ETCDCTL_X` stands for `--x`. Both at once are a mistake, as they are to etcdctl; an empty variable
//!   counts as unset.
//! - Endpoints without a scheme speak TLS if a certificate or an authority is named, or if
//!   `--insecure-transport=false`. Without `--cacert` the system's authorities are believed.

use super::connection::Credentials;
use super::discovery;
use super::endpoint::say;
use super::failure::{Failure, code};
use super::print::{Format, Printer};
use super::terminal;
use crate::duration;
use crate::endpoint::Tls;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use quorate_tls::{Connector, KeyPairFiles, Trust};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::AsciiMetadataValue;

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Client endpoints, separated by commas
    #[arg(
        long,
        global = true,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    pub(super) endpoints: Vec<String>,
    /// The format of the output
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "simple")]
    pub(super) write_out: String,
    /// Show keys and values in hexadecimal
    #[arg(long, global = true)]
    pub(super) hex: bool,
    /// How long to try to connect to an endpoint
    #[arg(long, global = true, value_parser = duration::parse, value_name = "TIME", default_value = "2s")]
    pub(super) dial_timeout: Duration,
    /// How long a short command may take
    #[arg(long, global = true, value_parser = duration::parse, value_name = "TIME", default_value = "5s")]
    pub(super) command_timeout: Duration,
    /// How often to ask a silent server whether it is there
    #[arg(long, global = true, value_parser = duration::parse, value_name = "TIME", default_value = "2s")]
    pub(super) keepalive_time: Duration,
    /// How long to wait for its answer
    #[arg(long, global = true, value_parser = duration::parse, value_name = "TIME", default_value = "6s")]
    pub(super) keepalive_timeout: Duration,
    /// Who logs in: a name, or name:password; a password that is not given is asked for
    #[arg(
        long,
        global = true,
        value_name = "USER",
        default_value = "",
        hide_default_value = true
    )]
    user: String,
    /// The password of --user
    #[arg(
        long,
        global = true,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    password: String,
    /// The authorities of the servers' certificates, in PEM form
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate to show to servers, in PEM form
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Believe any server to be the one it says it is
    #[arg(long, global = true)]
    insecure_skip_tls_verify: bool,
    /// Whether endpoints without a scheme are talked to in clear
    #[arg(long, global = true, default_value_t = true, action = clap::ArgAction::Set)]
    insecure_transport: bool,
    /// A token to show in the place of logging in; it counts before --user
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true
    )]
    auth_jwt_token: String,
    /// The domain whose SRV records name the endpoints
    #[arg(
        short = 'd',
        long,
        global = true,
        value_name = "DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    discovery_srv: String,
    /// What is added to the names of the services of --discovery-srv
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    discovery_srv_name: String,
    /// Whether SRV records may name endpoints that are talked to in clear
    #[arg(long, global = true, default_value_t = true, action = clap::ArgAction::Set)]
    insecure_discovery: bool,
    /// Taken for etcdctl's sake: what is too large is for the server to say
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 0)]
    max_request_bytes: usize,
    /// Taken for etcdctl's sake: an answer of any size is read
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 0)]
    max_recv_bytes: usize,
    /// Show the global options on standard error
    #[arg(long, global = true)]
    debug: bool,
}

impl Global {
    /// Has the endpoints that `--discovery-srv` names, if it is given; `--endpoints` are those if there are none.
    ///
    /// # Errors
    ///
    /// If nobody knows the domain.
    pub(super) async fn discover(&mut self) -> Result<(), Failure> {
        if self.debug {
            self.show();
        }
        if self.discovery_srv.is_empty() {
            return Ok(());
        }
        let mut found = discovery::endpoints(&self.discovery_srv, &self.discovery_srv_name).await?;
        if !self.insecure_discovery {
            found.retain(|endpoint| {
                let is_secure = !endpoint.starts_with("http://");
                if !is_secure {
                    say(&format!("ignoring discovered insecure endpoint {endpoint:?}"));
                }
                is_secure
            });
        }
        if !found.is_empty() {
            self.endpoints = found;
        }
        Ok(())
    }

    /// Shows what counts, by the variables that stand for it, but no secrets.
    fn show(&self) {
        let file = |file: &Option<PathBuf>| file.as_deref().map_or(String::new(), show);
        let secret = |text: &str| if text.is_empty() { "" } else { "..." }.to_owned();
        let user = self.user.split(':').next().unwrap_or_default().to_owned();
        let shown = [
            ("auth-jwt-token", secret(&self.auth_jwt_token)),
            ("cacert", file(&self.cacert)),
            ("cert", file(&self.cert)),
            ("command-timeout", format!("{:?}", self.command_timeout)),
            ("debug", self.debug.to_string()),
            ("dial-timeout", format!("{:?}", self.dial_timeout)),
            ("discovery-srv", self.discovery_srv.clone()),
            ("discovery-srv-name", self.discovery_srv_name.clone()),
            ("endpoints", format!("[{}]", self.endpoints.join(","))),
            ("hex", self.hex.to_string()),
            ("insecure-discovery", self.insecure_discovery.to_string()),
            (
                "insecure-skip-tls-verify",
                self.insecure_skip_tls_verify.to_string(),
            ),
            ("insecure-transport", self.insecure_transport.to_string()),
            ("keepalive-time", format!("{:?}", self.keepalive_time)),
            ("keepalive-timeout", format!("{:?}", self.keepalive_timeout)),
            ("key", file(&self.key)),
            ("max-recv-bytes", self.max_recv_bytes.to_string()),
            ("max-request-bytes", self.max_request_bytes.to_string()),
            ("password", secret(&self.password)),
            ("user", user),
            ("write-out", self.write_out.clone()),
        ];
        for (flag, value) in shown {
            say(&format!("{}={value}", variable(flag)));
        }
    }

    /// How answers are shown.
    ///
    /// # Errors
    ///
    /// If there is no such format.
    pub(super) fn printer(&self) -> Result<Printer, Failure> {
        let format = match self.write_out.as_str() {
            "simple" => Format::Simple,
            "table" => Format::Table,
            "json" => Format::Json,
            "fields" => Format::Fields,
            "protobuf" => Format::Protobuf,
            _ => return Err(Failure::with(code::BAD_FEATURE, "unsupported output format")),
        };
        Ok(Printer {
            format,
            hex: self.hex,
        })
    }

    /// Who logs in, if anybody; asks for the password if it is not given.
    ///
    /// # Errors
    ///
    /// If it cannot be asked for.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        if !self.auth_jwt_token.is_empty() {
            let token = AsciiMetadataValue::try_from(&self.auth_jwt_token);
            let token = token.map_err(|_| Failure::arguments("--auth-jwt-token is no token"))?;
            return Ok(Some(Credentials::Token(token)));
        }
        let (name, password) = match (self.user.as_str(), self.password.as_str()) {
            ("", _) => return Ok(None),
            (user, "") => match user.split_once(':') {
                Some((name, password)) => (name, password.to_string()),
                None => (user, terminal::secret("Password: ")?),
            },
            (user, password) => (user, password.to_string()),
        };
        Ok(Some(Credentials::Password {
            name: name.to_string(),
            password,
        }))
    }

    /// How endpoints are talked to.
    ///
    /// # Errors
    ///
    /// If the certificates cannot be used.
    pub(super) fn tls(&self) -> Result<Tls, Failure> {
        let files = self.tls_files();
        let is_default = files.is_any() || !self.insecure_transport;
        let is_asked_for = self
            .endpoints
            .iter()
            .any(|endpoint| endpoint.starts_with("https://"));
        let connector = match is_default || is_asked_for {
            true => files.connector(self.insecure_skip_tls_verify, b"h2")?,
            false => None,
        };
        // Whoever forges the records can name any host, but has no certificate for the domain.
        let is_of_domain = !self.discovery_srv.is_empty() && !self.insecure_discovery;
        Ok(Tls {
            connector,
            is_default,
            name: is_of_domain.then(|| self.discovery_srv.clone()),
        })
    }

    /// How an endpoint is talked to by HTTP/1.1; none if in clear.
    ///
    /// # Errors
    ///
    /// If the certificates cannot be used.
    pub(super) fn web_connector(&self, endpoint: &str) -> Result<Option<Arc<Connector>>, Failure> {
        let files = self.tls_files();
        let is_default = files.is_any() || !self.insecure_transport;
        let is_secure = match endpoint.split_once("://") {
            Some((scheme, _)) => scheme == "https",
            None => is_default,
        };
        match is_secure {
            true => files.connector(self.insecure_skip_tls_verify, b"http/1.1"),
            false => Ok(None),
        }
    }

    fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            authorities: self.cacert.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}

/// The files that TLS is spoken with.
pub(super) struct TlsFiles {
    pub(super) authorities: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

impl TlsFiles {
    fn is_any(&self) -> bool {
        self.authorities.is_some() || self.certificate.is_some() || self.key.is_some()
    }

    /// What connects with them and speaks `protocol`; none if nothing says whom to believe, not even the system.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub(super) fn connector(
        self,
        believe_anyone: bool,
        protocol: &[u8],
    ) -> Result<Option<Arc<Connector>>, Failure> {
        let shown = |file: &Option<PathBuf>| file.as_deref().map_or(String::new(), show);
        let pair = match (self.certificate, self.key) {
            (Some(cert_file), Some(key_file)) => Some(KeyPairFiles { cert_file, key_file }),
            (None, None) => None,
            (cert, key) => {
                return Err(Failure::arguments(format!(
                    "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                    shown(&key),
                    shown(&cert)
                )));
            }
        };
        let trust = match (self.authorities, believe_anyone) {
            (_, true) => Trust::Anyone,
            (Some(file), false) => Trust::CertifiedBy(file),
            (None, false) => match system_authorities() {
                Some(file) => Trust::CertifiedBy(file),
                None => return Ok(None),
            },
        };
        let connector = Connector::open(pair, &trust, &[protocol]);
        let connector = connector.map_err(|error| Failure::arguments(error.to_string()))?;
        Ok(Some(Arc::new(connector)))
    }
}

/// Where the system keeps the authorities that it believes.
fn system_authorities() -> Option<PathBuf> {
    let named = env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = SYSTEM_AUTHORITIES.iter().map(PathBuf::from);
    named.into_iter().chain(usual).find(|file| file.is_file())
}

const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// The variable that stands for a flag.
pub(crate) fn variable(long: &str) -> String {
    format!("ETCDCTL_{}", long.to_uppercase().replace('-', "_"))
}

/// The flag that is both on the command line and in the environment, by its variable.
pub(crate) fn conflict(
    command: &clap::Command,
    matches: &ArgMatches,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Option<String> {
    let given = command.get_arguments().filter(|arg| {
        let id = arg.get_id().as_str();
        arg.is_global_set() && matches.value_source(id) == Some(ValueSource::CommandLine)
    });
    let variables = given.filter_map(|arg| arg.get_long().map(variable));
    let mut set = variables.filter(|name| lookup(name).is_some_and(|value| !value.is_empty()));
    set.next()
}
