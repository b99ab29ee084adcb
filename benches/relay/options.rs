//! `--name value` pairs.

use std::io;
use std::str::FromStr;

/// What the command line said.
#[derive(Clone, Debug)]
pub(crate) struct Options(Vec<(String, String)>);

impl Options {
    /// Pairs up the arguments; all names must be among `known`, unless that is empty.
    pub(crate) fn parse(arguments: &[String], known: &[&str]) -> io::Result<Self> {
        let mut pairs = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                return Err(io::Error::other(format!("{argument}: an option begins with --")));
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, arguments.next().cloned()),
            };
            if !known.is_empty() && !known.contains(&name) {
                return Err(io::Error::other(format!("--{name} is unknown; there are {known:?}")));
            }
            let value = value.ok_or_else(|| io::Error::other(format!("--{name} needs a value")))?;
            pairs.push((name.to_owned(), value));
        }
        Ok(Self(pairs))
    }

    /// All values of an option that may be repeated.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The last value of an option that must be there.
    pub(crate) fn get<T: FromStr>(&self, name: &str) -> io::Result<T> {
        let value = self.all(name).last().ok_or_else(|| io::Error::other(format!("--{name} is missing")))?;
        value.parse().map_err(|_| io::Error::other(format!("--{name} {value}: not understood")))
    }

    /// The last value, or `otherwise`.
    pub(crate) fn get_or<T: FromStr>(&self, name: &str, otherwise: T) -> io::Result<T> {
        if self.all(name).next().is_some() { self.get(name) } else { Ok(otherwise) }
    }

    /// A list separated by commas.
    pub(crate) fn list<T: FromStr>(&self, name: &str) -> io::Result<Vec<T>> {
        let value: String = self.get(name)?;
        let items = value.split(',').filter(|item| !item.is_empty());
        let read = |item: &str| item.parse().map_err(|_| io::Error::other(format!("--{name}: {item}?")));
        items.map(read).collect()
    }

    /// The list, or what `otherwise` says.
    pub(crate) fn list_or<T: FromStr>(&self, name: &str, otherwise: &str) -> io::Result<Vec<T>> {
        if self.all(name).next().is_some() {
            return self.list(name);
        }
        Self(vec![(name.to_owned(), otherwise.to_owned())]).list(name)
    }
}
