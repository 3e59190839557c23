//! Server reflection, as `grpcurl list` and `describe` use it.

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::v1alpha;

use crate::harness::Cluster;

async fn ask(cluster: &Cluster, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let mut client = ServerReflectionClient::new(cluster.client(0).channel);
    let requests = futures::stream::iter([request]);
    let mut responses = client
        .server_reflection_info(requests)
        .await
        .unwrap()
        .into_inner();
    let ServerReflectionResponse { message_response, .. } = responses.message().await.unwrap().unwrap();
    message_response.unwrap()
}

const SERVICES: [&str; 10] = [
    "etcdserverpb.Auth",
    "etcdserverpb.Cluster",
    "etcdserverpb.KV",
    "etcdserverpb.Lease",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Watch",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "v3electionpb.Election",
    "v3lockpb.Lock",
];

#[tokio::test]
async fn every_service_is_listed() {
    let cluster = Cluster::start(1).await;
    let answer = ask(&cluster, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, SERVICES);
}

#[tokio::test]
async fn a_symbol_has_its_file() {
    let cluster = Cluster::start(1).await;
    let symbol = MessageRequest::FileContainingSymbol("v3lockpb.Lock".to_owned());
    let answer = ask(&cluster, symbol).await;
    let MessageResponse::FileDescriptorResponse(files) = answer else {
        panic!("{answer:?}");
    };
    let file = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
    assert_eq!((file.package(), file.service[0].method.len()), ("v3lockpb", 2));
    let unknown = MessageRequest::FileContainingSymbol("v3lockpb.Nothing".to_owned());
    let client = ask_for_status(&cluster, unknown).await;
    assert_eq!(client, tonic::Code::NotFound);
}

async fn ask_for_status(cluster: &Cluster, request: MessageRequest) -> tonic::Code {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let mut client = ServerReflectionClient::new(cluster.client(0).channel);
    let requests = futures::stream::iter([request]);
    let mut responses = client
        .server_reflection_info(requests)
        .await
        .unwrap()
        .into_inner();
    responses.message().await.unwrap_err().code()
}

#[tokio::test]
async fn the_older_version_answers_too() {
    let cluster = Cluster::start(1).await;
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let channel = cluster.client(0).channel;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let requests = futures::stream::iter([request]);
    let responses = client.server_reflection_info(requests).await.unwrap();
    let answer = responses.into_inner().message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("etcdserverpb.KV"), "{answer:?}");
}
