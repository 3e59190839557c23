//! Says how fast five idle nodes are simulated: `cargo run --release -p quorate-sim --example pace`.

#![allow(clippy::print_stdout)] // A program's output.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // The speed of the simulator is measured in real time.

use std::time::{Duration, Instant};

use quorate_sim::{Load, Mood, Options, Size, run};

fn main() {
    let options = Options {
        size: Size::Exactly(5),
        mood: Mood::Calm,
        load: Load::Idle,
        duration: Duration::from_secs(600),
        ..Options::default()
    };
    for seed in 0..5 {
        let started = Instant::now();
        match run(seed, &options) {
            Err(failure) => println!("{failure}"),
            Ok(report) => {
                let real = started.elapsed().as_secs_f64();
                let simulated = report.time.0 as f64 / 1e6;
                println!(
                    "seed {seed}, a tick of {:?}: {:.0} simulated seconds a second, {:.0} events a second",
                    report.profile.node.tick,
                    simulated / real,
                    report.events as f64 / real,
                );
            }
        }
    }
}
