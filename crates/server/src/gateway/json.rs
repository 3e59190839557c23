//! Messages between JSON and protobuf, as grpc-gateway maps them for etcd.
//!
//! - Fields are written by the names of the .proto files, those that are zero not at all, 64-bit numbers as
//!   strings, bytes in base64, enums by name.
//! - Fields are read by those names and in camel case, numbers from strings too. Fields that nobody knows
//!   are ignored, as from a newer client; a value that nobody knows is refused, for it cannot be meant as the
//!   default that it would become.

use bytes::Bytes;
use prost_reflect::prost::Message;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions,
};
use serde_json::{Serializer, Value};
use thiserror::Error;
use tonic::Status;

/// What messages of one type look like.
pub(super) struct Shape(MessageDescriptor);

/// A message cannot be translated.
#[derive(Debug, Error)]
pub(super) enum JsonError {
    /// The text is no JSON, or is followed by something.
    #[error("quorate: the request is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// It is JSON, but not of such a message.
    #[error("quorate: the request is not a {message}: {problem}")]
    NotTheMessage {
        message: String,
        problem: serde_json::Error,
    },
    /// A number is so large that it would be changed.
    #[error("quorate: {field}: {number} is out of range")]
    OutOfRange { field: String, number: String },
    /// Our answer cannot be written: our bug.
    #[error("quorate: the answer cannot be written as JSON: {0}")]
    Unwritable(String),
}

impl From<JsonError> for Status {
    fn from(error: JsonError) -> Status {
        match error {
            JsonError::Unwritable(_) => Status::internal(error.to_string()),
            JsonError::NotJson(_) | JsonError::NotTheMessage { .. } | JsonError::OutOfRange { .. } => {
                Status::invalid_argument(error.to_string())
            }
        }
    }
}

impl Shape {
    /// The shape of this type.
    pub(super) fn of(message: MessageDescriptor) -> Shape {
        Shape(message)
    }

    /// Reads a message, to be sent as protobuf. A text that is empty stands for an empty message.
    pub(super) fn read(&self, json: &[u8]) -> Result<Bytes, JsonError> {
        if json.trim_ascii().is_empty() {
            return Ok(Bytes::new());
        }
        let mut value: Value = serde_json::from_slice(json).map_err(JsonError::NotJson)?;
        prepare(&mut value, &self.0)?;
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let message = DynamicMessage::deserialize_with_options(self.0.clone(), value, &options);
        let message = message.map_err(|problem| JsonError::NotTheMessage {
            message: self.0.name().to_owned(),
            problem,
        })?;
        Ok(message.encode_to_vec().into())
    }

    /// Appends a message that came as protobuf to a text.
    pub(super) fn write(&self, message: Bytes, json: &mut Vec<u8>) -> Result<(), JsonError> {
        let message = DynamicMessage::decode(self.0.clone(), message);
        let message = message.map_err(|error| JsonError::Unwritable(error.to_string()))?;
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(true)
            .skip_default_fields(true)
            .use_enum_numbers(false);
        let written = message.serialize_with_options(&mut Serializer::new(json), &options);
        written.map_err(|error| JsonError::Unwritable(error.to_string()))
    }
}

/// Leaves out the fields that a message does not have, and refuses numbers that JSON could only round.
fn prepare(value: &mut Value, message: &MessageDescriptor) -> Result<(), JsonError> {
    let Value::Object(fields) = value else {
        return Ok(());
    };
    let find = |name: &str| {
        let field = message.get_field_by_json_name(name);
        field.or_else(|| message.get_field_by_name(name))
    };
    fields.retain(|name, _| find(name).is_some());
    for (name, value) in fields {
        if let Some(field) = find(name) {
            prepare_field(value, &field)?;
        }
    }
    Ok(())
}

fn prepare_field(value: &mut Value, field: &FieldDescriptor) -> Result<(), JsonError> {
    if let Value::Array(values) = value {
        return values.iter_mut().try_for_each(|value| prepare_one(value, field));
    }
    prepare_one(value, field)
}

