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

/// At most `width` characters, the middle left out.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let head = (width - 1) * 2 / 3;
    let tail = width - 1 - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{start}…{end}")
}

/// The width of a terminal that every table fits.
const TERMINAL: usize = 80;
/// No column is made narrower than this.
const NARROWEST: usize = 8;
const GAP: usize = 2;

/// A table: a heading, and rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    align: [Align; COLUMNS],
    /// Which columns are never shortened.
    whole: [bool; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table with a heading and no rows.
    pub(crate) fn new(heading: [(&str, Align); COLUMNS]) -> Self {
        Self {
            align: heading.map(|(_, align)| align),
            whole: [false; COLUMNS],
            rows: vec![heading.map(|(name, _)| name.to_owned())],
        }
    }

    /// The same, with columns whose text is of no use when some of it is left out.
    pub(crate) fn whole(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            self.whole[column] = true;
        }
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Writes the table to standard output.
    pub(crate) fn print(&self) -> io::Result<()> {
        io::stdout().lock().write_all(self.text(self.widths()).as_bytes())
    }

    /// Writes the table to standard output, in 80 columns: the middle of what is too long is left out.
    pub(crate) fn print_fitted(&self) -> io::Result<()> {
        io::stdout().lock().write_all(self.text(self.fitted()).as_bytes())
    }

    fn widths(&self) -> [usize; COLUMNS] {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        widths
    }

    fn fitted(&self) -> [usize; COLUMNS] {
        let mut widths = self.widths();
        while widths.iter().sum::<usize>() + GAP * (COLUMNS - 1) > TERMINAL {
            let elastic =
                widths.iter_mut().zip(self.whole).filter(|(_, whole)| !whole).map(|(width, _)| width);
            match elastic.max().filter(|widest| **widest > NARROWEST) {
                Some(widest) => *widest -= 1,
                None => break,
            }
        }
        widths
    }

    fn text(&self, widths: [usize; COLUMNS]) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(self.align) {
                if !line.is_empty() {
                    line.push_str(&" ".repeat(GAP));
                }
                let cell = shorten(cell, width);
                let blanks = " ".repeat(width - cell.chars().count());
                let (before, after) = match align {
                    Align::Left => ("", blanks.as_str()),
                    Align::Right => (blanks.as_str(), ""),
                };
                line.extend([before, &cell, after]);
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
        assert_eq!(table.text(table.widths()), "NAME       SIZE\na          1 kB\nlonger  12.5 MB\n");
    }

    #[test]
    fn what_is_too_long_for_a_terminal_loses_its_middle() {
        let mut table = Table::new([("NAME", Align::Left), ("URI", Align::Left), ("N", Align::Right)]);
        table.row(["hub".into(), "u".repeat(100), "1".into()]);
        table.row(["n".repeat(64), "docker.io/me".into(), "22".into()]);
        let text = table.text(table.fitted());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("docker.io/me"), "{text}");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shorten("abcdefghij", 7), "abcd…ij");
        assert_eq!(shorten("abc", 7), "abc");
    }
}
