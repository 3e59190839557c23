//! gRPC server reflection, by which tools such as `grpcurl` find out what is served.

use http::Request;
use quorate_etcd_api::DESCRIPTOR_SET;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_reflection::server::Builder;

use crate::surface::Inner;

/// The two versions of the service, which differ in their names only.
pub(crate) struct Reflection {
    v1: Answer,
    v1alpha: Answer,
}

type Answer = Box<dyn Fn(Request<Body>) -> Inner + Send + Sync>;

impl Reflection {
    /// Reflection over all that the client port serves.
    pub(crate) fn new() -> Reflection {
        let v1 = builder().build_v1().expect(CHECKED_IN);
        let v1alpha = builder().build_v1alpha().expect(CHECKED_IN);
        Reflection {
            v1: Box::new(move |request| v1.clone().call(request)),
            v1alpha: Box::new(move |request| v1alpha.clone().call(request)),
        }
    }

    /// Answers a call of `grpc.reflection.v1`.
    pub(crate) fn answer_v1(&self, request: Request<Body>) -> Inner {
        (self.v1)(request)
    }

    /// Answers a call of `grpc.reflection.v1alpha`.
    pub(crate) fn answer_v1alpha(&self, request: Request<Body>) -> Inner {
        (self.v1alpha)(request)
    }
}

fn builder() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

const CHECKED_IN: &str = "the descriptor sets are generated and do not change while running";
