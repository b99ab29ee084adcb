//! Where records go, and what it may answer.

use std::error::Error;
use std::fmt::{self, Write};

use bytes::Bytes;

use super::super::trail::{Hash, Head, hex};

/// Takes the records of a trail, in order, on a thread of its own: it may block, for as long as its own time limits say.
pub trait Destination: Send + fmt::Debug {
    /// Where it stands with this trail, or `None` if it cannot tell. Asked once, before the first batch, and again until
    /// it is answered; `known` is the last record that it is known to have.
    ///
    /// # Errors
    /// As [`Destination::deliver`].
    fn last(&mut self, log: &str, known: u64) -> Result<Option<Standing>, DeliveryError> {
        let _ = (log, known);
        Ok(None)
    }

    /// Takes all of a batch, durably, or none of it.
    ///
    /// # Errors
    /// [`DeliveryError::Later`]: the same batch is offered again. [`DeliveryError::Refused`]: smaller ones are, until
    /// the record is found that it does not want.
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError>;
}

/// What a destination says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last record that it has; 0: none.
    pub seq: u64,
    /// The hash of that record, where it keeps them: it must be that of the trail.
    pub hash: Option<Hash>,
}

/// Records that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The trail that they are of.
    pub log: &'a str,
    /// At least one.
    pub records: &'a [TrailRecord],
    /// It was offered before, and may have come through.
    pub again: bool,
}

impl Batch<'_> {
    /// The first number and the last.
    #[must_use]
    pub fn range(&self) -> (u64, u64) {
        let seq = |record: Option<&TrailRecord>| record.map_or(0, |record| record.seq);
        (seq(self.records.first()), seq(self.records.last()))
    }

    /// Names it: `LOG/FIRST-LAST`. Another batch never has that name, and when it is offered again, also after a
    /// restart, it has the same.
    #[must_use]
    pub fn id(&self) -> String {
        let (first, last) = self.range();
        format!("{}/{first}-{last}", self.log)
    }

    /// All lines, each with its line feed.
    #[must_use]
    pub fn to_lines(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.records.iter().map(|record| record.line.len() + 1).sum());
        for record in self.records {
            out.extend_from_slice(&record.line);
            out.push(b'\n');
        }
        out
    }
}

/// One record, as it stands in the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailRecord {
    /// Its number.
    pub seq: u64,
    /// Its hash, and that of the one before.
    pub hash: Hash,
    /// The hash of the one before.
    pub before: Hash,
    /// The line: JSON, without its line feed.
    pub line: Bytes,
}

impl TrailRecord {
    /// What stands at its beginning; it was read once already.
    #[must_use]
    pub fn head(&self) -> Option<Head<'_>> {
        Head::read(&self.line)
    }

    /// The line as text: what the trail writes always is.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.line).unwrap_or_default()
    }

    /// Its time, RFC 3339 in UTC.
    #[must_use]
    pub fn wall(&self) -> &str {
        let text = self.text();
        let time = text.split_once("\"wall\":\"").and_then(|(_, rest)| rest.split_once('"'));
        time.map_or("", |(time, _)| time)
    }

    /// Its hash, in hexadecimal.
    #[must_use]
    pub fn hash_hex(&self) -> String {
        hex(&self.hash)
    }
}

/// Why a batch was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeliveryError {
    /// It may be taken later: nobody answers, it is full, it does not let us in.
    Later(Box<dyn Error + Send + Sync>),
    /// It will never be taken.
    Refused(Box<dyn Error + Send + Sync>),
    /// It must not be gone on: what is there contradicts the trail.
    Contradiction(Box<dyn Error + Send + Sync>),
}

impl DeliveryError {
    /// Not now.
    pub fn later(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Later(why.into())
    }

    /// Never.
    pub fn refused(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused(why.into())
    }

    /// What is there is something else.
    pub fn contradiction(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Contradiction(why.into())
    }

    fn why(&self) -> &(dyn Error + Send + Sync + 'static) {
        match self {
            Self::Later(why) | Self::Refused(why) | Self::Contradiction(why) => why.as_ref(),
        }
    }
}

impl fmt::Display for DeliveryError {
    /// With all causes: what a TLS library says last is what helps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.why().to_string();
        let mut cause = self.why().source();
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                let _ = write!(text, ": {said}");
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

impl Error for DeliveryError {}
