//! Says how fast five nodes are simulated: `cargo run --release -p quorate-sim --example pace`.
//!
//! Nothing goes wrong, and the nodes tick as in production. Simulated seconds are what an idle cluster and
//! one with ten operations a second come to; events a second are what a busy one does.

#![allow(clippy::print_stdout)] // A program's output.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // The speed of the simulator is measured in real time.

use std::time::{Duration, Instant};

use quorate_sim::{Kind, Load, Options, Size, run};

fn main() {
    for (name, load, seconds) in [
        ("idle", Load::Idle, 1_000),
        ("moderate", Load::Moderate, 1_000),
        ("busy", Load::Drawn, 60),
    ] {
        let options = Options {
            size: Size::Exactly(5),
            kind: Kind::Calm,
            load,
            duration: Duration::from_secs(seconds),
            ..Options::default()
        };
        println!("{name}: {}", pace(&options));
    }
}

/// What one core does in a second, over several seeds.
fn pace(options: &Options) -> String {
    let (mut micros, mut events, mut answered) = (0, 0, 0);
    let started = Instant::now();
    for seed in 0..SEEDS {
        match run(seed, options) {
            Err(failure) => return failure.to_string(),
            Ok(report) => {
                micros += report.time.0;
                events += report.events;
                answered += report.operations.answered;
            }
        }
    }
    let (real, simulated) = (started.elapsed().as_secs_f64(), micros as f64 / 1e6);
    format!(
        "{:.0} simulated seconds a second, {:.0} events a second; {:.1} operations a simulated second",
        simulated / real,
        events as f64 / real,
        answered as f64 / simulated,
    )
}

const SEEDS: u64 = 5;
