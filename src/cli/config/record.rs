//! `[record]`: what is recorded, and how.

use std::time::Duration;

use shardcast::record::recorder::{ContainerFormat, NameTemplate, RecordSpec};

use super::reader::Section;
use super::units::{bytes, duration, list, text, word};

/// Which applications are recorded, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recording {
    /// Their names; `*` is all of them.
    apps: Vec<String>,
    pub(crate) spec: RecordSpec,
}

impl Recording {
    /// All applications, as nobody has said otherwise.
    pub(crate) fn of_all() -> Self {
        Self { apps: vec!["*".into()], spec: RecordSpec::default() }
    }

    pub(crate) fn wants(&self, app: &str) -> bool {
        self.apps.iter().any(|name| name == "*" || name == app)
    }
}

/// `None`: nothing is recorded.
pub(super) fn read_record(mut section: Section<'_>) -> Option<Recording> {
    let apps = section.take("apps", list(|name| Ok(name.to_owned())));
    let mut spec = RecordSpec::default();
    if let Some(format) = section.take("format", word(FORMATS)) {
        spec.format = format;
    }
    if let Some(template) = section.take("name", |value| {
        NameTemplate::parse(text(value)?).map_err(|error| format!("is no name of segments: {error}"))
    }) {
        spec.template = template;
    }
    if let Some(time) = section.take("segment", duration(Duration::from_secs(2)..=Duration::from_secs(24 * 3600))) {
        spec.segment_duration = time;
    }
    spec.retain_for = section.take("keep_for", duration(Duration::from_secs(60)..=KEEP_MOST));
    spec.retain_bytes = section.take("keep_bytes", bytes((1 << 20)..=(1 << 50)));
    section.finish();
    let apps = apps.filter(|apps| !apps.is_empty())?;
    Some(Recording { apps, spec })
}

const FORMATS: [(&str, ContainerFormat); 3] =
    [("fmp4", ContainerFormat::Fmp4), ("ts", ContainerFormat::MpegTs), ("flv", ContainerFormat::Flv)];
const KEEP_MOST: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Overrides, ServerConfig};
    use super::*;

    fn load(text: &str) -> Result<Option<Recording>, String> {
        let config = ServerConfig::from_text(text, Path::new("/base"), &Overrides::default());
        config.map(|config| config.record).map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn what_is_recorded_is_said_by_its_application() {
        let text = "data = \"d\"\n[record]\napps = [\"live\", \"court\"]\nformat = \"ts\"\nsegment = \"1m\"\n\
                    name = \"{app}/{name}/{number}.{ext}\"\nkeep_for = \"48h\"\nkeep_bytes = \"10GiB\"\n";
        let recording = load(text).unwrap().unwrap();
        assert!(recording.wants("live") && recording.wants("court") && !recording.wants("other"));
        assert_eq!((recording.spec.format, recording.spec.retain_bytes), (ContainerFormat::MpegTs, Some(10 << 30)));
        assert_eq!(load("").unwrap(), None);
        assert!(Recording::of_all().wants("anything"));
    }

    #[test]
    fn what_cannot_be_recorded_is_told() {
        for (text, part) in [
            ("[record]\napps = [\"*\"]\n", "record.apps needs a place to record to: give data"),
            (
                "data = \"d\"\n[record]\nformat = \"avi\"\n",
                "line 3: record.format must be \"fmp4\", \"ts\" or \"flv\"",
            ),
            ("data = \"d\"\n[record]\nname = \"../x\"\n", "line 3: record.name is no name of segments"),
        ] {
            let told = load(text).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }
}
