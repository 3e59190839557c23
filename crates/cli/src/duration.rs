//! Durations as Go's programs read and write them: `1m30s`, `2.419683ms`.

use std::time::Duration;

/// Reads a duration such as `5s`, `1m30s`, `1.5h` or `0`: at most as many nanoseconds as Go's can have, 292 years.
///
/// # Errors
///
/// What Go says of it, if it is none.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("time: invalid duration {text:?}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(bad());
    }
    let mut rest = text;
    let mut total = 0u128;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let (number, after) = rest.split_at(digits);
        let unit_ends = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        let found = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, nanos) = found.ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        total += nanoseconds(number, *nanos).ok_or_else(bad)?;
        // What is beyond is not added to: a long text would be too much for any number.
        if total > MOST_NANOS {
            return Err(bad());
        }
        rest = after;
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| bad())
}

/// A number with a fraction, of a unit that is so many nanoseconds.
fn nanoseconds(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // An hour has fewer nanoseconds than numbers of so many digits can tell apart.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits: u64 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let unit = u128::from(unit);
    Some(u128::from(whole) * unit + u128::from(digits) * unit / scale)
}

/// Go's durations are numbers of 64 bits with a sign.
const MOST_NANOS: u128 = i64::MAX as u128;

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

/// Writes a duration with its largest fitting unit and as many digits as it needs.
pub(crate) fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_string(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = fraction(rest, 1_000_000_000);
            match minutes {
                0 => format!("{seconds}s"),
                1..60 => format!("{minutes}m{seconds}s"),
                _ => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
            }
        }
    }
}

/// `value / unit`, without zeros at the end.
fn fraction(value: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(parse("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse(".25s"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("0.00000000001h"), Ok(Duration::from_nanos(36)));
        for bad in [
            "", "x", "5", "5x", "-1s", "1.2.3s", "s", ".s", "1.s5", "1d", "1 s",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// A time that far away is none that a clock can be asked to wait for.
    #[test]
    fn durations_are_not_longer_than_gos() {
        let longest = "2562047h47m16.854775807s";
        assert_eq!(parse(longest), Ok(Duration::from_nanos(i64::MAX as u64)));
        assert_eq!(
            parse("147247471.407697053s"),
            Ok(Duration::from_nanos(147_247_471_407_697_053))
        );
        for bad in [
            "2562047h47m16.854775808s",
            "18446744073709551615ns",
            "99999999999999h",
            "99999999999999999999s",
        ] {
            assert_eq!(parse(bad), Err(format!("time: invalid duration {bad:?}")));
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let shown = [
            (Duration::from_nanos(2_419_683), "2.419683ms"),
            (Duration::from_micros(850), "850µs"),
            (Duration::from_nanos(999), "999ns"),
            (Duration::from_millis(5000), "5s"),
            (Duration::from_millis(61_500), "1m1.5s"),
            (Duration::from_secs(3600), "1h0m0s"),
            (Duration::ZERO, "0s"),
        ];
        for (duration, text) in shown {
            assert_eq!(show(duration), text);
        }
    }
}
