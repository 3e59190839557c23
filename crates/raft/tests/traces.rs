//! Runs the golden traces of `tests/traces`, each a scenario that shows one claim.
//!
//! A file's first line is its claim. Blocks of commands are followed by what the nodes did. To write
//! the outputs anew: `UPDATE_GOLDENFILES=1 cargo test -p quorate-raft --test traces`; then read them.
//! `TRACE=text` runs only the files whose name contains the text.
//!
//! Commands: `cluster nodes= learners= witnesses= election= heartbeat= seed= [drift=ppm, for leases] [auto] [limit=…]`, `store n1 TERM… [term= vote=
//! base=]`, `tick [n1…] [count]`, `campaign n1`, `elect n1`, `deliver|drop|duplicate|reverse|hold [n1->n2…] [only=]
//! [count=]`, `release`, `inject n1->n2 term= MESSAGE…`, `propose n1 TEXT… [size=]`, `read n1 [count] [lease]`, `wait MILLISECONDS` (on all clocks; a promise lasts 1,000), `doubt n1` (of its clock), `transfer n1
//! [n2]`, `gone n1 [n2…]` (n2… are told that n1 is gone), `ended n1 n2 snapshot= term=` (a transfer failed), `join n4 [witness]`, `reconfigure n1 VOTERS… [learners=n5] [witnesses=n6] [wanted=n2] [if=VOTERS]`, `persist n1 [count]`, `apply n1 [up to]`, `restore n1`, `readlog n1 [gone|early|apply]`, `snapshot n1 [index]`, `ship n1
//! [fail]`, `crash n1 [writes=]`, `restart n1`, `partition n1…` (from all others), `cut n1->n2…`, `heal`,
//! `stabilize [n1…]`,
//! `status|log|progress|members|lease [n1…]`, `pending`.

mod cluster;
mod script;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use script::Script;

#[test]
fn every_trace_shows_its_claim() {
    let wanted = std::env::var("TRACE").unwrap_or_default();
    let failures: Vec<String> = files()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(&wanted))
        .filter_map(|path| check(&path).err().map(|why| format!("{}: {why}", path.display())))
        .collect();
    assert!(
        failures.is_empty(),
        "{} traces differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let entries = fs::read_dir(dir).expect("the traces are there");
    let mut files: Vec<PathBuf> = entries.flatten().map(|file| file.path()).collect();
    files.sort();
    files
}

fn check(path: &Path) -> Result<(), String> {
    let input = fs::read_to_string(path).map_err(|error| error.to_string())?;
    if !input.starts_with("# ") {
        return Err("the first line is no claim".to_string());
    }
    let mut script = Script::default();
    let run = AssertUnwindSafe(|| goldenscript::generate(&mut script, &readable(&input)));
    let output = match catch_unwind(run) {
        Ok(Ok(output)) => output.replace("-/", "->"),
        Ok(Err(error)) => return Err(format!("{error}, after\n{}", script.into_said().join("\n"))),
        Err(_) => return Err(format!("it panicked after\n{}", script.into_said().join("\n"))),
    };
    if output.lines().count() > 100 {
        return Err(format!(
            "it has {} lines: 100 are enough for a claim",
            output.lines().count()
        ));
    }
    if std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1") {
        return fs::write(path, output).map_err(|error| error.to_string());
    }
    first_difference(&input, &output).map_or(Ok(()), Err)
}

/// Links are written `n1->n2`, which the parser does not take unquoted.
fn readable(input: &str) -> String {
    input.replace("->", "-/")
}

fn first_difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let differs = |(_, (a, b)): &(usize, (&str, &str))| a != b;
    let lines = expected
        .lines()
        .chain(["(end)"])
        .zip(found.lines().chain(["(end)"]));
    let (number, (a, b)) = lines
        .enumerate()
        .find(differs)
        .unwrap_or((0, ("other line ends", "")));
    Some(format!("line {}:\n  expected {a}\n  found    {b}", number + 1))
}

/// What the documents call a trace is one, and what they call a file is there.
#[test]
fn the_documents_name_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut missing = Vec::new();
    for (document, column) in [("docs/scenarios.md", 2), ("docs/thesis-map.md", 4)] {
        let text = fs::read_to_string(root.join(document)).expect("the document is there");
        let rows = text
            .lines()
            .filter(|line| line.starts_with("| ") && !line.contains("|---"));
        for row in rows {
            let cells: Vec<&str> = row.split('|').collect();
            // Tables of our own rules have no column for the thesis.
            let cell = cells
                .get(column)
                .filter(|_| cells.len() > column + 1)
                .or(cells.get(3));
            let named = cell.unwrap_or(&"").split('`').skip(1).step_by(2);
            let exists = |name: &&str| {
                let trace = root.join(format!("crates/raft/tests/traces/{name}.txt"));
                name.contains('…') || name.contains(' ') || trace.is_file() || found(&root, name)
            };
            missing.extend(
                named
                    .filter(|name| !exists(name))
                    .map(|name| format!("{document}: {name}")),
            );
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Whether `name` is a path, or the name of a function of ours that checks something.
fn found(root: &Path, name: &str) -> bool {
    let looks_like_path = name.contains('/') || name.contains('.');
    let path = name.split(':').next().unwrap_or(name);
    let dirs = [
        "",
        "crates/raft/src",
        "crates/raft/tests/cluster",
        "crates/raft/tests",
        "crates/replica",
    ];
    if looks_like_path && dirs.iter().any(|dir| root.join(dir).join(path).exists()) {
        return true;
    }
    let Some((kind, function)) = name.rsplit_once("::") else {
        return false;
    };
    let sources = [
        "crates/raft/tests/cluster/history.rs",
        "crates/raft/src/invariants.rs",
    ];
    !kind.is_empty()
        && sources.iter().any(|source| {
            let text = fs::read_to_string(root.join(source)).unwrap_or_default();
            text.contains(&format!("fn {function}("))
        })
}
