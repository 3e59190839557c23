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
    parse_duration(text).ok_or_else(|| "it must be a duration, as in 300ms, 10s or 1h30m".to_owned())
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        total = total.checked_add(whole_part(whole, fraction, *nanos)?)?;
        total = total.checked_add(fractional_part(fraction, *nanos)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn whole_part(whole: &str, fraction: &str, nanos: u64) -> Option<Duration> {
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    Some(Duration::from_nanos(whole.checked_mul(nanos)?))
}

fn fractional_part(fraction: &str, nanos: u64) -> Option<Duration> {
    if fraction.is_empty() {
        return Some(Duration::ZERO);
    }
    let fraction = fraction.get(..fraction.len().min(9))?;
    let digits: u64 = fraction.parse().ok()?;
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let nanos = u128::from(digits) * u128::from(nanos) / u128::from(scale);
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
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
        Some(hours) => hours.checked_mul(3600).map(Duration::from_secs),
        None => parse_duration(retention),
    };
    let kept = kept.ok_or_else(|| {
        anyhow!(
            "--auto-compaction-retention {retention:?} must be a number of hours, or a duration, as in 30m"
        )
    })?;
    Ok((!kept.is_zero()).then_some(AutoCompaction::Periodic(kept)))
}

/// The units of durations in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("300ms", 300),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            (".25s", 250),
            ("0", 0),
            ("2m0s", 120_000),
            ("5000000ns", 5),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1d", "-1s", "1.s5", ".s", "99999999999999h", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

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
