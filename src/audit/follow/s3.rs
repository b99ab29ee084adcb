//! Objects in a bucket that speaks S3, locked so that nobody can delete or replace them for a time (WORM).
//!
//! ```text
//! PREFIX/LOG/00000000000000000001-00000000000000000057.jsonl        a batch, a record in each line
//! ```
//!
//! The bucket must have object lock (which brings versioning): one that has not answers with an error, and nothing is
//! delivered to it.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rusty_s3::actions::{ListObjectsV2, PutObject, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use super::super::utc::rfc3339_seconds;
use super::destination::{Batch, DeliveryError, Destination, Standing};
use super::tls::{Roots, said};
use crate::clock::{Clock, Wall};

/// How an object is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody can shorten it, not even who owns the account.
    Compliance,
    /// Who has a permission of its own can end it early.
    Governance,
}

impl LockMode {
    const fn name(self) -> &'static str {
        match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        }
    }
}

/// Which bucket, and for how long.
#[derive(Clone)]
pub struct S3Options {
    /// `https://s3.example.org`.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// The bucket is the first part of the path, and not of the host name.
    pub path_style: bool,
    /// What the names of objects begin with; without a slash at its ends.
    pub prefix: String,
    /// Who we are.
    pub key_id: String,
    /// What signs.
    pub secret: String,
    /// How objects are locked,
    pub lock: LockMode,
    /// and for how long from when they are written.
    pub retain: Duration,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, bucket, prefix, lock, retain, .. } = self;
        write!(f, "S3Options({endpoint} {region} {bucket}/{prefix}, {lock:?} for {retain:?})")
    }
}

/// A [`Destination`] of locked objects.
pub struct S3 {
    options: S3Options,
    bucket: Bucket,
    credentials: Credentials,
    agent: ureq::Agent,
    clock: Clock,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl S3 {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A sentence: the address or the name of the bucket is none.
    pub fn new(options: S3Options, roots: &Roots) -> Result<Self, String> {
        let endpoint = options.endpoint.parse();
        let endpoint = endpoint.map_err(|error| format!("{:?} is no address: {error}", options.endpoint))?;
        let style = if options.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(endpoint, style, options.bucket.clone(), options.region.clone());
        let bucket = bucket.map_err(|error| format!("no bucket {:?}: {error}", options.bucket))?;
        let credentials = Credentials::new(options.key_id.clone(), options.secret.clone());
        Ok(Self { bucket, credentials, agent: roots.agent(PATIENCE), clock: Clock::start(), options })
    }

    fn folder(&self, log: &str) -> String {
        let prefix = self.options.prefix.trim_matches('/');
        if prefix.is_empty() { format!("{log}/") } else { format!("{prefix}/{log}/") }
    }
}

impl Destination for S3 {
    /// What is behind what is known: one object or none, as a rule.
    fn last(&mut self, log: &str, known: u64) -> Result<Option<Standing>, DeliveryError> {
        let folder = self.folder(log);
        let mut last = known;
        loop {
            let mut list = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
            list.with_prefix(folder.clone());
            // The name of an object goes on behind that number, so it comes after this.
            list.with_start_after(format!("{folder}{:020}", last.saturating_add(1)));
            let url = list.sign(SIGNED_FOR);
            let mut response = self.agent.get(url.as_str()).call().map_err(DeliveryError::later)?;
            if !response.status().is_success() {
                return Err(DeliveryError::later(said(&mut response)));
            }
            let text = response.body_mut().with_config().limit(LIST_BYTES_MAX).read_to_string();
            let text = text.map_err(DeliveryError::later)?;
            let list =
                ListObjectsV2::parse_response(&text).map_err(|error| DeliveryError::later(error.to_string()))?;
            let found = list.contents.iter().filter_map(|object| last_of(object.key.strip_prefix(&folder)?)).max();
            match found {
                Some(found) if found > last => last = found,
                _ => return Ok(Some(Standing { seq: last, hash: None })),
            }
        }
    }

    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
        let (first, last) = batch.range();
        let name = format!("{}{first:020}-{last:020}.jsonl", self.folder(batch.log));
        let body = batch.to_lines();
        let retain = u64::try_from(self.options.retain.as_nanos()).unwrap_or(u64::MAX);
        let until = rfc3339_seconds(Wall(self.clock.now().wall.0.saturating_add(retain)));
        let headers = [
            ("content-type", "application/x-ndjson"),
            // What is there already is there for good.
            ("if-none-match", "*"),
            // Nothing is locked without a checksum.
            ("x-amz-checksum-sha256", &BASE64_STANDARD.encode(digest(&SHA256, &body))),
            ("x-amz-sdk-checksum-algorithm", "SHA256"),
            ("x-amz-object-lock-mode", self.options.lock.name()),
            ("x-amz-object-lock-retain-until-date", &until),
        ];
        let mut put = PutObject::new(&self.bucket, Some(&self.credentials), &name);
        for (key, value) in headers {
            put.headers_mut().insert(key, value);
        }
        let url = put.sign(SIGNED_FOR);
        let mut request = self.agent.put(url.as_str());
        for (key, value) in headers {
            request = request.header(key, value);
        }
        let mut response = request.send(&body[..]).map_err(DeliveryError::later)?;
        match response.status().as_u16() {
            // It came through the last time.
            200..=299 | 412 => Ok(()),
            _ => Err(DeliveryError::later(said(&mut response))),
        }
    }
}

/// The last number in `FIRST-LAST.jsonl`.
fn last_of(name: &str) -> Option<u64> {
    name.strip_suffix(".jsonl")?.split_once('-')?.1.parse().ok()
}

const PATIENCE: Duration = Duration::from_secs(30);
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// A list names a thousand objects at most.
const LIST_BYTES_MAX: u64 = 8 * 1024 * 1024;
