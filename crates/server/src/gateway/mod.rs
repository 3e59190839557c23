//! etcd's JSON gateway: every method of the API as `POST /v3/...` on the same port.
//!
//! - It is made from the descriptors of the API at start: a new method appears by itself, and a test holds
//!   the paths to those that etcd documents.
//! - A call goes through the [`Surface`](crate::surface::Surface) within this process, as if it had come by
//!   gRPC: it is counted, limited and permitted there.
//! - What cannot be read is answered by an error with etcd's three fields, and never breaks the connection.
//!
//! Left out: streams over WebSocket, which etcd's gateway offers too.

mod body;
mod call;
mod documents;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod json;
mod raw;
#[cfg(test)]
mod round_trip;
mod routes;

use std::sync::Arc;

use http::{HeaderName, Method, Request};
use hyper::body::Incoming;

pub(crate) use body::BodyLimits;
use call::Call;
use routes::Routes;

use crate::surface::{InProcess, Inner};

/// By this metadata etcd tells calls of its gateway from others.
pub(crate) const GATEWAY_MARK: HeaderName = HeaderName::from_static("grpcgateway-accept");

/// The gateway.
pub(crate) struct Gateway {
    routes: Routes,
    limits: BodyLimits,
}

impl Gateway {
    /// A gateway that reads bodies within these limits.
    pub(crate) fn new(limits: BodyLimits) -> Gateway {
        Gateway {
            routes: Routes::new(),
            limits,
        }
    }

    /// Whether a path is the gateway's.
    pub(crate) fn is_for(&self, path: &str) -> bool {
        routes::relative(path).is_some()
    }

    /// Answers one request, by a call of `surface`.
    pub(crate) fn answer(&self, surface: InProcess, request: Request<Incoming>) -> Inner {
        let Some(route) = self.routes.find(request.uri().path()) else {
            let response = error::not_found(request.uri().path());
            return call::refuse(request, response, self.limits.patience);
        };
        if request.method() != Method::POST {
            let response = error::not_allowed(request.method());
            return call::refuse(request, response, self.limits.patience);
        }
        let call = Call {
            route: Arc::clone(route),
            surface,
            limits: self.limits,
        };
        Box::pin(async move { Ok(call.answer(request).await) })
    }
}
