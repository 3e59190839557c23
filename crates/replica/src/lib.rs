//! Replicate your own state machine with Raft: durable, linearizable, embeddable.
