//! The arrows between the crates: who may import whom.
//!
//! Only normal dependencies count; a test may use what it likes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Each crate of the workspace with those of ours that it may import.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("quorate-mutants", &[]),
    ("quorate-raft", &["quorate-mutants"]),
    ("quorate-wal", &["quorate-mutants"]),
    ("quorate-kv", &[]),
    ("quorate-bbolt", &[]),
    ("quorate-etcd-api", &[]),
    ("quorate-tls", &[]),
    (
        "quorate",
        &["quorate-raft", "quorate-wal", "quorate-tls", "quorate-mutants"],
    ),
    (
        "quorate-sim",
        &["quorate", "quorate-raft", "quorate-wal", "quorate-mutants"],
    ),
    (
        "quorate-server",
        &[
            "quorate",
            "quorate-kv",
            "quorate-bbolt",
            "quorate-etcd-api",
            "quorate-tls",
        ],
    ),
    (
        "quorate-cli",
        &[
            "quorate-server",
            "quorate-sim",
            "quorate-etcd-api",
            "quorate-tls",
            "quorate-mutants",
        ],
    ),
    ("quorate-diff", &["quorate-etcd-api"]),
    ("xtask", &[]),
];

/// An import of one crate of ours by another.
#[derive(Debug, PartialEq, Eq)]
struct Arrow {
    from: String,
    to: String,
}

/// Fails with the first arrow of the workspace at `root` that is not allowed.
pub(crate) fn check(root: &Path) -> Result<()> {
    match first_offender(&arrows(&metadata(root)?)?) {
        Some(Arrow { from, to }) => {
            bail!("{from} -> {to} is not an allowed arrow: remove it, or add it here with an ADR")
        }
        None => Ok(()),
    }
}

fn metadata(root: &Path) -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Every arrow between crates of the workspace, which are those with a path.
fn arrows(metadata: &Value) -> Result<Vec<Arrow>> {
    let mut arrows = Vec::new();
    for package in array(metadata, "packages")? {
        for dependency in array(package, "dependencies")? {
            if dependency["kind"].is_null() && dependency["path"].is_string() {
                let (from, to) = (text(package, "name")?, text(dependency, "name")?);
                arrows.push(Arrow { from, to });
            }
        }
    }
    Ok(arrows)
}

fn first_offender(arrows: &[Arrow]) -> Option<&Arrow> {
    arrows.iter().find(|arrow| !is_allowed(arrow))
}

fn is_allowed(arrow: &Arrow) -> bool {
    ALLOWED
        .iter()
        .any(|(from, to)| *from == arrow.from && to.contains(&arrow.to.as_str()))
}

fn array<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name]
        .as_array()
        .with_context(|| format!("cargo metadata has no array `{name}`"))
}

fn text(value: &Value, name: &str) -> Result<String> {
    value[name]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("cargo metadata has no text `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_imports(from: &str, to: &str, kind: Value) -> bool {
        let metadata = json!({"packages": [{"name": from, "dependencies": [
            {"name": to, "kind": kind, "path": "somewhere"},
            {"name": "bytes", "kind": null},
        ]}]});
        first_offender(&arrows(&metadata).unwrap()).is_none()
    }

    #[test]
    fn a_drawn_arrow_passes() {
        assert!(check_imports("quorate", "quorate-wal", Value::Null));
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_an_offender() {
        assert!(!check_imports("quorate-kv", "quorate-raft", Value::Null));
        assert!(!check_imports("newcomer", "quorate-raft", Value::Null));
    }

    #[test]
    fn tests_may_import_what_they_like() {
        assert!(check_imports("quorate-kv", "quorate-raft", json!("dev")));
    }
}
