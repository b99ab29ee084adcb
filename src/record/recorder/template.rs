//! How segments are named: a template whose every expansion is the name of an object below the root.

use std::fmt::Write;

use super::ContainerFormat;
use super::utc::Utc;
use crate::clock::Wall;
use crate::extension::{ObjectName, ObjectNameError};
use crate::id::StreamKey;
use crate::limits::{OBJECT_COMPONENTS_MAX, RECORD_TEMPLATE_PARTS_MAX};

/// The format of `{start}` without one of its own.
const START: &str = "%Y-%m-%dT%H-%M-%S";
/// The index of a stream has this name.
pub(super) const INDEX: &str = "index.jsonl";

/// The names of segments, such as `{app}/{name}/{start:%Y-%m-%dT%H-%M-%S}-{number}.{ext}`.
///
/// * `{app}` and `{name}`: the stream. A slash in a name becomes `~s`, a tilde `~~`: a stream's name is one component,
///   and two streams have two.
/// * `{start}`: when the segment begins, in UTC, or `{start:FORMAT}` with `%Y %m %d %H %M %S`, `%L` for milliseconds
///   and `%s` for seconds since 1970.
/// * `{number}`: counts the segments of the stream from 1, with six digits or more.
/// * `{ext}`: what the container says.
///
/// All else must be characters of an [`ObjectName`]. `{app}`, `{name}` and `{number}` must be there, and the end must
/// be `.{ext}`. That no expansion leads out of the root is checked here, once: no field is empty or can bring a slash,
/// and a component of dots alone is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// Between two components.
    Slash,
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    App,
    Name,
    Number,
    Ext,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Milli,
    Unix,
}

/// Why a text is no [`NameTemplate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A brace that is not closed, or was not opened.
    #[error("the brace at byte {at} has no partner")]
    Brace {
        /// Offset in bytes.
        at: usize,
    },
    /// A field that is not known, or a format in which `%` stands before something else than it may.
    #[error("the field at byte {at} is not known")]
    Field {
        /// Offset in bytes.
        at: usize,
    },
    /// A character that no name has.
    #[error("the character at byte {at} is not one of A-Z a-z 0-9 _ . ~ - /")]
    Character {
        /// Offset in bytes.
        at: usize,
    },
    /// A component is empty, or of dots alone.
    #[error("component {0} (counted from 1) is empty, or dots alone")]
    Component(usize),
    /// The index would have to be a folder.
    #[error("no component may be {INDEX}")]
    Index,
    /// One of `{{app}}`, `{{name}}` and `{{number}}` is missing.
    #[error("it must have {{app}}, {{name}} and {{number}}")]
    Missing,
    /// The end is something else.
    #[error("it must end with .{{ext}}")]
    End,
    /// More parts than [`RECORD_TEMPLATE_PARTS_MAX`], or more components than [`OBJECT_COMPONENTS_MAX`].
    #[error("it has too many parts")]
    TooLong,
}

impl Default for NameTemplate {
    fn default() -> Self {
        use Field::{App, Day, Ext, Hour, Minute, Month, Name, Number, Second, Year};
        let literal = |text: &str| Part::Literal(text.into());
        let mut parts = vec![Part::Field(App), Part::Slash, Part::Field(Name), Part::Slash];
        for (field, behind) in
            [(Year, "-"), (Month, "-"), (Day, "T"), (Hour, "-"), (Minute, "-"), (Second, "-"), (Number, ".")]
        {
            parts.extend([Part::Field(field), literal(behind)]);
        }
        parts.push(Part::Field(Ext));
        Self { parts }
    }
}

