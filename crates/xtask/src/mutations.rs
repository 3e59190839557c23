//! The table of deliberate bugs in `docs/mutations.md`, from what the simulator said of them.
//!
//! The rows come from `quorate sim mutants --output json`; where each switch stands is looked up in the
//! sources. What is around the table is written by hand and stays.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Writes the table anew from the report in the file `report`.
pub(crate) fn write(root: &Path, report: &Path) -> Result<()> {
    let text = fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    let report: Value = serde_json::from_str(&text).context("the report is not JSON")?;
    let switches = switches(&root.join("crates"))?;
    let path = root.join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let written = with_table(&document, &table(&report, &switches)?)?;
    fs::write(&path, written).with_context(|| format!("cannot write {}", path.display()))
}

/// Where the switch of each bug stands, as `crate/file.rs function`.
type Switches = BTreeMap<String, Vec<String>>;

fn with_table(document: &str, table: &str) -> Result<String> {
    let (before, rest) = document
        .split_once(BEGIN)
        .with_context(|| format!("{DOCUMENT} has no line {BEGIN}"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{DOCUMENT} has no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

fn table(report: &Value, switches: &Switches) -> Result<String> {
    let rows = report["mutations"]
        .as_array()
        .context("the report has no mutations")?;
    let mut table = String::from(
        "| mutation | what is wrong | switch | caught by seed | seeds tried | virtual s | what no longer holds |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let name = text(&row["mutation"])?;
        let switch = switches
            .get(name)
            .with_context(|| format!("no source has the switch of {name}"))?;
        let found = &row["found"];
        let (seed, invariant) = match found.is_null() {
            true => ("–".to_owned(), "**not found**"),
            false => (found["seed"].to_string(), text(&found["invariant"])?),
        };
        let seconds = row["virtual_seconds"]
            .as_f64()
            .context("a row without virtual_seconds")?;
        writeln!(
            table,
            "| {name} | {} | {} | {seed} | {} | {seconds:.0} | {invariant} |",
            text(&row["what"])?,
            switch.join(", "),
            row["seeds"],
        )?;
    }
    writeln!(
        table,
        "\n{} of {} are found. The median takes {} seeds, the hardest {}.",
        report["found"], report["total"], report["median_seeds"], report["most_seeds"]
    )?;
    let unsound = report["unsound_seeds"].as_array().map_or(0, Vec::len);
    ensure!(
        unsound == 0,
        "{unsound} seeds fail without any bug: mend that first"
    );
    Ok(table)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// Reads all sources under `crates`.
fn switches(crates: &Path) -> Result<Switches> {
    let mut found = Switches::new();
    for entry in fs::read_dir(crates)? {
        let package = entry?.path();
        if package.ends_with("xtask") {
            continue; // Its tests show switches and have none.
        }
        let src = package.join("src");
        for path in rust_files(&src)? {
            let source = fs::read_to_string(&path)?;
            let shown = path.strip_prefix(crates).unwrap_or(&path).display().to_string();
            for (name, function) in switches_in(&source) {
                let place = format!("`{}` `{function}`", shown.replacen("/src/", "/", 1));
                let places = found.entry(name).or_default();
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
    }
    Ok(found)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !dir.is_dir() {
        return Ok(files);
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The switches of a source, each with the function that it stands in.
fn switches_in(source: &str) -> Vec<(String, String)> {
    let mut function = String::new();
    let mut found = Vec::new();
    let mut call_is_open = false;
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if let Some((_, after)) = line.split_once("fn ") {
            function = word(after);
        }
        if call_is_open {
            found.push((word(line.trim_start()), function.clone()));
        }
        call_is_open = line.trim_end().ends_with("mutant!(");
        let calls = line.split("mutant!(").skip(1).map(word);
        found.extend(calls.map(|name| (name, function.clone())));
    }
    found.retain(|(name, _)| name.starts_with('M') && name[1..].parse::<u32>().is_ok());
    found
}

fn word(text: &str) -> String {
    let is_part = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    text.chars().take_while(is_part).collect()
}

const DOCUMENT: &str = "docs/mutations.md";
const BEGIN: &str = "<!-- table: cargo run -p xtask -- mutations REPORT -->";
const END: &str = "<!-- end of table -->";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_switch_is_found_with_its_function_on_one_line_or_on_two() {
        let source = "//! `mutant!(M1)`\nfn a() {\n x(mutant!(M2));\n}\npub(crate) fn b() {\n mutant!(\n  M3,\n 1, 2)\n}\n";
        let expected =
            [("M2", "a"), ("M3", "b")].map(|(name, function)| (name.to_owned(), function.to_owned()));
        assert_eq!(switches_in(source), expected);
    }

    #[test]
    fn the_table_takes_the_place_of_the_old_one_only() {
        let document = format!("before\n{BEGIN}\nstale row\n{END}\nafter\n");
        let row = json!({"mutation": "M2", "what": "W.", "seeds": 3, "virtual_seconds": 1.6,
            "found": {"seed": 3, "invariant": "I1"}});
        let report = json!({"mutations": [row], "found": 1, "total": 1, "median_seeds": 3, "most_seeds": 3,
            "unsound_seeds": []});
        let switches = Switches::from([("M2".to_owned(), vec!["`x` `a`".to_owned()])]);
        let written = with_table(&document, &table(&report, &switches).unwrap()).unwrap();
        assert!(
            written.starts_with("before\n") && written.ends_with("after\n"),
            "{written}"
        );
        assert!(
            written.contains("| M2 | W. | `x` `a` | 3 | 3 | 2 | I1 |\n"),
            "{written}"
        );
        assert!(!written.contains("stale row"));
    }

    #[test]
    fn a_report_of_seeds_that_fail_without_any_bug_makes_no_table() {
        let report = json!({"mutations": [], "unsound_seeds": [85]});
        assert!(table(&report, &Switches::new()).is_err());
    }
}
