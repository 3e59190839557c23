//! What a log entry holds for the keyspace: any bytes are a command or a named error, and a command
//! that was decoded encodes to one that is equal to it.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate_kv::Command;

fuzz_target!(|data: &[u8]| {
    if let Ok(command) = Command::decode(Bytes::copy_from_slice(data)) {
        let again = Command::decode(command.encode()).expect("what was encoded decodes");
        assert_eq!(again, command);
    }
});
