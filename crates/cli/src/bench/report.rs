//! The figures of a run, for people and for machines.

use crate::bench::load::{Load, Operation, Outcome};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value, json};

/// The figures as a page for people. Where nothing was answered, there are none.
pub(super) fn to_text(load: &Load, outcome: &Outcome) -> String {
    if outcome.answered() == 0 {
        return String::new();
    }
    let failures = outcome.errors.iter();
    let failures: String = failures
        .map(|(error, count)| format!("failed {count} times: {error}\n"))
        .collect();
    format!(
        "{}\n\n{}\n{failures}",
        summary(load, outcome),
        latency_table(outcome).trim_fmt()
    )
}

fn summary(load: &Load, outcome: &Outcome) -> String {
    let missing = match outcome.missing {
        0 => String::new(),
        count => format!("\n{count} reads found no key: run `quorate bench put` first"),
    };
    format!(
        "{}: {} requests by {} clients over {} connections in {:.2} s: {:.0} per second, {} failed{missing}",
        describe(&load.operation),
        load.total,
        load.clients,
        load.connections,
        outcome.elapsed.as_secs_f64(),
        outcome.throughput(),
        outcome.failed(),
    )
}

fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Put { value } => format!("put, {} byte values", value.len()),
        Operation::Range { consistency } => format!("range, {consistency:?}").to_lowercase(),
    }
}

fn latency_table(outcome: &Outcome) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["latency", "ms"]);
    for (name, micros) in latencies(outcome) {
        table.add_row([name.to_string(), millis(micros)]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The figures as one JSON object; latencies are in microseconds, and none where nothing was answered.
pub(super) fn to_json(load: &Load, outcome: &Outcome) -> Value {
    let latencies: Map<String, Value> = latencies(outcome)
        .filter(|_| outcome.answered() > 0)
        .map(|(name, micros)| (name.to_string(), json!(micros)))
        .collect();
    json!({
        "workload": describe(&load.operation),
        "clients": load.clients,
        "connections": load.connections,
        "key_space": load.key_space,
        "requests": load.total,
        "answered": outcome.answered(),
        "missing": outcome.missing,
        "failed": outcome.failed(),
        "errors": outcome.errors,
        "seconds": outcome.elapsed.as_secs_f64(),
        "per_second": outcome.throughput(),
        "latency_us": latencies,
    })
}

/// Names and microseconds, smallest first.
fn latencies(outcome: &Outcome) -> impl Iterator<Item = (&'static str, u64)> {
    let histogram = &outcome.latencies;
    let middle = QUANTILES
        .iter()
        .map(|(name, quantile)| (*name, histogram.value_at_quantile(*quantile)));
    let ends = [("min", histogram.min())];
    ends.into_iter().chain(middle).chain([("max", histogram.max())])
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

const QUANTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
];
