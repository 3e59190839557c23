//! One request: its body is read, the method called, the answer written.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status, Streaming};

use super::body::{BodyError, BodyLimits, Pieces, read_whole};
use super::documents::Documents;
use super::error;
use super::raw::RawCodec;
use super::routes::{Route, Streams};
use crate::gateway::GATEWAY_MARK;
use crate::surface::{InProcess, Inner};

/// A request to a method.
pub(super) struct Call {
    pub(super) route: Arc<Route>,
    pub(super) surface: InProcess,
    pub(super) limits: BodyLimits,
}

impl Call {
    /// Answers it.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let caller = Caller::of(&parts.headers, parts.extensions);
        match self.route.streams {
            Streams::Neither => match self.unary(caller, body).await {
                Ok(json) => json_response(axum::body::Body::from(json)),
                Err(Refusal::Failed(status)) => error::unary(&status),
                Err(Refusal::Unread(error)) => self.unread(&error),
            },
            Streams::Responses => match self.read_one(body).await {
                Ok(message) => self.stream(caller, futures::stream::iter([message]), None).await,
                Err(Refusal::Failed(status)) => error::unary(&status),
                Err(Refusal::Unread(error)) => self.unread(&error),
            },
            Streams::Both => {
                let (refuse, refused) = oneshot::channel();
                let messages = self.read_many(body, refuse);
                self.stream(caller, messages, Some(refused)).await
            }
        }
    }

    async fn unary(&self, caller: Caller, body: Incoming) -> Result<Vec<u8>, Refusal> {
        let message = self.read_one(body).await?;
        let path = self.route.grpc_path.clone();
        let answer = self.grpc().unary(caller.request(message), path, RawCodec).await?;
        let mut json = Vec::new();
        self.route
            .response
            .write(answer.into_inner(), &mut json)
            .map_err(Status::from)?;
        Ok(json)
    }

    /// Calls a method that streams. `refused` says that the client's stream has become unreadable.
    async fn stream(
        &self,
        caller: Caller,
        messages: impl Stream<Item = Bytes> + Send + 'static,
        refused: Option<oneshot::Receiver<Status>>,
    ) -> Response<Body> {
        let path = self.route.grpc_path.clone();
        let answers = self
            .grpc()
            .streaming(caller.request(messages), path, RawCodec)
            .await;
        let mut lines = match answers {
            Ok(answers) => Lines {
                answers: answers.into_inner(),
                refused,
                route: Arc::clone(&self.route),
            },
            Err(status) => return error::stream(&status),
        };
        // The first message decides on the HTTP status.
        match lines.next().await {
            None => json_response(axum::body::Body::empty()),
            Some(Err(Ended::Unreadable(status))) => error::unary(&status),
            Some(Err(Ended::Failed(status))) => error::stream(&status),
            Some(Ok(first)) => {
                let first = futures::stream::iter([Ok::<_, Infallible>(Bytes::from(first))]);
                json_response(axum::body::Body::from_stream(first.chain(lines.stream())))
            }
        }
    }

    fn unread(&self, error: &BodyError) -> Response<Body> {
        match error {
            BodyError::TooLong => error::too_long(self.limits.max_bytes),
            BodyError::Stalled(patience) => error::stalled(*patience),
            BodyError::Broken(source) => error::broken(source),
        }
    }

    fn grpc(&self) -> Grpc<InProcess> {
        // Limits on what is asked are the surface's; what it answers is its own.
        Grpc::new(self.surface.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Reads the whole body as one message.
    async fn read_one(&self, body: Incoming) -> Result<Bytes, Refusal> {
        let json = read_whole(body, self.limits).await.map_err(Refusal::Unread)?;
        Ok(self.route.request.read(&json).map_err(Status::from)?)
    }

    /// Reads messages as they arrive, until the client ends them, or one is unreadable.
    fn read_many(
        &self,
        body: Incoming,
        refuse: oneshot::Sender<Status>,
    ) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
        let reading = Reading {
            pieces: Pieces::of(body, self.limits.patience),
            documents: Documents::new(self.limits.max_bytes),
            has_begun: false,
            route: Arc::clone(&self.route),
        };
        let state = Some((reading, refuse));
        Box::pin(futures::stream::unfold(state, async |state| {
            let (mut reading, refuse) = state?;
            match reading.next().await {
                Ok(message) => Some((message?, Some((reading, refuse)))),
                Err(status) => {
                    // Nobody listens once the answers have ended.
                    let _ = refuse.send(status);
                    // A client that still sends would not see the answer.
                    tokio::spawn(reading.pieces.discard());
                    // The method sees a client that asks no more; the one there is learns why below.
                    None
                }
            }
        }))
    }
}

/// Answers a request that is no call.
pub(super) fn refuse(request: Request<Incoming>, response: Response<Body>, patience: Duration) -> Inner {
    let nothing = BodyLimits {
        max_bytes: 0,
        patience,
    };
    Box::pin(async move {
        // Whatever it says, it is read: the connection could not go on otherwise.
        let _ = read_whole(request.into_body(), nothing).await;
        Ok(response)
    })
}

