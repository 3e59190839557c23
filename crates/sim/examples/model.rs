//! Explores every state of a small cluster: `cargo run --release -p quorate-sim --example model -- [--full]`.
//!
//! Options: `--full` for what takes minutes; `--flaw forgotten-vote|early-persist` for a model that is wrong on
//! purpose; `nodes=N terms=N timeouts=N heartbeats=N proposals=N crashes=N losses=N repeats=N order=streams|any states=N` for bounds of one's own.
//! Ends with a code other than 0 if anything is wrong, after the steps that lead there.

#![allow(clippy::print_stdout)] // A program's output.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // The speed is measured in real time.

use std::process::ExitCode;
use std::time::Instant;

use quorate_sim::model::{Bounds, Flaw, Order, explore};

fn main() -> ExitCode {
    let Some((models, flaw)) = arguments() else {
        println!(
            "usage: model [--full] [--flaw forgotten-vote|early-persist] [nodes=N] [terms=N] [timeouts=N] [heartbeats=N] [proposals=N] [crashes=N] [losses=N] [repeats=N] [order=streams|any] [states=N]"
        );
        return ExitCode::FAILURE;
    };
    // An assertion that fails is reported with the steps that lead there: the hook's own lines say less.
    std::panic::set_hook(Box::new(|_| {}));
    let all_hold = models.iter().all(|bounds| is_sound(bounds, flaw));
    if all_hold {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn is_sound(bounds: &Bounds, flaw: Flaw) -> bool {
    println!("{bounds}");
    let started = Instant::now();
    let findings = explore(bounds, flaw);
    let seconds = started.elapsed().as_secs_f64();
    println!("  {findings}");
    println!(
        "  {seconds:.1} s, {:.0} transitions a second",
        findings.transitions as f64 / seconds
    );
    if let Some(counterexample) = &findings.counterexample {
        println!("{counterexample}");
    }
    findings.counterexample.is_none()
}

/// The models to explore: those of a set, changed alike by what is asked for; a single one if anything is.
fn arguments() -> Option<(Vec<Bounds>, Flaw)> {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut models = match arguments.next_if_eq("--full") {
        Some(_) => Bounds::full(),
        None => Bounds::small(),
    };
    let mut flaw = Flaw::None;
    while let Some(argument) = arguments.next() {
        if argument == "--flaw" {
            flaw = match arguments.next()?.as_str() {
                "forgotten-vote" => Flaw::ForgottenVote,
                "early-persist" => Flaw::EarlyPersist,
                _ => return None,
            };
            continue;
        }
        let (name, value) = argument.split_once('=')?;
        models.truncate(1);
        models
            .iter_mut()
            .try_for_each(|bounds| set(bounds, name, value))?;
    }
    Some((models, flaw))
}

fn order(value: &str) -> Option<Order> {
    match value {
        "streams" => Some(Order::Streams),
        "any" => Some(Order::Any),
        _ => None,
    }
}

fn set(bounds: &mut Bounds, name: &str, value: &str) -> Option<()> {
    let number = value.parse().ok();
    match name {
        "nodes" => bounds.nodes = value.parse().ok()?,
        "terms" => bounds.terms = value.parse().ok()?,
        "states" => bounds.states = value.parse().ok()?,
        "timeouts" => bounds.timeouts = number?,
        "heartbeats" => bounds.heartbeats = number?,
        "proposals" => bounds.proposals = number?,
        "crashes" => bounds.crashes = number?,
        "losses" => bounds.losses = number?,
        "order" => bounds.order = order(value)?,
        "repeats" => bounds.repeats = number?,
        _ => return None,
    }
    Some(())
}
