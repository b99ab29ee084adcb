//! A TOML table that is taken apart key by key: what is wrong is noted with its line and key, what nobody asked
//! for is unknown.

use std::cell::RefCell;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a configuration, in a sentence that begins with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Counted from 1; `None` for what was not in the file.
    pub(crate) line: Option<usize>,
    pub(crate) text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// What was found to be wrong in one text.
pub(super) struct Problems<'t> {
    source: &'t str,
    found: RefCell<Vec<Problem>>,
}

impl<'t> Problems<'t> {
    pub(super) const fn new(source: &'t str) -> Self {
        Self { source, found: RefCell::new(Vec::new()) }
    }

    /// Notes a problem at a byte offset of the text.
    pub(super) fn note(&self, at: usize, text: String) {
        let line = self.source.as_bytes()[..at.min(self.source.len())].iter().filter(|&&b| b == b'\n').count() + 1;
        self.found.borrow_mut().push(Problem { line: Some(line), text });
    }

    /// In the order of their lines.
    pub(super) fn into_found(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|problem| problem.line);
        found
    }
}

/// One table of the text.
pub(super) struct Section<'a> {
    /// With a dot at its end, or empty for the whole text.
    path: String,
    at: usize,
    table: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
    problems: &'a Problems<'a>,
}

impl<'a> Section<'a> {
    pub(super) const fn root(table: &'a DeTable<'a>, problems: &'a Problems<'a>) -> Self {
        Self { path: String::new(), at: 0, table: Some(table), asked: Vec::new(), problems }
    }

    /// The value of a key if it is there and `read` accepts it. What `read` says against it follows the key:
    /// "must be …".
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(read),
            Err(text) => {
                self.problems.note(value.span().start, format!("{}{key} {text}", self.path));
                None
            }
        }
    }

    /// A table within this one; as if it were empty if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let path = format!("{}{key}.", self.path);
        let at = self.value(key).map_or(self.at, |value| value.span().start);
        let table = self.take(key, |value| value.as_table().ok_or_else(|| format!("must be a table: [{key}]")));
        Self { path, at, table, asked: Vec::new(), problems: self.problems }
    }

    /// An array of tables.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let not_tables = || format!("must be given as one [[{}{key}]] for each", self.path);
        let Some(value) = self.table.and_then(|table| table.get(key)) else {
            self.asked.push(key);
            return Vec::new();
        };
        let tables: Option<Vec<_>> = value.get_ref().as_array().and_then(|array| {
            array.iter().map(|item| Some((item.span().start, item.get_ref().as_table()?))).collect()
        });
        let Some(tables) = tables else {
            let text = format!("{}{key} {}", self.path, not_tables());
            self.problems.note(value.span().start, text);
            self.asked.push(key);
            return Vec::new();
        };
        self.asked.push(key);
        let section = |(index, (at, table)): (usize, (usize, &'a DeTable<'a>))| Self {
            path: format!("{}{key}[{}].", self.path, index + 1),
            at,
            table: Some(table),
            asked: Vec::new(),
            problems: self.problems,
        };
        tables.into_iter().enumerate().map(section).collect()
    }

    /// Notes a problem of a key, at its place if it is there.
    pub(super) fn wrong(&self, key: &str, text: &str) {
        let at = self.table.and_then(|table| table.get(key)).map_or(self.at, |value| value.span().start);
        self.problems.note(at, format!("{}{key} {text}", self.path));
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Notes every key that was never asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                let known = self.asked.join(", ");
                let text = format!("{}{} is unknown here; known are: {known}", self.path, key.get_ref());
                self.problems.note(key.span().start, text);
            }
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table?.get(key)
    }
}
