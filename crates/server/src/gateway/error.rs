//! Errors as grpc-gateway writes them: the fields of its first version and of its second, since clients
//! look at either.

use std::time::Duration;

use axum::response::IntoResponse;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;
use tonic::body::Body;
use tonic::{Code, Status};

use super::body;

/// An answer that is an error.
#[derive(Serialize)]
struct UnaryError<'a> {
    error: &'a str,
    message: &'a str,
    code: i32,
}

/// The last line of a stream that has failed.
#[derive(Serialize)]
struct StreamError<'a> {
    error: StreamErrorDetails<'a>,
}

/// What it says: the code has a name of its own in each version.
#[derive(Serialize)]
struct StreamErrorDetails<'a> {
    grpc_code: i32,
    http_code: u16,
    message: &'a str,
    http_status: &'static str,
    code: i32,
}

/// A request with one answer has failed.
pub(super) fn unary(status: &Status) -> Response<Body> {
    with_status(http_status(status.code()), status.code(), status.message())
}

/// A stream has failed before its first message.
pub(super) fn stream(status: &Status) -> Response<Body> {
    let body = axum::Json(StreamError::of(status));
    (http_status(status.code()), body).into_response().map(Body::new)
}

impl StreamError<'_> {
    fn of(status: &Status) -> StreamError<'_> {
        let http = http_status(status.code());
        StreamError {
            error: StreamErrorDetails {
                grpc_code: status.code() as i32,
                http_code: http.as_u16(),
                message: status.message(),
                http_status: http.canonical_reason().unwrap_or_default(),
                code: status.code() as i32,
            },
        }
    }
}

/// The line that tells why a stream ends.
pub(super) fn last_line(status: &Status) -> Vec<u8> {
    let mut line = serde_json::to_vec(&StreamError::of(status)).expect("texts and numbers are JSON");
    line.push(b'\n');
    line
}

/// The path is no method.
pub(super) fn not_found(path: &str) -> Response<Body> {
    let message = format!("quorate: the API has no {path}");
    with_status(StatusCode::NOT_FOUND, Code::NotFound, &message)
}

/// All is asked for by POST.
pub(super) fn not_allowed(method: &Method) -> Response<Body> {
    let message = format!("quorate: POST a request here, {method} is not served");
    let mut response = with_status(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, &message);
    let allowed = HeaderValue::from_static("POST");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// The body is longer than this.
pub(super) fn too_long(max_bytes: usize) -> Response<Body> {
    let message = format!("quorate: the request is longer than {max_bytes} bytes");
    with_status(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, &message)
}

/// The body did not come. The connection is of no more use: nobody knows where another request would begin.
pub(super) fn stalled(patience: Duration) -> Response<Body> {
    let message = body::stalled(patience);
    let mut response = with_status(StatusCode::REQUEST_TIMEOUT, Code::Cancelled, &message);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The body broke off, or is no body.
pub(super) fn broken(error: &axum::Error) -> Response<Body> {
    let message = format!("quorate: the request broke off: {error}");
    with_status(StatusCode::BAD_REQUEST, Code::InvalidArgument, &message)
}

fn with_status(http: StatusCode, code: Code, message: &str) -> Response<Body> {
    let body = axum::Json(UnaryError {
        error: message,
        message,
        code: code as i32,
    });
    (http, body).into_response().map(Body::new)
}

/// The HTTP status that stands for a gRPC code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