impl NameTemplate {
    /// Reads and checks a template.
    ///
    /// # Errors
    /// [`TemplateError`] says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            if let Some(field) = rest.strip_prefix('{') {
                let length = field.find('}').ok_or(TemplateError::Brace { at })?;
                let field = field.get(..length).unwrap_or_default();
                push_field(field, at, &mut parts)?;
                at += length + 2;
            } else {
                let length = rest.find('{').unwrap_or(rest.len());
                push_literal(rest.get(..length).unwrap_or_default(), at, &mut parts)?;
                at += length;
            }
            if parts.len() > RECORD_TEMPLATE_PARTS_MAX {
                return Err(TemplateError::TooLong);
            }
        }
        let template = Self { parts };
        template.check()?;
        Ok(template)
    }

    fn check(&self) -> Result<(), TemplateError> {
        let components: Vec<&[Part]> = self.parts.split(|part| *part == Part::Slash).collect();
        if components.len() > OBJECT_COMPONENTS_MAX {
            return Err(TemplateError::TooLong);
        }
        for (nth, component) in (1..).zip(&components) {
            // No field is empty, `.` or `..`, so neither is a component that has one and more than dots beside it.
            // Beside dots a field would still not be dots alone, save for names like `...`: those are none here.
            let dots = |part: &Part| matches!(part, Part::Literal(text) if text.bytes().all(|byte| byte == b'.'));
            if component.iter().all(dots) {
                return Err(TemplateError::Component(nth));
            }
            if matches!(component, [Part::Literal(text)] if **text == *INDEX) {
                return Err(TemplateError::Index);
            }
        }
        let has = |field| self.parts.contains(&Part::Field(field));
        if ![Field::App, Field::Name, Field::Number].into_iter().all(has) {
            return Err(TemplateError::Missing);
        }
        match self.parts.as_slice() {
            [.., Part::Literal(dot), Part::Field(Field::Ext)] if dot.ends_with('.') => {}
            _ => return Err(TemplateError::End),
        }
        // What is too long for the shortest name is so for all.
        let Ok(shortest) = StreamKey::new("a", "a") else { return Ok(()) };
        let expanded = self.expand(&shortest, Wall(0), 0, ContainerFormat::MpegTs);
        expanded.map(|_| ()).map_err(|_| TemplateError::TooLong)
    }

    /// The name of a segment.
    ///
    /// # Errors
    /// [`ObjectNameError::TooLong`], where the stream's name is, and never another one.
    pub fn expand(
        &self,
        key: &StreamKey,
        start: Wall,
        number: u64,
        format: ContainerFormat,
    ) -> Result<ObjectName, ObjectNameError> {
        let utc = Utc::of(start);
        let mut out = String::new();
        for part in &self.parts {
            // Writing to a string does not fail.
            let _ = match part {
                Part::Literal(text) => write!(out, "{text}"),
                Part::Slash => write!(out, "/"),
                Part::Field(field) => match field {
                    Field::App => write!(out, "{}", escaped(key.app())),
                    Field::Name => write!(out, "{}", escaped(key.name())),
                    Field::Number => write!(out, "{number:06}"),
                    Field::Ext => write!(out, "{}", format.extension()),
                    Field::Year => write!(out, "{:04}", utc.year),
                    Field::Month => write!(out, "{:02}", utc.month),
                    Field::Day => write!(out, "{:02}", utc.day),
                    Field::Hour => write!(out, "{:02}", utc.hour),
                    Field::Minute => write!(out, "{:02}", utc.minute),
                    Field::Second => write!(out, "{:02}", utc.second),
                    Field::Milli => write!(out, "{:03}", utc.milli),
                    Field::Unix => write!(out, "{}", start.0 / 1_000_000_000),
                },
            };
        }
        ObjectName::new(&out)
    }
}

/// The name of a stream's index: `APP/NAME/index.jsonl`, with a slash in the name as `~s` and a tilde as `~~`.
///
/// # Errors
/// [`ObjectNameError::TooLong`], and never another one.
pub fn index_name(key: &StreamKey) -> Result<ObjectName, ObjectNameError> {
    ObjectName::new(&format!("{}/{}/{INDEX}", escaped(key.app()), escaped(key.name())))
}

/// The stream that an index is of.
pub(super) fn stream_of_index(name: &ObjectName) -> Option<StreamKey> {
    let parts: Vec<&str> = name.components().collect();
    let &[app, name, INDEX] = parts.as_slice() else { return None };
    StreamKey::new(&unescaped(app)?, &unescaped(name)?).ok()
}

