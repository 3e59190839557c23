//! Backups as they are shown.

use super::StatusOutput;
use crate::ctl::Table;
use quorate_server::BackupStatus;
use serde_json::json;

/// A backup, summed up.
pub(super) fn status(status: &BackupStatus, output: StatusOutput) -> String {
    let cells = [
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_key.to_string(),
        size(status.total_size),
    ];
    match output {
        StatusOutput::Simple => format!("{}\n", cells.join(", ")),
        StatusOutput::Json => format!("{}\n", json!(status)),
        StatusOutput::Fields => format!(
            "\"Hash\" : {}\n\"Revision\" : {}\n\"Keys\" : {}\n\"Size\" : {}\n",
            status.hash, status.revision, status.total_key, status.total_size
        ),
        StatusOutput::Table => {
            let table = Table {
                header: vec!["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"],
                rows: vec![cells.into()],
            };
            table.draw()
        }
    }
}

/// A number of bytes for people, as etcd's tools round it.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut unit, mut power) = (0, 1u64);
    while unit + 1 < units.len() && bytes / power >= 1000 {
        unit += 1;
        power *= 1000;
    }
    // In tenths, so that halves are rounded up.
    let tenths = (u128::from(bytes) * 20 + u128::from(power)) / (2 * u128::from(power));
    match tenths < 100 {
        true => format!("{}.{} {}", tenths / 10, tenths % 10, units[unit]),
        false => format!("{} {}", round_half_even(tenths), units[unit]),
    }
}

/// Tenths as a whole number; those that are just between two become the even one.
fn round_half_even(tenths: u128) -> u128 {
    let (whole, rest) = (tenths / 10, tenths % 10);
    let is_up = rest > 5 || (rest == 5 && whole % 2 == 1);
    whole + u128::from(is_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_etcd_rounds_them() {
        let expected = [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20480, "20 kB"),
            (24576, "25 kB"),
            (1_050_000, "1.1 MB"),
            (82_854_982, "83 MB"),
        ];
        for (bytes, text) in expected {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn a_status_is_shown_to_people_and_programs() {
        let status = BackupStatus {
            hash: 0x00ab_cdef,
            revision: 7,
            total_key: 12,
            total_size: 20480,
        };
        let shown = |output| super::status(&status, output);
        assert_eq!(shown(StatusOutput::Simple), "abcdef, 7, 12, 20 kB\n");
        let json = r#"{"hash":11259375,"revision":7,"totalKey":12,"totalSize":20480}"#;
        assert_eq!(shown(StatusOutput::Json), format!("{json}\n"));
        let fields = "\"Hash\" : 11259375\n\"Revision\" : 7\n\"Keys\" : 12\n\"Size\" : 20480\n";
        assert_eq!(shown(StatusOutput::Fields), fields);
        let table = "\
+--------+----------+------------+------------+
|  HASH  | REVISION | TOTAL KEYS | TOTAL SIZE |
+--------+----------+------------+------------+
| abcdef |        7 |         12 |      20 kB |
+--------+----------+------------+------------+
";
        assert_eq!(shown(StatusOutput::Table), table);
    }
}
