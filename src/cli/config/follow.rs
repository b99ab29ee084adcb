//! `[[audit.follower]]`: where the trail is carried to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::required;
use super::reader::Section;
use super::units::{count, duration, text, word, yes_or_no};

/// One follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FollowerSpec {
    /// Its name in the trail and of its cursor.
    pub(crate) name: String,
    pub(crate) to: To,
}

/// Where to. Secrets stay in their files until they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Sqlite { path: PathBuf },
    Postgres { address_file: PathBuf },
    Kafka { brokers: String, topic: String, partition: i32, settings_file: Option<PathBuf> },
    S3(Bucket),
    Syslog { address: String, facility: u8, hostname: Option<String>, ca_file: Option<PathBuf> },
    Webhook { address: String, secret_file: PathBuf, ca_file: Option<PathBuf> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) bucket: String,
    pub(crate) path_style: bool,
    pub(crate) prefix: String,
    pub(crate) key_id: String,
    pub(crate) secret_file: PathBuf,
    pub(crate) governance: bool,
    pub(crate) retain: Duration,
    pub(crate) ca_file: Option<PathBuf>,
}

pub(super) fn read_followers(sections: Vec<Section<'_>>, base: &Path) -> Vec<FollowerSpec> {
    let mut followers: Vec<FollowerSpec> = Vec::new();
    for mut section in sections {
        let name = required(&mut section, "name").map(str::to_owned);
        if let Some(name) = name.as_ref().filter(|name| followers.iter().any(|other| other.name == **name)) {
            section.wrong("name", &format!("{name:?} is the name of another follower too"));
        }
        let kind = section.take("to", word(KINDS));
        if kind.is_none() && !section.has("to") {
            section.wrong("to", "is missing");
        }
        let to = kind.and_then(|kind| read_to(kind, &mut section, base));
        followers.extend(name.zip(to).map(|(name, to)| FollowerSpec { name, to }));
        if kind.is_some() {
            section.finish();
        }
    }
    followers
}

