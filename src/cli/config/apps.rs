//! `[[app]]`: applications and how their streams behave.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::time::Duration;

use shardcast::id::StreamKey;
use shardcast::limits::FILLER_BYTES_MAX;
use shardcast::protocol::rtmp::frames_of_flv;
use shardcast::protocol::{Merge, Start};
use shardcast::stream::{Absent, AppSpec, Conflict, Durable, Excess, Filler, GopCache};
use toml::de::DeValue;

use super::reader::Section;
use super::units::{bytes, count, count_or_none, duration, parse_duration, shown, text, word};

/// The applications; without any, the template `*` with its defaults: every application exists.
pub(super) fn read_apps(sections: Vec<Section<'_>>, base: &Path) -> Vec<AppSpec> {
    let mut apps: Vec<AppSpec> = Vec::new();
    for mut section in sections {
        let name = section.take("name", app_name);
        if name.is_none() && !section.has("name") {
            section.wrong("name", "is missing: the name of an application, or \"*\" for all that are not named");
        }
        if name.is_some_and(|name| apps.iter().any(|app| &*app.name == name)) {
            section.wrong("name", "is there twice: give each application once");
        }
        apps.push(read_app(AppSpec::new(name.unwrap_or("*")), section, base));
    }
    if apps.is_empty() {
        apps.push(AppSpec::new("*"));
    }
    apps
}

fn read_app(mut app: AppSpec, mut section: Section<'_>, base: &Path) -> AppSpec {
    set(&mut app.start, section.take("start", start));
    set(&mut app.delay_max, section.take("delay_max", duration(Duration::ZERO..=TEN_MINUTES)));
    if matches!(app.start, Start::Behind(delay) if delay > app.delay_max) {
        section.wrong("start", "is farther behind than delay_max, so that nobody could play");
    }
    match section.take("gop_cache", |value| Ok(value.as_bool())).flatten() {
        Some(true) => {}
        Some(false) => app.gop_cache = GopCache::OFF,
        None => read_gop_cache(&mut app.gop_cache, section.section("gop_cache")),
    }
    set(&mut app.lag.max_age, section.take("max_age", duration(Duration::from_millis(100)..=TEN_MINUTES)));
    set(&mut app.lag.max_bytes, section.take("max_bytes", bytes(64 << 10..=4 << 30)));
    set(&mut app.lag.evict_window, section.take("evict_window", duration(Duration::from_secs(1)..=HOUR)));
    // A shorter window alone keeps its share of the default.
    app.lag.evict_lost = app.lag.evict_lost.min(app.lag.evict_window);
    set(&mut app.lag.evict_lost, section.take("evict_lost", duration(Duration::from_millis(100)..=HOUR)));
    if app.lag.evict_lost > app.lag.evict_window {
        section.wrong("evict_lost", "must not be longer than evict_window, or nobody is ever evicted");
    }
    set(&mut app.merge, section.take("merge", merge));
    set(&mut app.republish_grace, section.take("republish_grace", duration(Duration::ZERO..=TEN_MINUTES)));
    app.filler = section.take("filler", |value| read_filler(&base.join(text(value)?)));
    if app.filler.is_some() && app.republish_grace.is_zero() {
        section.wrong("filler", "is shown within republish_grace, which is 0s: give it some time");
    }
    set(&mut app.absent, section.take("absent", absent));
    set(&mut app.conflict, section.take("conflict", word(CONFLICTS)));
    set(&mut app.stall_after, section.take("stall_after", duration(Duration::from_millis(100)..=TEN_MINUTES)));
    set(&mut app.return_after, section.take("return_after", return_after));
    set(&mut app.durable, section.take("durable", word(DURABLE)));
    set(&mut app.seats.connections, section.take("connections", count_or_none(1..=16_777_216)));
    set(&mut app.seats.publishers, section.take("publishers", count_or_none(1..=16_777_216)));
    set(&mut app.seats.viewers, section.take("viewers", count_or_none(1..=16_777_216)));
    set(&mut app.publisher.bitrate, section.take("publisher_bitrate", count_or_none(8_000..=1_000_000_000_000)));
    set(&mut app.publisher.frame_rate, section.take("publisher_frame_rate", count_or_none(1..=10_000)));
    set(&mut app.publisher.excess, section.take("publisher_excess", word(EXCESS)));
    section.finish();
    app
}

