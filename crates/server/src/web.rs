//! What browsers are told, and kept from: the names under which a member answers, and who may read it from a page.
//!
//! - It is about HTTP pages and the gateway. gRPC cannot be spoken by a page.
//! - A page of a stranger that has bound its own name to this address (DNS rebinding, CVE-2018-5702) is answered
//!   under listed names only, if there is a list. With TLS, the certificate keeps it out.

use std::collections::BTreeSet;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

/// Who may use HTTP pages and the gateway. etcd's `--host-whitelist`, `--cors` and `--enable-grpc-gateway`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// The host names under which requests without TLS are answered; empty, or with `*` among them, means all.
    pub hosts: BTreeSet<String>,
    /// The origins whose pages may read answers; `*` stands for all.
    pub origins: BTreeSet<String>,
    /// Whether there is a JSON gateway.
    pub gateway: bool,
}

impl Default for Web {
    fn default() -> Web {
        Web {
            hosts: BTreeSet::new(),
            origins: BTreeSet::new(),
            gateway: true,
        }
    }
}

/// A mark on requests that came by TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByTls;

impl Web {
    /// The answer to a request that goes no further: one under a foreign name, or a question of a browser.
    pub(crate) fn turn_away<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        if request.extensions().get::<ByTls>().is_none() && !self.knows(host(request)) {
            let text = format!(
                "quorate: this member does not answer under the name {:?}: ask it under another, or add the name to --host-whitelist\n",
                host(request).unwrap_or_default()
            );
            let body = Body::new(axum::body::Body::from(text));
            return Some(with_status(StatusCode::MISDIRECTED_REQUEST, body));
        }
        // What is allowed is said by the headers, or by their absence.
        let asks = request.method() == Method::OPTIONS;
        asks.then(|| with_status(StatusCode::OK, Body::empty()))
    }

    /// What a browser is to be told with an answer to a request that had these headers.
    pub(crate) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.contains(ANY) {
            return Some(HeaderValue::from_static(ANY));
        }
        let origin = headers.get(ORIGIN)?;
        let is_known = origin.to_str().is_ok_and(|origin| self.origins.contains(origin));
        is_known.then(|| origin.clone())
    }

    fn knows(&self, host: Option<&str>) -> bool {
        let all = self.hosts.is_empty() || self.hosts.contains(ANY);
        all || host.is_some_and(|host| self.hosts.contains(host))
    }
}

/// Tells a browser that pages of this origin may read the answer.
pub(crate) fn allow_origin<B>(response: &mut Response<B>, origin: HeaderValue) {
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    let asked = HeaderValue::from_static("accept, content-type, authorization");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("origin"));
}

/// The name that a request was sent to, without a port.
fn host<B>(request: &Request<B>) -> Option<&str> {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let named = named.or_else(|| request.headers().get(HOST)?.to_str().ok())?;
    let named = named.rsplit_once('@').map_or(named, |(_, host)| host);
    match named.strip_prefix('[') {
        Some(address) => address.split_once(']').map(|(address, _)| address),
        None => named.split(':').next(),
    }
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn web(hosts: &[&str], origins: &[&str]) -> Web {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Web {
            hosts: set(hosts),
            origins: set(origins),
            ..Web::default()
        }
    }

    fn request(host: &str) -> Request<()> {
        Request::get("/health").header(HOST, host).body(()).unwrap()
    }

    fn status(web: &Web, request: &Request<()>) -> Option<StatusCode> {
        web.turn_away(request).map(|response| response.status())
    }

    #[test]
    fn only_listed_names_are_answered_in_clear() {
        let listed = web(&["a.example", "::1"], &[]);
        for (name, known) in [
            ("a.example", true),
            ("a.example:2379", true),
            ("[::1]:2379", true),
            ("b.example", false),
            ("a.example.b", false),
            ("", false),
        ] {
            let expected = (!known).then_some(StatusCode::MISDIRECTED_REQUEST);
            assert_eq!(status(&listed, &request(name)), expected, "{name}");
            assert_eq!(status(&web(&[], &[]), &request(name)), None);
            assert_eq!(status(&web(&["*"], &[]), &request(name)), None);
        }
        let mut secured = request("b.example");
        secured.extensions_mut().insert(ByTls);
        assert_eq!(status(&listed, &secured), None);
        let bare = Request::get("/health").body(()).unwrap();
        assert_eq!(status(&listed, &bare), Some(StatusCode::MISDIRECTED_REQUEST));
    }

    #[test]
    fn pages_of_listed_origins_may_read() {
        let origin = |web: &Web, origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            web.allowed_origin(&headers)
        };
        let listed = web(&[], &["http://a.example"]);
        assert_eq!(origin(&listed, "http://a.example").unwrap(), "http://a.example");
        assert_eq!(origin(&listed, "http://b.example"), None);
        assert_eq!(origin(&web(&[], &["*"]), "http://b.example").unwrap(), "*");
        assert_eq!(origin(&web(&[], &[]), "http://a.example"), None);
        let asking = Request::options("/v3/kv/put").body(()).unwrap();
        assert_eq!(status(&listed, &asking), Some(StatusCode::OK));
        assert_eq!(status(&web(&[], &[]), &asking), Some(StatusCode::OK));
        let foreign = web(&["a.example"], &["*"]);
        assert_eq!(status(&foreign, &asking), Some(StatusCode::MISDIRECTED_REQUEST));
    }
}
