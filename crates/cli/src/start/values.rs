//! How values of flags are read that have a form of their own.

use anyhow::{Context, anyhow};
use quorate_server::{AutoCompaction, BcryptCost};
use std::time::Duration;

pub(super) fn bcrypt_cost(text: &str) -> Result<BcryptCost, String> {
    let cost = text.parse().ok().and_then(BcryptCost::new);
    cost.ok_or_else(|| "it must be a number from 4 to 31".to_owned())
}

/// Reads a duration as Go writes it: `1h30m`, `1.5s`, `300ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    crate::duration::parse(text).map_err(|_| "it must be a duration, as in 300ms, 10s or 1h30m".to_owned())
}

/// What `--auto-compaction-mode` and `--auto-compaction-retention` mean together.
///
/// # Errors
///
/// If the retention is neither a number nor, of the mode `periodic`, a duration.
pub(super) fn auto_compaction(mode: &str, retention: &str) -> anyhow::Result<Option<AutoCompaction>> {
    let number = retention.parse::<u64>().ok();
    if number == Some(0) {
        return Ok(None);
    }
    if mode == "revision" {
        let kept = number.with_context(|| {
            format!("--auto-compaction-retention {retention:?} must be a number of revisions, as --auto-compaction-mode is revision")
        })?;
        return Ok(Some(AutoCompaction::Revisions(kept)));
    }
    let kept = match number {
        Some(hours) => crate::duration::parse(&format!("{hours}h")),
        None => crate::duration::parse(retention),
    };
    let kept = kept.map_err(|_| {
        anyhow!(
            "--auto-compaction-retention {retention:?} must be a number of hours, or a duration, as in 30m"
        )
    })?;
    Ok((!kept.is_zero()).then_some(AutoCompaction::Periodic(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_depends_on_the_mode() {
        let kept = |mode, retention| auto_compaction(mode, retention).unwrap();
        let periodic = |seconds| Some(AutoCompaction::Periodic(Duration::from_secs(seconds)));
        assert_eq!(kept("periodic", "0"), None);
        assert_eq!(kept("periodic", "1"), periodic(3600));
        assert_eq!(kept("periodic", "30m"), periodic(1800));
        assert_eq!(kept("revision", "1000"), Some(AutoCompaction::Revisions(1000)));
        for (mode, retention) in [("revision", "1h"), ("periodic", "soon"), ("periodic", "-1")] {
            let error = auto_compaction(mode, retention).unwrap_err().to_string();
            assert!(error.contains("--auto-compaction-retention"), "{error}");
        }
    }
}
