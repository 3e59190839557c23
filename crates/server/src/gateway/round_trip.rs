//! Every message of the API through JSON and back, against a mapping that is written down once more, naively.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost_reflect::prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};
use quorate_etcd_api::DESCRIPTOR_SET;
use quorate_etcd_api::etcdserverpb::TxnRequest;
use quorate_kv::{Command, Limits};
use serde_json::{Map, Value as Json, json};

use super::json::Shape;

#[test]
fn each_message_is_written_by_the_mapping_and_read_in_both_dialects() {
    for_each_message(|shape, message| {
        let mut text = Vec::new();
        shape.write(message.encode_to_vec().into(), &mut text).unwrap();
        let written: Json = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(&written, &object(&message, &Dialect::OURS));
        for dialect in [Dialect::OURS, Dialect::OTHER] {
            let text = object(&message, &dialect).to_string();
            let read = shape.read(text.as_bytes());
            let read = read.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
            let read = DynamicMessage::decode(message.descriptor(), read).unwrap();
            prop_assert!(read == message, "{text} is read as another message");
        }
        Ok(())
    });
}

#[test]
fn a_text_that_was_damaged_is_refused_or_means_something() {
    let damage = || proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    for_each_message_and(damage, |shape, message, damages| {
        let mut text = object(&message, &Dialect::OURS).to_string().into_bytes();
        for (place, byte) in damages {
            let place = place.index(text.len());
            text[place] = byte;
        }
        if let Ok(read) = shape.read(&text) {
            DynamicMessage::decode(message.descriptor(), read).unwrap();
        }
        Ok(())
    });
}