fn read_to(kind: Kind, section: &mut Section<'_>, base: &Path) -> Option<To> {
    let path = |value| text(value).map(|path| base.join(path));
    let needs_path = |section: &mut Section<'_>, key| required(section, key).map(|path| base.join(path));
    let needs = |section: &mut Section<'_>, key| required(section, key).map(str::to_owned);
    Some(match kind {
        Kind::Sqlite => To::Sqlite { path: needs_path(section, "path")? },
        Kind::Postgres => To::Postgres { address_file: needs_path(section, "address_file")? },
        Kind::Kafka => {
            let (brokers, topic) = (needs(section, "brokers"), needs(section, "topic"));
            let partition = section.take("partition", count(0..=i32::MAX as u64)).unwrap_or(0);
            let settings_file = section.take("settings_file", path);
            To::Kafka { brokers: brokers?, topic: topic?, partition, settings_file }
        }
        Kind::S3 => {
            let (endpoint, bucket) = (needs(section, "endpoint"), needs(section, "bucket"));
            let (key_id, secret_file) = (needs(section, "key_id"), needs_path(section, "secret_file"));
            let words = |section: &mut Section<'_>, key, otherwise: &str| {
                section.take(key, text).unwrap_or(otherwise).to_owned()
            };
            let region = words(section, "region", "us-east-1");
            let prefix = words(section, "prefix", "");
            let path_style = section.take("path_style", yes_or_no).unwrap_or(false);
            let governance = section.take("lock", word([("compliance", false), ("governance", true)]));
            let retain = section.take("retain", duration(RETAIN_LEAST..=RETAIN_MOST)).unwrap_or(RETAIN);
            let ca_file = section.take("ca_file", path);
            To::S3(Bucket {
                endpoint: endpoint?,
                region,
                bucket: bucket?,
                path_style,
                prefix,
                key_id: key_id?,
                secret_file: secret_file?,
                governance: governance.unwrap_or(false),
                retain,
                ca_file,
            })
        }
        Kind::Syslog => {
            let address = needs(section, "address");
            let facility = section.take("facility", count(0..=23)).unwrap_or(13);
            let hostname = section.take("hostname", |value| text(value).map(str::to_owned));
            let ca_file = section.take("ca_file", path);
            To::Syslog { address: address?, facility, hostname, ca_file }
        }
        Kind::Webhook => {
            let (address, secret_file) = (needs(section, "address"), needs_path(section, "secret_file"));
            let ca_file = section.take("ca_file", path);
            To::Webhook { address: address?, secret_file: secret_file?, ca_file }
        }
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
    Postgres,
    Kafka,
    S3,
    Syslog,
    Webhook,
}

const KINDS: [(&str, Kind); 6] = [
    ("sqlite", Kind::Sqlite),
    ("postgres", Kind::Postgres),
    ("kafka", Kind::Kafka),
    ("s3", Kind::S3),
    ("syslog", Kind::Syslog),
    ("webhook", Kind::Webhook),
];
const DAY: u64 = 86_400;
/// Seven years.
const RETAIN: Duration = Duration::from_secs(7 * 365 * DAY);
const RETAIN_LEAST: Duration = Duration::from_secs(3600);
const RETAIN_MOST: Duration = Duration::from_secs(100 * 365 * DAY);

#[cfg(test)]
mod tests {
    use super::super::{Overrides, ServerConfig};
    use super::*;

    fn load(text: &str) -> Result<Vec<FollowerSpec>, Vec<String>> {
        let config = ServerConfig::from_text(text, Path::new("/base"), &Overrides::default());
        config.map(|config| config.followers).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_place_has_its_own_keys_and_files_are_beside_the_configuration() {
        let text = "data = \"d\"\n\
                    [[audit.follower]]\nname = \"a\"\nto = \"sqlite\"\npath = \"a.sqlite\"\n\
                    [[audit.follower]]\nname = \"b\"\nto = \"syslog\"\naddress = \"logs:6514\"\nfacility = 4\n";
        let expected = [
            FollowerSpec { name: "a".into(), to: To::Sqlite { path: "/base/a.sqlite".into() } },
            FollowerSpec {
                name: "b".into(),
                to: To::Syslog { address: "logs:6514".into(), facility: 4, hostname: None, ca_file: None },
            },
        ];
        assert_eq!(load(text).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_unknown_or_twice_is_told_with_its_line() {
        let text = "data = \"d\"\n\
                    [[audit.follower]]\nname = \"a\"\nto = \"s3\"\nbucket = \"b\"\nretain = \"1s\"\ntopic = \"x\"\n\
                    [[audit.follower]]\nname = \"a\"\nto = \"fax\"\n\
                    [[audit.follower]]\nname = \"c\"\n";
        let problems = load(text).unwrap_err().join("\n");
        for part in [
            "audit.follower[1].endpoint is missing",
            "audit.follower[1].key_id is missing",
            "audit.follower[1].secret_file is missing",
            "line 6: audit.follower[1].retain must be a time from \"1h\"",
            "line 7: audit.follower[1].topic is unknown here",
            "line 10: audit.follower[2].to must be \"sqlite\", \"postgres\"",
            "audit.follower[3].to is missing",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        let twice = "data = \"d\"\n\
                    [[audit.follower]]\nname = \"a\"\nto = \"sqlite\"\npath = \"x\"\n\
                    [[audit.follower]]\nname = \"a\"\nto = \"sqlite\"\npath = \"y\"\n";
        assert!(load(twice).unwrap_err()[0].contains("line 7: audit.follower[2].name \"a\" is the name of another"));
        let nowhere = "[[audit.follower]]\nname = \"a\"\nto = \"sqlite\"\npath = \"x\"\n";
        let problems = load(nowhere).unwrap_err();
        assert!(problems[0].contains("needs a trail to follow: give data"), "{problems:?}");
    }
}
