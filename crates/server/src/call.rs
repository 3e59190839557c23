//! One call of a method, from its first byte to its last: what is counted and measured of it.
//!
//! - A unary call has ended when its answer is there; a stream when its body has. A call whose client went away
//!   before that was cancelled.
//! - Messages and their bytes are counted as they pass, without the five bytes before each.
//! - Of a unary call that took long the log tells the method, how long, and how many bytes; nothing of what is in
//!   them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::rpc::{Kind, Method, code_label};

/// A call that has begun and is not answered yet. Dropped, it was cancelled.
pub(crate) struct Call(Option<Arc<State>>);

struct State {
    method: Arc<Method>,
    begun: Instant,
    request_bytes: AtomicU64,
}

impl Call {
    /// Counts a call that begins, of a request with these headers.
    pub(crate) fn begin(method: &Arc<Method>, headers: &HeaderMap) -> Call {
        method.count_started(headers);
        Call(Some(Arc::new(State {
            method: Arc::clone(method),
            begun: Instant::now(),
            request_bytes: AtomicU64::new(0),
        })))
    }

    /// The request, counted as it is read.
    pub(crate) fn receive(&self, request: Request<Body>) -> Request<Body> {
        let Some(state) = self.0.clone() else {
            return request;
        };
        let messages = Messages::default();
        request.map(|body| {
            Body::new(RequestBody {
                body,
                messages,
                state,
            })
        })
    }

    /// The response, counted as it is written.
    pub(crate) fn respond(mut self, response: Response<Body>) -> Response<Body> {
        let Some(state) = self.0.take() else {
            return response;
        };
        let rest = match (status_of(response.headers()), state.method.kind) {
            (Some(code), _) => state.end(code),
            (None, Kind::Unary) => state.end(Code::Ok),
            (None, Kind::ServerStream | Kind::BidiStream) => Rest::End,
        };
        response.map(|body| {
            Body::new(ResponseBody {
                body,
                messages: Messages::default(),
                bytes: 0,
                rest,
                state,
            })
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            state.end(Code::Cancelled);
        }
    }
}

impl State {
    /// Counts the end of the call.
    fn end(&self, code: Code) -> Rest {
        let took = self.begun.elapsed();
        self.method.count_handled(code, took);
        if self.method.kind == Kind::Unary && self.method.is_slow(took) {
            Rest::Tell(code, took)
        } else {
            Rest::Nothing
        }
    }

    fn tell(&self, code: Code, took: Duration, response_bytes: u64) {
        if self.method.may_warn(Instant::now()) {
            let (expected, method) = (self.method.warn_after(), self.method.path());
            let (code, request_bytes) = (code_label(code), self.request_bytes.load(Ordering::Relaxed));
            tracing::warn!(
                %method, ?took, ?expected, code, request_bytes, response_bytes, "request took too long"
            );
        }
    }
}

/// The status of a response that has nothing but its headers, or of trailers.
pub(crate) fn status_of(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get("grpc-status")?;
    Some(Code::from_bytes(status.as_bytes()))
}

/// What is left to do when the response has been written, or its client has gone.
#[derive(Clone, Copy)]
enum Rest {
    Nothing,
    /// To count the end of a stream.
    End,
    /// To tell that a unary call took so long.
    Tell(Code, Duration),
}

struct RequestBody {
    body: Body,
    messages: Messages,
    state: Arc<State>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let passed = self.messages.pass(data);
            self.state
                .request_bytes
                .fetch_add(passed.bytes, Ordering::Relaxed);
            self.state.method.count_received(passed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct ResponseBody {
    body: Body,
    messages: Messages,
    bytes: u64,
    rest: Rest,
    state: Arc<State>,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                let passed = self.messages.pass(data);
                self.bytes += passed.bytes;
                self.state.method.count_sent(passed);
            } else if let Some(code) = frame.trailers_ref().and_then(status_of)
                && matches!(self.rest, Rest::End)
            {
                self.rest = self.state.end(code);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        match self.rest {
            Rest::Nothing => {}
            Rest::End => {
                self.state.end(Code::Cancelled);
            }
            Rest::Tell(code, took) => self.state.tell(code, took, self.bytes),
        }
    }
}

/// Finds where messages begin in a body that comes in pieces: before each are five bytes, of which the last four
/// are its length.
#[derive(Default)]
struct Messages {
    /// How many of the five bytes have been seen.
    prefix: usize,
    /// What they say, so far.
    length: u32,
    /// How much of the message is still to come.
    left: usize,
}

/// What was in a piece of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Messages that began.
    pub(crate) messages: u64,
    /// Bytes of messages.
    pub(crate) bytes: u64,
}

impl Messages {
    fn pass(&mut self, mut piece: &[u8]) -> Passed {
        let mut passed = Passed::default();
        while !piece.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(piece.len());
                self.left -= taken;
                passed.bytes += taken as u64;
                piece = &piece[taken..];
                continue;
            }
            // The first of the five says whether the message is compressed; shifting moves it out.
            self.length = self.length << 8 | u32::from(piece[0]);
            self.prefix += 1;
            piece = &piece[1..];
            if self.prefix == PREFIX {
                self.prefix = 0;
                self.left = self.length as usize;
                passed.messages += 1;
            }
        }
        passed
    }
}

