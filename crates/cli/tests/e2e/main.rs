//! End to end: real processes of the built binary, real sockets, real disks, real `kill -9`.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod bad_input;
mod bench;
mod dev;
mod faults;
#[allow(dead_code, reason = "the torture run uses the rest")]
mod harness;
mod login;
mod members;
mod output;
mod snapshot;

use std::path::Path;

/// The program under test.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_quorate"))
}