/// Whether what applications promise can be kept.
pub(super) fn check(apps: &[AppSpec], has_trail: bool) -> Result<(), String> {
    match apps.iter().find(|app| app.durable == Durable::BeforeEffect) {
        Some(app) if !has_trail => Err(format!(
            "app \"{}\" has durable = \"before-effect\", and no trail is kept: give data (or --data DIR) for that",
            app.name
        )),
        _ => Ok(()),
    }
}

fn read_filler(path: &Path) -> Result<Filler, String> {
    let wrong = |what: &dyn Display| format!("cannot be used: {}: {what}", path.display());
    let size = fs::metadata(path).map_err(|error| wrong(&error))?.len();
    if size > FILLER_BYTES_MAX as u64 {
        return Err(wrong(&format_args!("it has more than {FILLER_BYTES_MAX} bytes")));
    }
    let bytes = fs::read(path).map_err(|error| wrong(&error))?;
    let frames = frames_of_flv(bytes.into()).map_err(|reason| wrong(&reason))?;
    Filler::new(frames).map_err(|reason| wrong(&reason))
}

fn read_gop_cache(cache: &mut GopCache, mut section: Section<'_>) {
    set(&mut cache.frames, section.take("frames", count(0..=1_000_000)));
    set(&mut cache.bytes, section.take("bytes", bytes(0..=4 << 30)));
    set(&mut cache.age, section.take("age", duration(Duration::ZERO..=HOUR)));
    section.finish();
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn app_name<'a>(value: &'a DeValue<'a>) -> Result<&'a str, String> {
    let name = text(value)?;
    if name == "*" || (!name.contains('/') && StreamKey::new(name, "x").is_ok()) {
        return Ok(name);
    }
    Err(format!("must be \"*\" or a name out of A-Z a-z 0-9 _ . ~ -, not {}", shown(value)))
}

fn start(value: &DeValue<'_>) -> Result<Start, String> {
    let behind = |text: &str| {
        let delay = parse_duration(text.strip_prefix("behind ")?)?;
        (!delay.is_zero() && delay <= TEN_MINUTES).then_some(Start::Behind(delay))
    };
    match value.as_str() {
        Some("instant") => Ok(Start::Instant),
        Some("live") => Ok(Start::Live),
        Some("catch-up") => Ok(Start::CatchUp),
        text => text.and_then(behind).ok_or_else(|| {
            format!("must be \"instant\", \"live\", \"catch-up\" or \"behind 30s\" (up to 10m), not {}", shown(value))
        }),
    }
}

fn merge(value: &DeValue<'_>) -> Result<Merge, String> {
    let window = |text: &str| parse_duration(text).filter(|window| (MERGE_LEAST..=MERGE_MOST).contains(window));
    match value.as_str() {
        Some("audio-rides") => Ok(Merge::AudioRides),
        Some("off") => Ok(Merge::Off),
        Some(text) if window(text).is_some() => Ok(window(text).map_or(Merge::Off, Merge::Window)),
        _ => Err(format!("must be \"audio-rides\", \"off\" or a time from \"1ms\" to \"2s\", not {}", shown(value))),
    }
}

fn absent(value: &DeValue<'_>) -> Result<Absent, String> {
    let wait = |text: &str| {
        let wait = parse_duration(text.strip_prefix("wait ")?)?;
        (WAIT_LEAST..=TEN_MINUTES).contains(&wait).then_some(Absent::Wait(wait))
    };
    match value.as_str() {
        Some("refuse") => Ok(Absent::Refuse),
        text => text
            .and_then(wait)
            .ok_or_else(|| format!("must be \"refuse\" or \"wait 10s\" (from 100ms to 10m), not {}", shown(value))),
    }
}

fn return_after(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
    match value.as_str() {
        Some("never") => Ok(None),
        text => text
            .and_then(parse_duration)
            .filter(|time| *time <= TEN_MINUTES)
            .map(Some)
            .ok_or_else(|| format!("must be \"never\" or a time from \"0s\" to \"10m\", not {}", shown(value))),
    }
}

const MERGE_LEAST: Duration = Duration::from_millis(1);
const MERGE_MOST: Duration = Duration::from_secs(2);
const WAIT_LEAST: Duration = Duration::from_millis(100);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

const CONFLICTS: [(&str, Conflict); 3] =
    [("refuse", Conflict::Refuse), ("take-over", Conflict::TakeOver), ("backup", Conflict::Backup)];
const DURABLE: [(&str, Durable); 2] = [("async", Durable::Async), ("before-effect", Durable::BeforeEffect)];
const EXCESS: [(&str, Excess); 3] =
    [("warn", Excess::Warn), ("throttle", Excess::Throttle), ("close", Excess::Close)];
