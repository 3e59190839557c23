//! The client port, driven as a client drives it: real servers on free ports, real disks.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod harness;

mod audit;
mod auth;
mod backup;
mod cluster;
mod demands;
mod election;
mod exposition;
mod gateway;
mod hostile;
mod hostile_http;
mod http;
mod kv;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod metrics;
mod peers;
mod range_stream;
mod reflection;
mod silent;
mod tls;
mod tokens;
mod txn;
mod users;
mod watch;