const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use std::fmt::{self, Write};

    use http_body_util::{BodyExt, Full};
    use parking_lot::Mutex;
    use prometheus_client::registry::Registry;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;
    use crate::rpc::Methods;

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            event.record(&mut Line(&mut self.0.lock()));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    struct Line<'a>(&'a mut String);

    impl Visit for Line<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            write!(self.0, "{field}={value:?};").unwrap();
        }
    }

    fn message(bytes: &'static [u8]) -> Body {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let body = [&[0], length.as_slice(), bytes].concat();
        Body::new(Full::new(Bytes::from(body)))
    }

    /// What is logged of a call that is answered at once.
    async fn logged(path: &str, warn_after: Duration) -> String {
        let log = Log::default();
        let methods = Methods::new(&mut Registry::default(), warn_after);
        let _until_the_end = tracing::subscriber::set_default(log.clone());
        let call = Call::begin(methods.find(path).unwrap(), &HeaderMap::new());
        let request = call.receive(Request::new(message(b"a secret")));
        request.into_body().collect().await.unwrap();
        let response = call.respond(Response::new(message(b"another")));
        response.into_body().collect().await.unwrap();
        log.0.lock().clone()
    }

    #[tokio::test]
    async fn a_slow_call_is_told_of_and_not_what_is_in_it() {
        let line = logged("/etcdserverpb.KV/Put", Duration::ZERO).await;
        for part in [
            "message=request took too long;",
            "method=/etcdserverpb.KV/Put;",
            "expected=0ns;",
            "code=\"OK\";",
            "request_bytes=8;",
            "response_bytes=7;",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains("secret") && !line.contains("another"), "{line}");
        assert_eq!(logged("/etcdserverpb.KV/Put", Duration::MAX).await, "");
        // What waits by design is not slow, nor is a stream.
        assert_eq!(logged("/v3lockpb.Lock/Lock", Duration::ZERO).await, "");
        assert_eq!(logged("/etcdserverpb.Watch/Watch", Duration::ZERO).await, "");
    }

    #[test]
    fn messages_are_found_however_the_body_is_cut() {
        let mut body = Vec::new();
        for length in [3_u32, 0, 300] {
            body.push(1);
            body.extend(length.to_be_bytes());
            body.extend(vec![0xff; length as usize]);
        }
        for size in 1..=body.len() {
            let mut messages = Messages::default();
            let mut sum = Passed::default();
            for piece in body.chunks(size) {
                let passed = messages.pass(piece);
                sum.messages += passed.messages;
                sum.bytes += passed.bytes;
            }
            let expected = Passed {
                messages: 3,
                bytes: 303,
            };
            assert_eq!(sum, expected, "in pieces of {size}");
        }
    }
}
