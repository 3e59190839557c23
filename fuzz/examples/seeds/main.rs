//! Writes the first inputs of the fuzz targets: what each of them meets in earnest.
//!
//!     cargo run --release --example seeds -- corpus [TARGET...]

mod auth;
mod authority;
mod backup;
mod gateway;
mod peer;
mod request;
mod snapshot;
mod stored;
mod text;

// What instrumented code calls is in there.
use libfuzzer_sys as _;
use std::path::Path;

/// A target, and what makes inputs for it.
type Target = (&'static str, fn() -> Vec<Vec<u8>>);

const TARGETS: [Target; 9] = [
    ("auth", auth::seeds),
    ("authority", authority::seeds),
    ("backup", backup::seeds),
    ("gateway", gateway::seeds),
    ("peer", peer::seeds),
    ("request", request::seeds),
    ("snapshot", snapshot::seeds),
    ("stored", stored::seeds),
    ("text", text::seeds),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let corpus = arguments.next().expect("usage: seeds DIRECTORY [TARGET...]");
    let wanted: Vec<String> = arguments.collect();
    for (target, seeds) in TARGETS {
        if wanted.is_empty() || wanted.iter().any(|name| name == target) {
            write(&Path::new(&corpus).join(target), &seeds());
        }
    }
}

fn write(directory: &Path, seeds: &[Vec<u8>]) {
    std::fs::create_dir_all(directory).expect("the directory can be made");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), seed).expect("the directory can be written");
    }
}

/// A byte that says what it is, and the rest.
fn tagged(tag: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&[tag], bytes.as_ref()].concat()
}

/// A step of many: a byte that says what it is, two that count, and the bytes.
fn step(tag: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let count = u16::try_from(bytes.len()).expect("a seed is short");
    [&[tag], &count.to_le_bytes()[..], bytes].concat()
}
