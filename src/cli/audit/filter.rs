//! Which records are wanted.

use serde_json::Value;

#[derive(Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// From this time on: 2026-01-31, 2026-01-31T08:00, or as far as you like
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Of this stream: app/name, or app/* for all of an application
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,

    /// Of this principal
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,

    /// Of these events, such as publish_start,kick
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    event: Vec<String>,
}

impl Filter {
    pub(super) fn wants(&self, record: &Value) -> bool {
        let text = |key: &str| record[key].as_str().unwrap_or("");
        // RFC 3339 in UTC is in the order of its letters.
        let wall = text("wall");
        self.since.as_ref().is_none_or(|since| wall >= since.as_str())
            && self.until.as_ref().is_none_or(|until| wall < until.as_str())
            && self.principal.as_ref().is_none_or(|principal| text("principal") == principal)
            && (self.event.is_empty() || self.event.iter().any(|event| text("event") == event))
            && self.stream.as_ref().is_none_or(|stream| match stream.strip_suffix("/*") {
                Some(app) => text("app") == app,
                None => stream_of(record).as_ref() == Some(stream),
            })
    }
}

/// `app/name`, if it is of a stream.
pub(super) fn stream_of(record: &Value) -> Option<String> {
    Some(format!("{}/{}", record["app"].as_str()?, record["stream"].as_str()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_filter_stands_for_itself_and_all_must_agree() {
        let record = json!({"wall": "2026-01-31T08:00:00.5Z", "event": "kick", "app": "live", "stream": "a", "principal": "eve"});
        let filter = |set: &dyn Fn(&mut Filter)| {
            let mut filter = Filter::default();
            set(&mut filter);
            filter.wants(&record)
        };
        assert!(filter(&|_| {}));
        assert!(
            filter(&|it| it.since = Some("2026-01-31".into())) && !filter(&|it| it.since = Some("2026-02".into()))
        );
        assert!(
            filter(&|it| it.until = Some("2026-01-31T09".into())) && !filter(&|it| it.until = Some("2026".into()))
        );
        assert!(filter(&|it| it.stream = Some("live/a".into())) && filter(&|it| it.stream = Some("live/*".into())));
        assert!(!filter(&|it| it.stream = Some("live/b".into())) && !filter(&|it| it.stream = Some("li/*".into())));
        assert!(filter(&|it| it.event = vec!["play_end".into(), "kick".into()]));
        assert!(!filter(&|it| {
            it.event = vec!["kick".into()];
            it.principal = Some("adam".into());
        }));
    }
}
