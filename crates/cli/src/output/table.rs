//! Rows in columns.

use std::io::{self, Write};

/// Which side of its column a cell stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Left: words.
    Left,
    /// Right: numbers.
    Right,
}

/// A table: a heading, and rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    align: [Align; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table with a heading and no rows.
    pub(crate) fn new(heading: [(&str, Align); COLUMNS]) -> Self {
        Self { align: heading.map(|(_, align)| align), rows: vec![heading.map(|(name, _)| name.to_owned())] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Writes the table to standard output.
    pub(crate) fn print(&self) -> io::Result<()> {
        io::stdout().lock().write_all(self.text().as_bytes())
    }

    fn text(&self) -> String {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(self.align) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let blanks = " ".repeat(width - cell.chars().count());
                let (before, after) = match align {
                    Align::Left => ("", blanks.as_str()),
                    Align::Right => (blanks.as_str(), ""),
                };
                line.extend([before, cell, after]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(["a".into(), "1 kB".into()]);
        table.row(["longer".into(), "12.5 MB".into()]);
        assert_eq!(table.text(), "NAME       SIZE\na          1 kB\nlonger  12.5 MB\n");
    }
}
