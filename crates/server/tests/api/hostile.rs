//! What no client of good will sends by gRPC, at the port of a real server: every method gets it, and answers with an
//! error of gRPC's.
//!
//! - Bytes are drawn from fixed seeds. What happens to be a message is left out: it would be carried out.
//! - A panic anywhere in the process fails the test that notices it, whoever has caused it.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Channel;

use crate::harness::{Cluster, PATIENCE};

/// Numbers that look random and are the same in each run (xorshift).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// Counts the panics of this process that are not a test's own.
pub(crate) fn panics() -> usize {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_tests = info.location().is_some_and(|at| at.file().contains("tests"));
            if !is_tests {
                SEEN.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
    SEEN.load(Ordering::SeqCst)
}

pub(crate) struct Method {
    path: String,
    input: MessageDescriptor,
}

pub(crate) fn methods() -> Vec<Method> {
    let pool = DescriptorPool::decode(quorate_etcd_api::DESCRIPTOR_SET).unwrap();
    let services: Vec<_> = pool.services().collect();
    let methods = services.iter().flat_map(|service| {
        service.methods().map(|method| Method {
            path: format!("/{}/{}", service.full_name(), method.name()),
            input: method.input(),
        })
    });
    methods.collect()
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// Messages that are none of any type: no field has number 0, no wire type is 7.
fn malformed_messages() -> Vec<Vec<u8>> {
    let nested = |tag: u8| {
        let mut message = vec![];
        for _ in 0..60_000 {
            message.extend([tag, 0xff, 0xff, 0x03]);
        }
        message
    };
    vec![
        vec![0x00],
        vec![0x07],
        vec![0x0f],
        vec![0x0a, 0x7f],
        vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        [vec![0x08], vec![0xff; 11]].concat(),
        vec![0x0d, 1, 2],
        vec![0x0b],
        vec![0x0c],
        nested(0x0a),
        nested(0x12),
        nested(0x1a),
    ]
}

/// Bodies that are no sequence of framed messages.
fn malformed_bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = malformed_messages()
        .iter()
        .map(|message| framed(message))
        .collect();
    bodies.extend([
        vec![0],
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 0, 5, 1, 2],
        vec![1, 0, 0, 0, 0],
        vec![1, 0, 0, 0, 2, 0x0a, 0],
        vec![2, 0, 0, 0, 0],
        vec![0xff; 5],
        vec![0, 0xff, 0xff, 0xff, 0xff],
        vec![0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3],
    ]);
    bodies
}

/// What a call with this body comes to, once it has ended.
async fn call(channel: &mut Channel, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Code {
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(Full::new(Bytes::from(body)).map_err(|never| match never {}));
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let code = |headers: &HeaderMap| Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()));
    if let Some(code) = code(response.headers()) {
        return code;
    }
    let ended = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{path}: it does not end"));
    let trailers = ended.unwrap().trailers().cloned();
    code(&trailers.unwrap_or_default()).unwrap_or_else(|| panic!("{path}: no word of how it ended"))
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused_by_every_method() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let methods = methods();
    assert!(methods.len() > 40, "{}", methods.len());
    for method in &methods {
        for body in malformed_bodies() {
            let start = body[..body.len().min(12)].to_vec();
            let code = call(&mut client.channel, &method.path, &[], body).await;
            // The size of a message is bounded before its bytes are waited for.
            let is_sane = matches!(code, Code::Internal | Code::OutOfRange);
            assert!(is_sane, "{}: {start:?}: {code:?}", method.path);
        }
    }
    client.put("a", "1").await;
    assert_eq!(panics(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_refused_by_every_method() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut dice = Dice(0x5eed);
    let mut refused = 0;
    for method in &methods() {
        for _ in 0..40 {
            let length = 1 + dice.below(40);
            let message = dice.bytes(length);
            if DynamicMessage::decode(method.input.clone(), message.as_slice()).is_ok() {
                continue;
            }
            let code = call(&mut client.channel, &method.path, &[], framed(&message)).await;
            assert_eq!(code, Code::Internal, "{}: {message:?}", method.path);
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused}");
    client.put("a", "1").await;
    assert_eq!(panics(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_grpc_that_make_no_sense_are_told_of() {
    let before = panics();
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for method in &methods() {
        let headers = [("grpc-encoding", "zip")];
        let code = call(
            &mut client.channel,
            &method.path,
            &headers,
            vec![1, 0, 0, 0, 1, 0],
        )
        .await;
        assert_eq!(code, Code::Unimplemented, "{}", method.path);
    }
    for path in [
        "/etcdserverpb.KV/Nothing",
        "/etcdserverpb.KV",
        "/Nothing",
        "/",
        "/a/b/c",
    ] {
        let code = call(&mut client.channel, path, &[], framed(&[])).await;
        assert_eq!(code, Code::Unimplemented, "{path}");
    }
    for (name, value) in [
        ("grpc-timeout", "abc"),
        ("grpc-timeout", "99999999999999999999H"),
        ("token", "no token"),
        ("hasleader", "perhaps"),
        ("some-bin", "%%%"),
        ("authorization", "Bearer"),
    ] {
        // What is not understood is ignored where it changes nothing.
        let code = call(
            &mut client.channel,
            "/etcdserverpb.KV/Compact",
            &[(name, value)],
            framed(&[]),
        )
        .await;
        let is_sane = matches!(
            code,
            Code::Ok | Code::OutOfRange | Code::Internal | Code::InvalidArgument
        );
        assert!(is_sane, "{name}: {value}: {code:?}");
    }
    client.put("a", "1").await;
    assert_eq!(panics(), before);
}
