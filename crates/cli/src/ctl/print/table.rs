//! Tables with borders, for `--write-out=table`.

/// A table: what its columns are called, and its rows.
pub(crate) struct Table {
    /// One name a column.
    pub(crate) header: Vec<&'static str>,
    /// One cell a column in each.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as text: names in the middle of their columns, cells at the right.
    pub(crate) fn draw(&self) -> String {
        let widths: Vec<usize> = (0..self.header.len()).map(|column| self.width(column)).collect();
        let border: String = widths
            .iter()
            .map(|width| format!("+{}", "-".repeat(width + 2)))
            .collect();
        let border = format!("{border}+\n");
        let names: String = self
            .header
            .iter()
            .zip(&widths)
            .map(|(name, width)| format!("| {name:^width$} "))
            .collect();
        let mut text = format!("{border}{names}|\n{border}");
        for row in &self.rows {
            let cells: String = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("| {cell:>width$} "))
                .collect();
            text += &format!("{cells}|\n");
        }
        text + &border
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([self.header[column].len()]).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_middle_and_cells_at_the_right() {
        let table = Table {
            header: vec!["NAME", "ID"],
            rows: vec![
                vec!["default".to_string(), "1".to_string()],
                vec!["a".to_string(), "22".to_string()],
            ],
        };
        let expected = "\
+---------+----+
|  NAME   | ID |
+---------+----+
| default |  1 |
|       a | 22 |
+---------+----+
";
        assert_eq!(table.draw(), expected);
        let empty = Table {
            header: vec!["A"],
            rows: Vec::new(),
        };
        assert_eq!(empty.draw(), "+---+\n| A |\n+---+\n+---+\n");
    }
}