/// The request was not answered by a message.
enum Refusal {
    /// There is no body.
    Unread(BodyError),
    /// It is unreadable, or the method failed.
    Failed(Status),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal::Failed(status)
    }
}

/// What a method learns of who calls it.
struct Caller {
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Caller {
    /// Headers become metadata as grpc-gateway has it: the authorization as it is, and whatever begins with
    /// `grpc-metadata-` without that. A mark tells that the call came by the gateway.
    fn of(headers: &HeaderMap, extensions: Extensions) -> Caller {
        let mut metadata = HeaderMap::new();
        for (name, value) in headers {
            if let Some(name) = metadata_name(name) {
                metadata.append(name, value.clone());
            }
        }
        let anything = || HeaderValue::from_static("*/*");
        let accept = headers.get(header::ACCEPT).cloned().unwrap_or_else(anything);
        metadata.insert(GATEWAY_MARK, accept);
        Caller {
            metadata: MetadataMap::from_headers(metadata),
            extensions,
        }
    }

    fn request<T>(self, message: T) -> tonic::Request<T> {
        tonic::Request::from_parts(self.metadata, self.extensions, message)
    }
}

fn metadata_name(name: &HeaderName) -> Option<HeaderName> {
    if *name == header::AUTHORIZATION {
        return Some(name.clone());
    }
    let name = name.as_str().strip_prefix("grpc-metadata-")?;
    // How messages are framed is between the gateway and the method.
    let name = Some(name).filter(|name| !name.starts_with("grpc-"))?;
    name.parse().ok()
}

/// The answers of a stream, one JSON object to a line.
struct Lines {
    answers: Streaming<Bytes>,
    refused: Option<oneshot::Receiver<Status>>,
    route: Arc<Route>,
}

/// Why there are no more answers.
enum Ended {
    /// What the client sent could not be read.
    Unreadable(Status),
    /// The method has failed.
    Failed(Status),
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Ended>> {
        let answer = tokio::select! {
            biased;
            status = refusal(&mut self.refused) => return Some(Err(Ended::Unreadable(status))),
            answer = self.answers.message() => answer,
        };
        match answer {
            Ok(Some(message)) => Some(self.line(message).map_err(Ended::Failed)),
            // The method may have ended because the client's stream has: then that is the reason.
            Ok(None) => {
                let status = self.refused.as_mut()?.try_recv().ok()?;
                Some(Err(Ended::Unreadable(status)))
            }
            Err(status) => Some(Err(Ended::Failed(status))),
        }
    }

    fn line(&self, message: Bytes) -> Result<Vec<u8>, Status> {
        let mut line = b"{\"result\":".to_vec();
        self.route.response.write(message, &mut line)?;
        line.extend_from_slice(b"}\n");
        Ok(line)
    }

    /// All that are left, and at the end why there are no more, if something went wrong.
    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(Some(self), async |lines| {
            let mut lines = lines?;
            match lines.next().await? {
                Ok(line) => Some((Ok(line.into()), Some(lines))),
                Err(Ended::Unreadable(status) | Ended::Failed(status)) => {
                    let line = error::last_line(&status);
                    Some((Ok(line.into()), None))
                }
            }
        })
    }
}

/// Why the client's stream is unreadable; never ready unless it is.
async fn refusal(refused: &mut Option<oneshot::Receiver<Status>>) -> Status {
    if let Some(refusal) = refused
        && let Ok(status) = refusal.await
    {
        return status;
    }
    *refused = None;
    std::future::pending().await
}

/// A client's stream of messages.
struct Reading {
    pieces: Pieces,
    documents: Documents,
    /// Whether there was a message: from then on the client may be silent between two of them.
    has_begun: bool,
    route: Arc<Route>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(json) = self.documents.next()? {
                self.has_begun = true;
                return Ok(Some(self.route.request.read(&json)?));
            }
            let piece = match self.has_begun && self.documents.is_between() {
                true => self.pieces.next_message().await,
                false => self.pieces.next().await,
            };
            match piece {
                Some(piece) => self.documents.push(&piece?),
                None => {
                    self.documents.end()?;
                    return Ok(None);
                }
            }
        }
    }
}

fn json_response(body: axum::body::Body) -> Response<Body> {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (content_type, body).into_response().map(Body::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_headers_become_metadata_and_each_call_is_marked() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "token.1"),
            ("cookie", "c"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("grpc-metadata-grpcgateway-accept", "forged"),
            ("accept", "text/plain"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let metadata = Caller::of(&headers, Extensions::default())
            .metadata
            .into_headers();
        let mut found: Vec<(&str, &[u8])> = metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        found.sort_unstable();
        let expected: [(&str, &[u8]); 3] = [
            ("authorization", b"token.1"),
            ("grpcgateway-accept", b"text/plain"),
            ("hasleader", b"true"),
        ];
        assert_eq!(found, expected);
        let unmarked = Caller::of(&HeaderMap::new(), Extensions::default());
        assert_eq!(unmarked.metadata.get("grpcgateway-accept").unwrap(), "*/*");
    }
}
