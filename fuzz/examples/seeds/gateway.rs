//! Every type of message, with all of its fields and with none, as JSON and as protobuf; bodies of several.

use crate::tagged;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use quorate_server::fuzzing::Gateway;

pub fn seeds() -> Vec<Vec<u8>> {
    let gateway = Gateway::new();
    let messages = (0..gateway.count()).flat_map(|place| of_type(&gateway, place));
    messages.chain(bodies()).collect()
}

fn of_type(gateway: &Gateway, place: usize) -> [Vec<u8>; 2] {
    let message = full(&gateway.descriptor(place), 3).encode_to_vec();
    let json = gateway
        .write(place, message.clone().into())
        .expect("a message is written");
    let tag = u8::try_from(place).expect("there are few types");
    [tagged(tag, tagged(0, json)), tagged(tag, tagged(2, message))]
}

/// Every field is set, as deep as this.
fn full(descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let Some(value) = value(&field, depth) else {
            continue;
        };
        let value = match field.is_list() {
            true => Value::List(vec![value.clone(), value]),
            false => value,
        };
        message.set_field(&field, value);
    }
    message
}

fn value(field: &FieldDescriptor, depth: usize) -> Option<Value> {
    let number = i32::try_from(field.number()).expect("fields have small numbers");
    Some(match field.kind() {
        Kind::Bool => Value::Bool(true),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-number),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::MIN + i64::from(number)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(field.number()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::MAX - u64::from(field.number())),
        Kind::Float => Value::F32(0.5),
        Kind::Double => Value::F64(0.5),
        Kind::String => Value::String("é\"\\\n".to_owned()),
        Kind::Bytes => Value::Bytes(vec![0xfb, 0xff, 0].into()),
        Kind::Enum(kind) => Value::EnumNumber(kind.values().last()?.number()),
        Kind::Message(message) if depth > 0 => Value::Message(full(&message, depth - 1)),
        Kind::Message(_) => return None,
    })
}

fn bodies() -> Vec<Vec<u8>> {
    let objects = [
        r#"{"create_request":{"key":"YQ=="}}"#,
        r#"{"\"{":"\\"}"#,
        "{}",
        "{]",
        r#"{"a":["#,
    ];
    let bodies = ["", "\n", ", "].map(|separator| objects.join(separator));
    bodies
        .into_iter()
        .map(|body| tagged(0, tagged(3 + 4 * 4, body)))
        .collect()
}
