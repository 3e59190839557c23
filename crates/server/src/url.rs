//! A URL as etcd's flags know them: scheme, host and port, nothing else.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use thiserror::Error;

/// Where a member listens or can be reached: `http://host:port` or `https://host:port`.
///
/// The host is never empty and the port always given. A port of 0 means "any free one" and is only
/// good for listening.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// Whether connections are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// They are not.
    Http,
    /// They are, by TLS.
    Https,
}

/// Why a text is not a [`Url`].
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not start with a scheme that is served.
    #[error("URL {0:?} must start with http:// or https:// (unix sockets are not served)")]
    Scheme(String),
    /// It has no port, or one that is no number below 65,536.
    #[error("URL {0:?} must end with a port, as in http://127.0.0.1:2379")]
    Port(String),
    /// Its port is a number that no port has.
    #[error("URL {0:?}: its port is larger than 65535")]
    LargePort(String),
    /// It has no host, or something after the port.
    #[error("URL {0:?} must have the form http://host:port or https://host:port")]
    Form(String),
}

impl Url {
    /// The `http://` URL of a host, which is a name or an address without brackets, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Url {
        Url {
            scheme: Scheme::Http,
            host: host.into(),
            port,
        }
    }

    /// The same with this scheme.
    #[must_use]
    pub fn with_scheme(self, scheme: Scheme) -> Url {
        Url { scheme, ..self }
    }

    /// Whether connections to it are secured.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The `http://` URL of a socket address.
    pub fn from_addr(addr: SocketAddr) -> Url {
        Url::new(addr.ip().to_string(), addr.port())
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The first address that the host's name resolves to, IPv4 ones first, as etcd listens on
    /// `localhost`.
    pub fn resolve(&self) -> std::io::Result<SocketAddr> {
        let mut addrs: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| std::io::Error::other(format!("{:?} cannot be resolved: {error}", self.host)))?
            .collect();
        addrs.sort_by_key(SocketAddr::is_ipv6);
        addrs
            .first()
            .copied()
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address"))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let (scheme, authority) = [Scheme::Http, Scheme::Https]
            .into_iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme.prefix())?)))
            .ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority
            .rsplit_once(':')
            .ok_or_else(|| UrlError::Port(text.to_owned()))?;
        let port = parse_port(port, text)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_in_no_host = |c: char| c.is_whitespace() || c.is_control() || "/@?#[]".contains(c);
        let needs_brackets = host.contains(':') && bracketed.is_none();
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || host.contains(is_in_no_host) || needs_brackets {
            return Err(UrlError::Form(text.to_owned()));
        }
        Ok(Url::new(host, port).with_scheme(scheme))
    }
}

impl Scheme {
    /// How URLs of it begin.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }
}

fn parse_port(port: &str, url: &str) -> Result<u16, UrlError> {
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().map_err(|_| match is_number {
        true => UrlError::LargePort(url.to_owned()),
        false => UrlError::Port(url.to_owned()),
    })
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.prefix(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_as_it_was_read() {
        for text in [
            "http://127.0.0.1:2379",
            "http://[::1]:2380",
            "http://node-1:80",
            "https://node-1:443",
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:1/".parse::<Url>().unwrap().to_string(), "http://a:1");
    }

    #[test]
    fn what_is_no_url_says_how_one_looks() {
        let error = |text: &str| text.parse::<Url>().unwrap_err();
        assert!(matches!(error("unix://a:1"), UrlError::Scheme(_)));
        assert!(matches!(error("a:1"), UrlError::Scheme(_)));
        assert!(matches!(error("http://a"), UrlError::Port(_)));
        assert!(matches!(error("http://a:70000"), UrlError::LargePort(_)));
        assert!(matches!(error("http://:1"), UrlError::Form(_)));
        for text in [
            "http://a/b:1",
            "http://a b:1",
            "http://[::1:1",
            "http://::1:1",
            "http://a:1:1",
            "http://[]:1",
            "http://[[::1]]:1",
            "http://a]:1",
        ] {
            assert!(matches!(error(text), UrlError::Form(_)), "{text}");
        }
    }
}
