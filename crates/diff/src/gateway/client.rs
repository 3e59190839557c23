//! HTTP/1.1, a connection for each request.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Who asks a server.
pub(super) struct Client {
    authority: String,
}

/// What is asked, with nothing left to fill in.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) token: Option<String>,
    pub(super) body: String,
}

/// What came, as it came.
pub(super) struct Raw {
    /// 0 if there was none.
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

impl Raw {
    fn none(reason: &'static str) -> Raw {
        Raw {
            status: 0,
            content_type: String::new(),
            body: Bytes::from_static(reason.as_bytes()),
        }
    }
}

impl Client {
    /// For a server at `http://host:port`.
    pub(super) fn new(endpoint: &str) -> Result<Client> {
        let authority = endpoint.strip_prefix("http://").context("not an http:// URL")?;
        Ok(Client {
            authority: authority.to_owned(),
        })
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn send(&self, question: &Question<'_>) -> Result<Raw> {
        match tokio::time::timeout(PATIENCE, self.exchange(question)).await {
            Ok(Err(error)) if is_cut(&error) => Ok(Raw::none(CLOSED)),
            Ok(raw) => raw.with_context(|| format!("{question:?}")),
            Err(_) => Ok(Raw::none(UNANSWERED)),
        }
    }

    async fn exchange(&self, question: &Question<'_>) -> Result<Raw> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the connection; what went wrong on it, the request tells.
        tokio::spawn(connection);
        let mut request = http::Request::builder()
            .method(question.method)
            .uri(question.path)
            .header("host", &self.authority)
            .header("content-type", "application/json");
        if let Some(token) = &question.token {
            request = request.header("authorization", token);
        }
        let body = Full::new(Bytes::copy_from_slice(question.body.as_bytes()));
        let response = sender.send_request(request.body(body)?).await?;
        let content_type = response.headers().get("content-type");
        Ok(Raw {
            status: response.status().as_u16(),
            content_type: content_type
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            body: response.into_body().collect().await?.to_bytes(),
        })
    }
}

/// Whether the server has closed the connection in place of an answer.
fn is_cut(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<hyper::Error>();
    error.is_some_and(hyper::Error::is_incomplete_message)
}

/// The connection was closed in place of an answer.
pub(super) const CLOSED: &str = "the connection was closed";
/// The connection stayed open without one.
pub(super) const UNANSWERED: &str = "no answer came";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
