//! What came of looking for the deliberate bugs, for people and for programs.

use super::hunts::Ended;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// A table, and a line that counts.
pub(super) fn to_text(ended: &[Ended]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "mutation",
        "seed",
        "tried",
        "virtual s",
        "s",
        "found by",
        "what is wrong",
    ]);
    for one in ended {
        table.add_row(row(one));
    }
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n\n{}", table.trim_fmt(), summary(ended))
}

fn row(ended: &Ended) -> [String; 7] {
    let hunt = &ended.hunt;
    let caught = hunt.caught.as_deref();
    [
        hunt.mutant.to_string(),
        caught.map_or("-".to_owned(), |failure| failure.seed.to_string()),
        hunt.seeds.to_string(),
        format!("{:.0}", hunt.time.as_secs_f64()),
        format!("{:.1}", ended.took.as_secs_f64()),
        caught.map_or("NOT FOUND".to_owned(), |failure| failure.invariant.to_string()),
        hunt.mutant.what().to_owned(),
    ]
}

fn summary(ended: &[Ended]) -> String {
    let caught = ended.iter().filter(|ended| ended.hunt.caught.is_some()).count();
    let mut text = format!("{caught} of {} mutations found", ended.len());
    if let (Some(median), Some(most)) = (median(ended), tried(ended).last()) {
        text += &format!("; seeds needed: {median} in the median, {most} at most");
    }
    let unsound: Vec<String> = unsound(ended).iter().map(u64::to_string).collect();
    if !unsound.is_empty() {
        text += &format!("; seeds that fail without any: {}", unsound.join(", "));
    }
    text + "\n"
}

/// One object; times are in seconds.
pub(super) fn to_json(ended: &[Ended]) -> Value {
    let mutations: Vec<Value> = ended.iter().map(mutation).collect();
    let caught = ended.iter().filter(|ended| ended.hunt.caught.is_some()).count();
    json!({
        "mutations": mutations,
        "found": caught,
        "total": ended.len(),
        "median_seeds": median(ended),
        "most_seeds": tried(ended).last(),
        "unsound_seeds": unsound(ended),
    })
}

fn mutation(ended: &Ended) -> Value {
    let hunt = &ended.hunt;
    let found = hunt.caught.as_deref().map(|failure| {
        json!({
            "seed": failure.seed,
            "invariant": failure.invariant.to_string(),
            "detail": failure.detail,
        })
    });
    json!({
        "mutation": hunt.mutant.to_string(),
        "what": hunt.mutant.what(),
        "seeds": hunt.seeds,
        "virtual_seconds": hunt.time.as_secs_f64(),
        "seconds": ended.took.as_secs_f64(),
        "found": found,
    })
}

/// How many seeds it took for each that was found, ascending.
fn tried(ended: &[Ended]) -> Vec<u64> {
    let found = ended.iter().filter(|ended| ended.hunt.caught.is_some());
    let mut tried: Vec<u64> = found.map(|ended| ended.hunt.seeds).collect();
    tried.sort_unstable();
    tried
}

fn median(ended: &[Ended]) -> Option<u64> {
    let tried = tried(ended);
    tried.get(tried.len() / 2).copied()
}

fn unsound(ended: &[Ended]) -> Vec<u64> {
    let mut seeds: Vec<u64> = ended
        .iter()
        .flat_map(|ended| &ended.hunt.unsound)
        .map(|failure| failure.seed)
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}
