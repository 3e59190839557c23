//! Every method of the service definitions against callers that may not: what is not allowed by name is
//! refused, so that a method which is added later is refused until somebody has decided.

use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use prost::Message;
use prost_types::FileDescriptorSet;
use quorate_etcd_api::EtcdError;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Channel;

use crate::users::{User, cluster, guard};

/// What needs no login.
const OPEN: [&str; 2] = ["AuthStatus", "Authenticate"];

/// What needs a login, and perhaps rights to the keys that it is about. Everything else needs root.
const FOR_USERS: [&str; 22] = [
    "Range",
    "RangeStream",
    "Put",
    "DeleteRange",
    "Txn",
    "Watch",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseKeepAlive",
    "LeaseTimeToLive",
    "LeaseLeases",
    "MemberList",
    "Alarm",
    "Status",
    "UserGet",
    "RoleGet",
    "Lock",
    "Unlock",
    "Campaign",
    "Proclaim",
    "Leader",
    "Resign",
];

/// Streams, of which the answer to an empty request may be none.
const OBSERVE: &str = "Observe";

fn methods() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(quorate_etcd_api::DESCRIPTOR_SET).unwrap();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push((path, method.name().to_owned()));
            }
        }
    }
    methods
}

/// What an empty request is answered by: the text of the error, empty for none. A stream that begins is left.
async fn call(channel: &mut Channel, path: &str, token: Option<&str>) -> String {
    let mut request = Request::post(path).header("content-type", "application/grpc");
    request = request.header("te", "trailers");
    if let Some(token) = token {
        request = request.header("token", token);
    }
    let empty_message = bytes::Bytes::from_static(&[0; 5]);
    let body = Body::new(http_body_util::Full::new(empty_message).map_err(|never| match never {}));
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    let text = |headers: &HeaderMap| {
        let message = headers.get("grpc-message")?.to_str().unwrap().replace("%20", " ");
        Some(message.replace("%2C", ",").replace("%3A", ":"))
    };
    text(response.headers()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_refused_to_whom_it_is_not_declared_for() {
    let cluster = cluster(1).await;
    guard(&cluster).await;
    let mut channel = cluster.client(0).channel;
    let alice = User::named(&cluster, 0, "alice").await;
    let token = alice.token.as_deref();
    let all = methods();
    assert!(all.len() > 40, "{}", all.len());
    for (path, name) in &all {
        let answer = call(&mut channel, path, None).await;
        let is_refused = answer == EtcdError::UserEmpty.message();
        assert_eq!(
            is_refused,
            !OPEN.contains(&&**name),
            "{path} to nobody: {answer:?}"
        );
        if OPEN.contains(&&**name) || FOR_USERS.contains(&&**name) || name == OBSERVE {
            continue;
        }
        let answer = call(&mut channel, path, token).await;
        assert_eq!(answer, EtcdError::PermissionDenied.message(), "{path} to alice");
    }
}
