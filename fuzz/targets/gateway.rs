//! What the JSON gateway is sent: any text is a message or refused, and a message stays the same on its way
//! through JSON and back.
//!
//! The input is a byte that names a type of message, a byte that says what to do, and the text or the message.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use quorate_server::fuzzing::{Gateway, cut};
use std::sync::LazyLock;

static GATEWAY: LazyLock<Gateway> = LazyLock::new(Gateway::new);

fuzz_target!(|data: &[u8]| {
    let [place, action, rest @ ..] = data else { return };
    let place = usize::from(*place) % GATEWAY.count();
    match action % 4 {
        0 | 1 => read(place, rest),
        2 => write(place, rest),
        _ => body(usize::from(action >> 2), rest),
    }
});

fn read(place: usize, json: &[u8]) {
    let Ok(message) = GATEWAY.read(place, json) else {
        return;
    };
    assert!(
        message.len() <= MOST_GROWTH * json.len(),
        "{} bytes became {}",
        json.len(),
        message.len()
    );
    let again = GATEWAY
        .write(place, message.clone())
        .expect("what was read is written");
    let again = GATEWAY.read(place, &again).expect("what was written is read");
    let descriptor = GATEWAY.descriptor(place);
    assert_eq!(decoded(&descriptor, again), decoded(&descriptor, message));
}

fn write(place: usize, message: &[u8]) {
    let message = Bytes::copy_from_slice(message);
    let descriptor = GATEWAY.descriptor(place);
    let (decoded_first, json) = match DynamicMessage::decode(descriptor.clone(), message.clone()) {
        Ok(decoded) => (
            decoded,
            GATEWAY.write(place, message).expect("a message is written"),
        ),
        Err(_) => {
            GATEWAY.write(place, message).expect_err("it is no message");
            return;
        }
    };
    match GATEWAY.read(place, &json) {
        Ok(again) => assert_eq!(decoded(&descriptor, again), known(&decoded_first)),
        // Ours are never so deep.
        Err(error) => assert!(error.message().contains("recursion limit"), "{error}"),
    }
}

fn decoded(descriptor: &MessageDescriptor, bytes: Bytes) -> DynamicMessage {
    DynamicMessage::decode(descriptor.clone(), bytes).expect("it is a message")
}

/// The same without the fields that the descriptor does not have.
fn known(message: &DynamicMessage) -> DynamicMessage {
    let mut same = DynamicMessage::new(message.descriptor());
    for (field, value) in message.fields() {
        same.set_field(&field, known_value(value));
    }
    same
}

fn known_value(value: &Value) -> Value {
    match value {
        Value::Message(message) => Value::Message(known(message)),
        Value::List(values) => Value::List(values.iter().map(known_value).collect()),
        value => value.clone(),
    }
}

/// A body of many messages is cut alike, however it arrives.
fn body(piece: usize, bytes: &[u8]) {
    let whole = cut([bytes], MAX_DOCUMENT);
    let (found, error) = &whole;
    assert!(found.iter().all(|document| document.len() <= MAX_DOCUMENT));
    let by_piece = cut(bytes.chunks(piece + 1), MAX_DOCUMENT);
    let text = |error: &Option<_>| error.as_ref().map(ToString::to_string);
    assert_eq!((&by_piece.0, text(&by_piece.1)), (found, text(error)));
}

/// `-1` in a list of numbers is three bytes as JSON and ten as protobuf.
const MOST_GROWTH: usize = 4;
const MAX_DOCUMENT: usize = 64;
