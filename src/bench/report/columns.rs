//! Text in columns for a terminal: widths counted before colour, long labels on a line of their own.

use std::fmt::Write as _;

/// What a line may have.
pub(super) const WIDTH: usize = 110;

/// What a text is drawn in where colour is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Warn,
}

/// Whether it is drawn.
#[derive(Clone, Copy)]
pub(super) struct Palette {
    pub(super) on: bool,
}

impl Palette {
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Good => "32",
            Paint::Bad => "1;31",
            Paint::Warn => "33",
        };
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) paint: Paint,
}

impl Cell {
    pub(super) fn new(text: impl AsRef<str>, paint: Paint) -> Self {
        Self { text: clean(text.as_ref()), paint }
    }

    pub(super) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Paint::Plain)
    }
}

/// Rows of a label and as many cells as there are columns; the label and the last cell stand left, the others right.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Columns {
    pub(super) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Draws all rows, `indent` from the left.
    pub(super) fn draw(&self, out: &mut String, indent: usize, palette: Palette) {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(&cell.text)).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..count).map(width).collect();
        let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
        if let Some(label) = widths.first_mut() {
            *label = (*label).min(WIDTH.saturating_sub(indent + others)).max(16);
        }
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            for (at, (cell, column)) in row.iter().zip(&widths).enumerate() {
                let space = " ".repeat(column.saturating_sub(self::width(&cell.text)));
                let text = palette.paint(cell.paint, &cell.text);
                match at {
                    0 if self::width(&cell.text) > *column => {
                        line = format!("{line}{text}\n{}", " ".repeat(indent + column));
                    }
                    0 => line = line + &text + &space,
                    at if at + 1 == count => line = line + "  " + &text,
                    _ => line = line + "  " + &space + &text,
                }
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
}

/// A paragraph in lines of at most [`WIDTH`], the first after `first`, the others below its end.
pub(super) fn paragraph(out: &mut String, first: &str, text: &str, palette: Palette, paint: Paint) {
    let indent = width(first);
    let mut line = String::new();
    let mut lead = first.to_owned();
    for word in clean(text).split_whitespace() {
        if !line.is_empty() && indent + width(&line) + 1 + width(word) > WIDTH {
            let _ = writeln!(out, "{lead}{}", palette.paint(paint, &line));
            (line, lead) = (String::new(), " ".repeat(indent));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{}", format!("{lead}{}", palette.paint(paint, &line)).trim_end());
}

/// Names come out of files: a control character in them could move the terminal's cursor.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}