/// On a thread with the stack of those that answer requests.
#[test]
fn transactions_are_read_as_deep_as_json_is_and_refused_by_the_keyspace() {
    let name = "etcdserverpb.TxnRequest";
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let shape = Shape::of(pool.get_message_by_name(name).unwrap());
    let nested = |depth: usize| {
        let (begin, end) = (r#"{"success":[{"request_txn":"#, "}]}");
        format!("{}{{}}{}", begin.repeat(depth), end.repeat(depth))
    };
    let read = shape.read(nested(42).as_bytes()).unwrap();
    let request = TxnRequest::decode(read).unwrap();
    let txn = crate::translate::txn(request, usize::MAX).unwrap();
    let refused = Command::Txn(txn).check(&Limits::default());
    assert_eq!(refused, Err(quorate_kv::Error::TooManyOps));
    let error = shape.read(nested(43).as_bytes()).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}

/// Checks some messages of each type that methods are asked with or answer with.
fn for_each_message(check: impl Fn(&Shape, DynamicMessage) -> Result<(), TestCaseError>) {
    for_each_message_and(|| Just(()), |shape, message, ()| check(shape, message));
}

fn for_each_message_and<S: Strategy>(
    more: impl Fn() -> S,
    check: impl Fn(&Shape, DynamicMessage, S::Value) -> Result<(), TestCaseError>,
) {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let mut types: Vec<_> = methods
        .flat_map(|method| [method.input(), method.output()])
        .collect();
    types.sort_by(|one, other| one.full_name().cmp(other.full_name()));
    types.dedup();
    assert!(types.len() > 60, "there are {} types", types.len());
    for descriptor in types {
        let shape = Shape::of(descriptor.clone());
        let name = descriptor.full_name().to_owned();
        let mut runner = TestRunner::new(Config::with_cases(CASES));
        runner
            .run(&(message(descriptor, DEPTH), more()), |(message, more)| {
                check(&shape, message, more)
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Any message of a type, with others in it as deep as this.
fn message(descriptor: MessageDescriptor, depth: usize) -> BoxedStrategy<DynamicMessage> {
    let fields: Vec<_> = descriptor
        .fields()
        .filter(|field| depth > 0 || !matches!(field.kind(), Kind::Message(_)))
        .collect();
    let values: Vec<_> = fields
        .iter()
        .map(|field| prop::option::of(content(field, depth)))
        .collect();
    let build = move |values: Vec<Option<Value>>| {
        let mut message = DynamicMessage::new(descriptor.clone());
        for (field, value) in fields.iter().zip(values) {
            // Of a union, the last one stays.
            if let Some(value) = value {
                message.set_field(field, value);
            }
        }
        // As it comes from the wire: what is zero is not there.
        DynamicMessage::decode(message.descriptor(), message.encode_to_vec().as_slice()).unwrap()
    };
    values.prop_map(build).boxed()
}

fn content(field: &FieldDescriptor, depth: usize) -> BoxedStrategy<Value> {
    let one = value(field.kind(), depth);
    match field.is_list() {
        true => prop::collection::vec(one, 0..3).prop_map(Value::List).boxed(),
        false => one,
    }
}

fn value(kind: Kind, depth: usize) -> BoxedStrategy<Value> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Int32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Uint32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::Int64 => prop_oneof![any::<i64>(), -3..3_i64].prop_map(Value::I64).boxed(),
        Kind::Uint64 => prop_oneof![any::<u64>(), 0..3_u64].prop_map(Value::U64).boxed(),
        Kind::String => any::<String>().prop_map(Value::String).boxed(),
        Kind::Bytes => prop::collection::vec(any::<u8>(), 0..8)
            .prop_map(|bytes| Value::Bytes(bytes.into()))
            .boxed(),
        Kind::Enum(kind) => {
            let numbers: Vec<i32> = kind.values().map(|value| value.number()).collect();
            prop::sample::select(numbers).prop_map(Value::EnumNumber).boxed()
        }
        Kind::Message(descriptor) => message(descriptor, depth - 1).prop_map(Value::Message).boxed(),
        Kind::Double
        | Kind::Float
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64 => panic!("the API has fields of the kind {kind:?}: add them here and to `scalar`"),
    }
}

/// How a client may write what has several forms.
struct Dialect {
    name: fn(&FieldDescriptor) -> String,
    signed: fn(i64) -> Json,
    unsigned: fn(u64) -> Json,
    choice: fn(&Kind, i32) -> Json,
    base64: Base64,
}

struct Base64 {
    digits: &'static [u8; 64],
    padding: &'static str,
}

impl Dialect {
    /// What we write, and grpc-gateway.
    const OURS: Dialect = Dialect {
        name: |field| field.name().to_owned(),
        signed: |number| json!(number.to_string()),
        unsigned: |number| json!(number.to_string()),
        choice: |kind, number| json!(kind.as_enum().unwrap().get_value(number).unwrap().name()),
        base64: Base64 {
            digits: b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            padding: "=",
        },
    };
    /// All that is allowed besides.
    const OTHER: Dialect = Dialect {
        name: |field| field.json_name().to_owned(),
        signed: |number| json!(number),
        unsigned: |number| json!(number),
        choice: |_, number| json!(number),
        base64: Base64 {
            digits: b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            padding: "",
        },
    };
}

impl Base64 {
    fn encode(&self, bytes: &[u8]) -> String {
        let groups = bytes.chunks(3).map(|group| {
            let mut bits = [0; 4];
            bits[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(bits);
            let digit = |place: usize| char::from(self.digits[(bits >> (18 - 6 * place)) as usize & 63]);
            let digits: String = (0..=group.len()).map(digit).collect();
            digits + &self.padding.repeat(3 - group.len())
        });
        groups.collect()
    }
}

/// A message as JSON: the fields that are not zero, and of a union the one that is set.
fn object(message: &DynamicMessage, dialect: &Dialect) -> Json {
    let fields = message.descriptor();
    let fields = fields.fields().filter(|field| message.has_field(field));
    let members = fields.map(|field| {
        let value = message.get_field(&field);
        let json = match value.as_list() {
            Some(values) => values
                .iter()
                .map(|value| scalar(&field, value, dialect))
                .collect(),
            None => scalar(&field, &value, dialect),
        };
        ((dialect.name)(&field), json)
    });
    Json::Object(members.collect::<Map<_, _>>())
}

fn scalar(field: &FieldDescriptor, value: &Value, dialect: &Dialect) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::I32(number) => json!(number),
        Value::U32(number) => json!(number),
        Value::I64(number) => (dialect.signed)(*number),
        Value::U64(number) => (dialect.unsigned)(*number),
        Value::String(text) => json!(text),
        Value::Bytes(bytes) => json!(dialect.base64.encode(bytes)),
        Value::EnumNumber(number) => (dialect.choice)(&field.kind(), *number),
        Value::Message(message) => object(message, dialect),
        Value::F32(_) | Value::F64(_) | Value::List(_) | Value::Map(_) => panic!("{value:?}"),
    }
}

const CASES: u32 = 24;
/// Deep enough for a transaction within one.
const DEPTH: usize = 4;
