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
        let row = |cells: Vec<String>| format!("|{}|\n", cells.join("|"));
        let names = self.header.iter().zip(&widths);
        let names = names.map(|(name, width)| {
            let room = width - name.len();
            format!(" {}{name}{} ", spaces(room / 2), spaces(room - room / 2))
        });
        let mut text = format!("{border}{}{border}", row(names.collect()));
        for cells in &self.rows {
            let cells = cells.iter().zip(&widths);
            let cells =
                cells.map(|(cell, width)| format!(" {}{cell} ", spaces(width - cell.chars().count())));
            text += &row(cells.collect());
        }
        text + &border
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([self.header[column].len()]).max().unwrap_or_default()
    }
}

/// A width in a format may be 65,535 at most, and what a server says may be longer.
fn spaces(count: usize) -> String {
    " ".repeat(count)
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

    #[test]
    fn a_cell_may_be_of_any_length() {
        let table = Table {
            header: vec!["A", "B"],
            rows: vec![vec!["x".repeat(70_000), "1".to_string()]],
        };
        let text = table.draw();
        assert!(text.lines().all(|line| line.len() == 70_000 + "|  |   |".len()));
    }
}
