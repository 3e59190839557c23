//! The endpoints that our own clients talk to, and how they do: by HTTP/2 in clear, or with TLS.
//!
//! - The flags are etcdctl's. An endpoint without a scheme is `https://` if one of them is given.
//! - With TLS, either the authority of the servers is named, or it is said that anybody is believed.

use anyhow::{Context, bail, ensure};
use clap::Args;
use hyper_util::rt::TokioIo;
use quorate_tls::{Connector, KeyPairFiles, Stream, Trust};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

/// The flags about TLS of a command that is a client.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TlsFlags {
    /// The authorities of the servers' certificates, in PEM form
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate to show to servers, in PEM form
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, in PEM form
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Believe any server to be the one it says it is
    #[arg(long)]
    insecure_skip_tls_verify: bool,
}

/// One endpoint, not connected yet.
#[derive(Clone)]
pub(crate) struct Target {
    endpoint: Endpoint,
    /// None if it is talked to in clear.
    connector: Option<Arc<Connector>>,
    /// As in [`Tls::name`].
    name: Option<String>,
}

/// How endpoints are talked to.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// None if no flag speaks of TLS: then no endpoint may be `https://`.
    pub(crate) connector: Option<Arc<Connector>>,
    /// Whether endpoints without a scheme speak TLS.
    pub(crate) is_default: bool,
    /// Whom the servers' certificates must be for, if not for the host that is dialled.
    pub(crate) name: Option<String>,
}

/// The endpoints of a command line, each set up by `change`.
///
/// # Errors
///
/// If one of them is no endpoint, or the certificates cannot be used.
pub(crate) fn targets(
    texts: &[String],
    flags: &TlsFlags,
    change: impl Fn(Endpoint) -> Endpoint,
) -> anyhow::Result<Vec<Target>> {
    let connector = flags.connector()?.map(Arc::new);
    let is_default = connector.is_some();
    let tls = Tls {
        connector,
        is_default,
        name: None,
    };
    texts.iter().map(|text| target(text, &tls, &change)).collect()
}

/// An endpoint, set up by `change`.
///
/// # Errors
///
/// If it is no endpoint, or speaks TLS and nothing says whom to believe.
pub(crate) fn target(text: &str, tls: &Tls, change: impl Fn(Endpoint) -> Endpoint) -> anyhow::Result<Target> {
    let scheme = match tls.is_default {
        true => "https",
        false => "http",
    };
    let address = match text.contains("://") {
        true => text.to_owned(),
        false => format!("{scheme}://{text}"),
    };
    let endpoint = Endpoint::from_shared(address.clone())
        .with_context(|| format!("{address} is not an endpoint; give host:port or http://host:port"))?;
    let connector = match endpoint.uri().scheme_str() {
        Some("https") => Some(tls.connector.clone().with_context(|| {
            format!("{address} speaks TLS: give the authority of its certificate with --cacert")
        })?),
        _ => None,
    };
    Ok(Target {
        endpoint: change(endpoint),
        connector,
        name: tls.name.clone(),
    })
}

impl TlsFlags {
    fn connector(&self) -> anyhow::Result<Option<Connector>> {
        let trust = match (&self.cacert, self.insecure_skip_tls_verify) {
            (Some(_), true) => bail!(
                "--cacert says who is believed, --insecure-skip-tls-verify that anybody is: give one of them"
            ),
            (Some(file), false) => Trust::CertifiedBy(file.clone()),
            (None, true) => Trust::Anyone,
            (None, false) => {
                ensure!(
                    self.cert.is_none(),
                    "--cert is shown to servers with TLS: give the authority of theirs with --cacert"
                );
                return Ok(None);
            }
        };
        let pair = self.cert.clone().zip(self.key.clone());
        let pair = pair.map(|(cert_file, key_file)| KeyPairFiles { cert_file, key_file });
        Ok(Some(Connector::open(pair, &trust, &[b"h2"])?))
    }
}

impl Target {
    /// Where it is, without a slash at the end.
    pub(crate) fn address(&self) -> String {
        self.endpoint.uri().to_string().trim_end_matches('/').to_owned()
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody answers there, or not as expected.
    pub(crate) async fn connect(&self) -> Result<Channel, Error> {
        match self.connector.clone() {
            None => self.endpoint.connect().await,
            Some(connector) => {
                let name = self.name.clone();
                let dial = service_fn(move |uri| dial(Arc::clone(&connector), name.clone(), uri));
                self.endpoint.connect_with_connector(dial).await
            }
        }
    }

    /// A channel that connects when it is used.
    pub(crate) fn connect_lazy(&self) -> Channel {
        match self.connector.clone() {
            None => self.endpoint.connect_lazy(),
            Some(connector) => {
                let name = self.name.clone();
                let dial = service_fn(move |uri| dial(Arc::clone(&connector), name.clone(), uri));
                self.endpoint.connect_with_connector_lazy(dial)
            }
        }
    }
}

async fn dial(connector: Arc<Connector>, name: Option<String>, uri: Uri) -> io::Result<TokioIo<Stream>> {
    let host = uri.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS_PORT))).await?;
    stream.set_nodelay(true)?;
    let connected = connector
        .connect(name.as_deref().unwrap_or(host), stream, HANDSHAKE)
        .await;
    connected.map(TokioIo::new).map_err(io::Error::other)
}

/// Gets a page of an endpoint by HTTP/1, head and all; by TLS if there is a connector.
///
/// # Errors
///
/// If nobody answers there.
pub(crate) async fn page(
    endpoint: &str,
    connector: Option<Arc<Connector>>,
    path: &str,
) -> anyhow::Result<String> {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = authority.trim_end_matches('/');
    // HTTP/1.0: the answer comes in one piece, and its end is that of the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    let mut text = Vec::new();
    match connector {
        Some(connector) => {
            let uri = format!("https://{authority}").parse()?;
            let mut stream = dial(connector, None, uri).await?.into_inner();
            stream.write_all(request.as_bytes()).await?;
            stream.take(MAX_PAGE_BYTES).read_to_end(&mut text).await?;
        }
        None => {
            let mut stream = TcpStream::connect(authority).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.take(MAX_PAGE_BYTES).read_to_end(&mut text).await?;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

const MAX_PAGE_BYTES: u64 = 16 << 20;
const HTTPS_PORT: u16 = 443;
const HANDSHAKE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, flags: &TlsFlags) -> Result<String, String> {
        let targets = targets(&[text.to_owned()], flags, |endpoint| endpoint);
        targets
            .map(|targets| targets[0].address())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_speaks_tls_is_told_by_the_scheme_or_the_flags() {
        let plain = TlsFlags::default();
        let tls = TlsFlags {
            insecure_skip_tls_verify: true,
            ..TlsFlags::default()
        };
        assert_eq!(address("a:1", &plain).unwrap(), "http://a:1");
        assert_eq!(address("a:1", &tls).unwrap(), "https://a:1");
        assert_eq!(address("http://a:1", &tls).unwrap(), "http://a:1");
        assert!(address("https://a:1", &plain).unwrap_err().contains("--cacert"));
        let missing = TlsFlags {
            cacert: Some("no/such.pem".into()),
            ..TlsFlags::default()
        };
        assert!(address("a:1", &missing).unwrap_err().contains("no/such.pem"));
    }
}
