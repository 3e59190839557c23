//! The etcd keyspace as a deterministic state machine.
