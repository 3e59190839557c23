//! The etcd v3 wire types, generated and checked in, and the error table.
//!
//! The .proto files in `proto/` state the facts of the API; `cargo run -p xtask -- codegen` turns
//! them into `src/generated/`. Nothing below the server sees these types: consensus, log and
//! keyspace would work the same under another API.
//!
//! - Fields of type `bytes` are [`bytes::Bytes`]: a decoded request shares the buffer it came in.
//! - [`EtcdError`] is every error that an etcd client knows.
//!
//! It leaves out the JSON mapping of the gateway and everything that decides anything.

mod error;

pub use error::EtcdError;

/// The encoded `FileDescriptorSet` of all packages: for reflection, for the JSON gateway, and for tests that
/// enumerate every method.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");

/// Declares a module for a generated package. Generated code keeps its own style.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
        #[allow(clippy::wildcard_enum_match_arm, clippy::cast_possible_truncation)]
        #[allow(rustdoc::all)]
        pub mod $name {
            include!(concat!("generated/", $file));
        }
    };
}

package! {
    /// The client API: key-value, watch, lease, cluster, maintenance and auth.
    etcdserverpb, "etcdserverpb.rs"
}
package! {
    /// Key-values and events as clients see them.
    mvccpb, "mvccpb.rs"
}
package! {
    /// Users, roles and permissions.
    authpb, "authpb.rs"
}
package! {
    /// The lock service.
    v3lockpb, "v3lockpb.rs"
}
package! {
    /// The election service.
    v3electionpb, "v3electionpb.rs"
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn a_decoded_value_shares_the_buffer_it_came_in() {
        let put = etcdserverpb::PutRequest {
            key: "key".into(),
            value: "value".into(),
            ..Default::default()
        };
        let buffer = bytes::Bytes::from(put.encode_to_vec());
        let decoded = etcdserverpb::PutRequest::decode(buffer.clone()).unwrap();
        assert_eq!(decoded, put);
        assert!(buffer.as_ptr_range().contains(&decoded.value.as_ptr()));
    }

    #[test]
    fn field_numbers_are_those_of_the_wire() {
        let response = etcdserverpb::WatchResponse {
            events: vec![mvccpb::Event::default()],
            ..Default::default()
        };
        assert_eq!(response.encode_to_vec(), [11 << 3 | 2, 0]);
        let compare = etcdserverpb::Compare {
            range_end: "x".into(),
            ..Default::default()
        };
        assert_eq!(compare.encode_to_vec(), [0x82, 0x04, 1, b'x']);
    }

    #[test]
    fn the_descriptor_set_names_every_service() {
        let set = String::from_utf8_lossy(DESCRIPTOR_SET);
        for service in ["KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth"] {
            assert!(set.contains(service), "{service} is missing");
        }
    }
}
