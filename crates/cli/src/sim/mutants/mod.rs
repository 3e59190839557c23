//! `quorate sim mutants`: the simulator looks for the deliberate bugs that a special build has.
//!
//! A build without them, as every normal one is, only says how to get one that has them.

#[cfg(feature = "mutants")]
mod hunts;
#[cfg(feature = "mutants")]
mod report;

use clap::Args;
use std::num::NonZeroU64;

use super::Output;
use crate::args::positive;

/// The arguments of `quorate sim mutants`.
#[derive(Args)]
pub(crate) struct Options {
    /// Look for these only, such as M17; all if left out
    #[arg(long, value_name = "M", value_delimiter = ',')]
    only: Vec<String>,
    /// How many seeds may look for each, the same for all
    #[arg(long, value_name = "N", default_value = "3000", value_parser = positive)]
    seeds: NonZeroU64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How to say what came of it
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Looks for what was asked for.
///
/// # Errors
///
/// If one of the bugs is not found, or a seed fails without any.
#[cfg(feature = "mutants")]
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    hunts::run(options)
}

/// Says where the bugs are.
///
/// # Errors
///
/// Always: this build has no bugs to find.
#[cfg(not(feature = "mutants"))]
pub(crate) fn run(_: &Options) -> anyhow::Result<()> {
    anyhow::bail!(
        "this build has no deliberate bugs to look for; build one that has: \
         cargo run --profile mutants -p quorate-cli --features mutants -- sim mutants"
    )
}
