//! What a log entry holds for the keyspace: any bytes are a proposal or a named error, and a proposal
//! that was decoded encodes to one that is equal to it.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate_kv::Proposal;

fuzz_target!(|data: &[u8]| {
    if let Ok(proposal) = Proposal::decode(Bytes::copy_from_slice(data)) {
        let again = Proposal::decode(proposal.encode()).expect("what was encoded decodes");
        assert_eq!(again, proposal);
    }
});
