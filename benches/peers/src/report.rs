//! What is printed: the fastest round of each library, and how Quorate compares.

use std::fmt::Write;

use serde::Serialize;

#[derive(Serialize)]
pub struct Report {
    pub libraries: Vec<&'static str>,
    pub rounds: usize,
    pub round_ms: u64,
    pub rows: Vec<Row>,
}

/// What was measured at one number of outstanding commands, library by library.
#[derive(Serialize)]
pub struct Row {
    pub outstanding: u64,
    /// Commits a second in the fastest round.
    pub best: Vec<f64>,
    /// Commits a second in the middle round.
    pub median: Vec<f64>,
    /// The first library's best over each one's best.
    pub ratio: Vec<f64>,
}

impl Row {
    pub fn new(outstanding: u64, mut rounds: Vec<Vec<f64>>) -> Self {
        rounds
            .iter_mut()
            .for_each(|rounds| rounds.sort_by(f64::total_cmp));
        let best: Vec<f64> = rounds
            .iter()
            .map(|sorted| sorted.last().copied().unwrap_or_default())
            .collect();
        Self {
            outstanding,
            median: rounds
                .iter()
                .map(|sorted| sorted.get(sorted.len() / 2).copied().unwrap_or_default())
                .collect(),
            ratio: best.iter().map(|other| best[0] / other).collect(),
            best,
        }
    }
}

impl Report {
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and names")
    }

    pub fn table(&self) -> String {
        let mut table = format!("{:>11}", "outstanding");
        for library in &self.libraries {
            let _ = write!(table, " {library:>26}");
        }
        table.push('\n');
        for row in &self.rows {
            let _ = write!(table, "{:>11}", row.outstanding);
            for (best, ratio) in row.best.iter().zip(&row.ratio) {
                let _ = write!(table, " {:>14}/s {:>8}", thousands(*best), format!("{ratio:.2}x"));
            }
            table.push('\n');
        }
        let _ = writeln!(
            table,
            "\nCommits a second, the fastest of {} rounds of {} ms. \"2.00x\": {} makes twice as many.",
            self.rounds, self.round_ms, self.libraries[0]
        );
        table
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