fn escaped(text: &str) -> String {
    text.replace('~', "~~").replace('/', "~s")
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        out.push(match char {
            '~' => match chars.next()? {
                '~' => '~',
                's' => '/',
                _ => return None,
            },
            char => char,
        });
    }
    Some(out)
}

fn push_field(field: &str, at: usize, parts: &mut Vec<Part>) -> Result<(), TemplateError> {
    let plain = match field {
        "app" => Some(Field::App),
        "name" => Some(Field::Name),
        "number" => Some(Field::Number),
        "ext" => Some(Field::Ext),
        _ => None,
    };
    if let Some(field) = plain {
        parts.push(Part::Field(field));
        return Ok(());
    }
    let format = match field.split_once(':') {
        Some(("start", format)) => format,
        None if field == "start" => START,
        _ => return Err(TemplateError::Field { at }),
    };
    let mut pieces = format.split('%');
    push_literal(pieces.next().unwrap_or_default(), at, parts)?;
    for piece in pieces {
        parts.push(Part::Field(match piece.chars().next() {
            Some('Y') => Field::Year,
            Some('m') => Field::Month,
            Some('d') => Field::Day,
            Some('H') => Field::Hour,
            Some('M') => Field::Minute,
            Some('S') => Field::Second,
            Some('L') => Field::Milli,
            Some('s') => Field::Unix,
            _ => return Err(TemplateError::Field { at }),
        }));
        push_literal(piece.get(1..).unwrap_or_default(), at, parts)?;
    }
    Ok(())
}