fn prepare_one(value: &mut Value, field: &FieldDescriptor) -> Result<(), JsonError> {
    match (value, field.kind()) {
        (value, Kind::Message(message)) => prepare(value, &message),
        (Value::Number(number), _)
            if number
                .as_f64()
                .is_some_and(|n| number.is_f64() && n.abs() > EXACT) =>
        {
            Err(JsonError::OutOfRange {
                field: field.name().to_owned(),
                number: number.to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// Integers up to this size are the same as floating-point numbers: 2 to the 53rd.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;
    use quorate_etcd_api::DESCRIPTOR_SET;
    use quorate_etcd_api::etcdserverpb::*;
    use quorate_etcd_api::mvccpb::{Event, KeyValue, event::EventType};

    fn shape(name: &str) -> Shape {
        let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
        Shape::of(pool.get_message_by_name(name).unwrap())
    }

    fn read<T: Message + Default>(name: &str, json: &str) -> T {
        let bytes = shape(name)
            .read(json.as_bytes())
            .unwrap_or_else(|error| panic!("{json}: {error}"));
        T::decode(bytes).unwrap()
    }

    fn refused(name: &str, json: &str) -> String {
        let error = shape(name).read(json.as_bytes()).expect_err(json);
        let status = Status::from(error);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    fn written(name: &str, message: &impl Message) -> String {
        let mut json = Vec::new();
        shape(name)
            .write(message.encode_to_vec().into(), &mut json)
            .unwrap();
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn fields_are_read_by_both_of_their_names() {
        let expected = RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 3,
            sort_order: range_request::SortOrder::Descend.into(),
            keys_only: true,
            ..Default::default()
        };
        for json in [
            r#"{"key":"YQ==","range_end":"Yg==","limit":"3","sort_order":"DESCEND","keys_only":true}"#,
            r#"{"key":"YQ","rangeEnd":"Yg","limit":3,"sortOrder":2,"keysOnly":true,"revision":null}"#,
        ] {
            assert_eq!(
                read::<RangeRequest>("etcdserverpb.RangeRequest", json),
                expected,
                "{json}"
            );
        }
        let grant: LeaseGrantRequest = read("etcdserverpb.LeaseGrantRequest", r#"{"TTL":"5","ID":-1}"#);
        assert_eq!((grant.ttl, grant.id), (5, -1));
    }

    #[test]
    fn base64_is_read_in_both_alphabets() {
        for json in [r#"{"key":"+/8="}"#, r#"{"key":"-_8="}"#, r#"{"key":"-_8"}"#] {
            let put: PutRequest = read("etcdserverpb.PutRequest", json);
            assert_eq!(put.key, [0xfb, 0xff].as_slice(), "{json}");
        }
    }

    #[test]
    fn nothing_is_an_empty_message_and_unknown_fields_are_ignored() {
        for json in ["", " \n", "{}", r#"{"new":{"key":"?"}}"#] {
            assert_eq!(
                read::<PutRequest>("etcdserverpb.PutRequest", json),
                PutRequest::default()
            );
        }
        let json = r#"{"success":[{"request_put":{"key":"YQ==","new":[1]},"new":1}]}"#;
        let txn: TxnRequest = read("etcdserverpb.TxnRequest", json);
        let op = txn.success.into_iter().next().unwrap().request.unwrap();
        assert!(matches!(op, request_op::Request::RequestPut(put) if put.key == "a"));
    }

    #[test]
    fn what_would_be_read_as_something_else_is_refused() {
        let cases = [
            ("etcdserverpb.PutRequest", r#"{"key":"?"}"#, "base64"),
            ("etcdserverpb.PutRequest", r#"{"key":1}"#, "base64"),
            ("etcdserverpb.PutRequest", r#"{"key":"YQ=="} {}"#, "not JSON"),
            ("etcdserverpb.PutRequest", r#"{"key":"YQ==""#, "not JSON"),
            ("etcdserverpb.PutRequest", "[]", "not a PutRequest"),
            ("etcdserverpb.PutRequest", r#"{"lease":"x"}"#, "not a PutRequest"),
            ("etcdserverpb.PutRequest", r#"{"lease":1.5}"#, "integer"),
            (
                "etcdserverpb.PutRequest",
                r#"{"lease":99999999999999999999}"#,
                "out of range",
            ),
            ("etcdserverpb.RangeRequest", r#"{"sort_order":"DOWN"}"#, "DOWN"),
            (
                "etcdserverpb.TxnRequest",
                r#"{"compare":[{"result":"SAME"}]}"#,
                "SAME",
            ),
            (
                "etcdserverpb.TxnRequest",
                r#"{"compare":[{"version":1,"lease":2}]}"#,
                "oneof",
            ),
        ];
        for (name, json, part) in cases {
            let message = refused(name, json);
            assert!(message.contains(part), "{json}: {message}");
        }
        let deep = format!("{}1", r#"{"success":[{"request_txn":"#.repeat(1000));
        assert!(refused("etcdserverpb.TxnRequest", &deep).contains("recursion limit"));
    }

    #[test]
    fn answers_look_as_etcds_do() {
        let response = WatchResponse {
            header: Some(ResponseHeader {
                cluster_id: u64::MAX,
                revision: 7,
                ..Default::default()
            }),
            watch_id: 0,
            events: vec![Event {
                r#type: EventType::Delete.into(),
                kv: Some(KeyValue {
                    key: vec![0xfb, 0xff].into(),
                    mod_revision: 7,
                    ..Default::default()
                }),
                prev_kv: None,
            }],
            ..Default::default()
        };
        assert_eq!(
            written("etcdserverpb.WatchResponse", &response),
            concat!(
                r#"{"header":{"cluster_id":"18446744073709551615","revision":"7"},"#,
                r#""events":[{"type":"DELETE","kv":{"key":"+/8=","mod_revision":"7"}}]}"#
            )
        );
        let hash = HashResponse {
            header: None,
            hash: 9,
        };
        assert_eq!(written("etcdserverpb.HashResponse", &hash), r#"{"hash":9}"#);
        assert_eq!(written("etcdserverpb.PutResponse", &PutResponse::default()), "{}");
        let members = MemberListResponse {
            members: vec![Member {
                client_ur_ls: vec!["http://a".to_owned()],
                is_learner: true,
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(
            written("etcdserverpb.MemberListResponse", &members),
            r#"{"members":[{"clientURLs":["http://a"],"isLearner":true}]}"#
        );
    }
}