fn push_literal(text: &str, at: usize, parts: &mut Vec<Part>) -> Result<(), TemplateError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~-/".contains(&byte);
    if let Some(wrong) = text.bytes().position(|byte| !allowed(byte)) {
        let at = at + wrong;
        let brace = text.as_bytes().get(wrong) == Some(&b'}');
        return Err(if brace { TemplateError::Brace { at } } else { TemplateError::Character { at } });
    }
    for (nth, piece) in text.split('/').enumerate() {
        if nth > 0 {
            parts.push(Part::Slash);
        }
        if !piece.is_empty() {
            parts.push(Part::Literal(piece.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const DEFAULT: &str = "{app}/{name}/{start:%Y-%m-%dT%H-%M-%S}-{number}.{ext}";
    /// 2024-02-29T23:59:59.007Z.
    const START: Wall = Wall(1_709_251_199_007_000_000);

    fn expand(template: &str, key: &str) -> String {
        let key = StreamKey::parse(key).unwrap();
        let template = NameTemplate::parse(template).unwrap();
        template.expand(&key, START, 7, ContainerFormat::Fmp4).unwrap().to_string()
    }

    #[test]
    fn fields_are_filled_in() {
        assert_eq!(expand(DEFAULT, "live/cam"), "live/cam/2024-02-29T23-59-59-000007.mp4");
        assert_eq!(
            expand("rec/{start:%Y/%m/%d}/{app}_{name}.{number}-{start:%s.%L}.{ext}", "live/cam"),
            "rec/2024/02/29/live_cam.000007-1709251199.007.mp4"
        );
        assert_eq!(NameTemplate::parse(DEFAULT), Ok(NameTemplate::default()));
        assert_eq!(NameTemplate::parse("{app}/{name}/{start}-{number}.{ext}"), Ok(NameTemplate::default()));
    }

    #[test]
    fn a_name_is_one_component_and_two_names_are_two() {
        assert_eq!(expand("{app}/{name}/{number}.{ext}", "live/room/42"), "live/room~s42/000007.mp4");
        let names = ["a/b", "a~sb", "a~/b", "a/~b", "a~~sb"];
        let expanded: BTreeSet<_> =
            names.iter().map(|name| index_name(&StreamKey::new("live", name).unwrap()).unwrap()).collect();
        assert_eq!(expanded.len(), names.len());
        for (name, index) in names.iter().map(|name| (name, StreamKey::new("l~ive", name).unwrap())) {
            let stream = stream_of_index(&index_name(&index).unwrap());
            assert_eq!(stream.as_ref().map(StreamKey::name), Some(*name));
        }
    }

    #[test]
    fn templates_that_could_lead_elsewhere_or_mix_segments_up_are_refused() {
        for (template, error) in [
            ("../{app}/{name}-{number}.{ext}", TemplateError::Component(1)),
            ("{app}/../{name}-{number}.{ext}", TemplateError::Component(2)),
            ("/{app}/{name}-{number}.{ext}", TemplateError::Component(1)),
            ("{app}//{name}-{number}.{ext}", TemplateError::Component(2)),
            ("{app}/{start:..}/{name}-{number}.{ext}", TemplateError::Component(2)),
            ("{app}/{start:/}/{name}-{number}.{ext}", TemplateError::Component(2)),
            ("{app}/{name}/index.jsonl/{number}.{ext}", TemplateError::Index),
            ("{app}\\{name}-{number}.{ext}", TemplateError::Character { at: 5 }),
            ("{app}/{name}{number}%.{ext}", TemplateError::Character { at: 20 }),
            ("{app/{name}-{number}.{ext}", TemplateError::Field { at: 0 }),
            ("{app}/{name}-{number}.{ext", TemplateError::Brace { at: 22 }),
            ("{app}/{name}}-{number}.{ext}", TemplateError::Brace { at: 12 }),
            ("{app}/{name}/{start:%q}-{number}.{ext}", TemplateError::Field { at: 13 }),
            ("{app}/{name}/{start:%}-{number}.{ext}", TemplateError::Field { at: 13 }),
            ("{app}/{name}/{start:%ä}-{number}.{ext}", TemplateError::Field { at: 13 }),
            ("{app}/{name}/{user}-{number}.{ext}", TemplateError::Field { at: 13 }),
            ("{app}/{name}/{start}.{ext}", TemplateError::Missing),
            ("{name}/{number}.{ext}", TemplateError::Missing),
            ("{app}/{name}/{number}.{ext}.jsonl", TemplateError::End),
            ("{app}/{name}/{number}{ext}", TemplateError::End),
            ("", TemplateError::Component(1)),
        ] {
            assert_eq!(NameTemplate::parse(template), Err(error), "{template:?}");
        }
        let long = "{app}".repeat(RECORD_TEMPLATE_PARTS_MAX + 1);
        assert_eq!(NameTemplate::parse(&long), Err(TemplateError::TooLong));
        let long = format!("{{app}}/{{name}}/{}-{{number}}.{{ext}}", "a".repeat(250));
        assert_eq!(NameTemplate::parse(&long), Err(TemplateError::TooLong));
    }

    proptest! {
        /// Whatever template is taken, whatever the stream's name is, and whatever time it is.
        #[test]
        fn no_expansion_leaves_the_root(
            template in "(\\{app\\}|\\{name\\}|\\{number\\}|\\{start:%Y/?\\.?%s?\\}|/|\\.|a|\\.\\.|%){0,8}\\{app\\}\\{name\\}(/|\\.|-){0,3}\\{number\\}\\.\\{ext\\}",
            app in "[a.~]{1,3}", name in "[a.~/]{1,6}", start: u64, number: u64,
        ) {
            let (Ok(template), Ok(key)) = (NameTemplate::parse(&template), StreamKey::new(&app, &name)) else {
                return Ok(());
            };
            let expanded = template.expand(&key, Wall(start), number, ContainerFormat::MpegTs);
            prop_assert!(expanded.is_ok(), "{:?} of {:?} with {:?}", expanded, template, key);
        }

        #[test]
        fn no_text_does_harm(text in "\\PC{0,40}", fields in "[{}a-z:%/.]{0,40}") {
            let _ = NameTemplate::parse(&text);
            let _ = NameTemplate::parse(&fields);
        }
    }
}
