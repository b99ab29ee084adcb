//! AMF0 (Adobe, *Action Message Format – AMF 0*, 2007): the values of commands and data messages.
//!
//! Reading keeps its own stack of at most [`DEPTH_MAX`] containers, so hostile nesting costs neither machine
//! stack nor more than [`VALUES_MAX`] values; no declared count or length is trusted. References are kept as
//! numbers and never followed, so they make no cycle. Of AMF3, only what a switch marker in an AMF0 message
//! brings in practice is read: simple values.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use crate::limits::Limit;
use crate::reason::{Label, Reason};

/// Containers within containers.
pub const DEPTH_MAX: usize = 32;
/// Values in one message, keys' values and empty ones included.
pub const VALUES_MAX: usize = 4096;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0A;
const DATE: u8 = 0x0B;
const LONG_STRING: u8 = 0x0C;
const UNSUPPORTED: u8 = 0x0D;
const XML_DOCUMENT: u8 = 0x0F;
const TYPED_OBJECT: u8 = 0x10;
const AVMPLUS: u8 = 0x11;

/// The members of an object, in order.
pub type Members = Vec<(Box<str>, Value)>;

/// An AMF0 value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// A text, short or long; what is not UTF-8 in it is replaced.
    String(Box<str>),
    /// An anonymous object.
    Object(Members),
    /// An object with a class name.
    Typed(Box<str>, Members),
    /// Nothing, on purpose.
    Null,
    /// Nothing, or the marker "unsupported".
    Undefined,
    /// A reference to an earlier object, not followed.
    Reference(u16),
    /// An associative array.
    EcmaArray(Members),
    /// A dense array.
    StrictArray(Vec<Self>),
    /// Milliseconds since 1970, and a time zone that is always 0.
    Date(f64, i16),
    /// An XML document's text.
    Xml(Box<str>),
}

/// What is wrong with a message's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// The message ends within a value.
    #[error("the message ends within a value at its byte {0}")]
    End(usize),
    /// A marker that no value may begin with.
    #[error("unknown marker at byte {0}")]
    Marker(usize),
    /// An AMF3 value that is not a simple one.
    #[error("AMF3 value at byte {0}")]
    Amf3(usize),
    /// More than [`DEPTH_MAX`] containers within each other.
    #[error("values nested too deep")]
    Depth,
    /// More than [`VALUES_MAX`] values.
    #[error("too many values")]
    Values,
}

impl AmfError {
    /// The reason to close a connection whose message, ending before byte `at` of its input, holds this.
    #[must_use]
    pub const fn reason(self, at: u64) -> Reason {
        match self {
            Self::End(_) => Reason::Malformed { what: Label("rtmp.amf_end"), at },
            Self::Marker(_) => Reason::Malformed { what: Label("rtmp.amf_marker"), at },
            Self::Amf3(_) => Reason::Unsupported(Label("rtmp.amf3")),
            Self::Depth => Reason::Limit(Limit::Depth),
            Self::Values => Reason::Limit(Limit::Values),
        }
    }
}

impl Value {
    /// A text.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// An object of these members.
    #[must_use]
    pub fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a finite one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) if number.is_finite() => Some(*number),
            _ => None,
        }
    }

    /// The truth value; a number counts as C counts it.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(*truth),
            Self::Number(number) => Some(*number != 0.0),
            _ => None,
        }
    }

    /// The members of an object or an associative array.
    #[must_use]
    pub fn members(&self) -> &[(Box<str>, Self)] {
        match self {
            Self::Object(members) | Self::EcmaArray(members) | Self::Typed(_, members) => members,
            _ => &[],
        }
    }

    /// The first member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }
}

/// Appends a value.
///
/// It calls itself for what a container holds: values are made by us, or were read and are at most
/// [`DEPTH_MAX`] deep.
pub fn encode(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            out.push(NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(truth) => out.extend_from_slice(&[BOOLEAN, u8::from(*truth)]),
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(_) => {
                out.push(STRING);
                short(out, text);
            }
            Err(_) => {
                out.push(LONG_STRING);
                long(out, text);
            }
        },
        Value::Object(inner) => {
            out.push(OBJECT);
            members(out, inner);
        }
        Value::Typed(class, inner) => {
            out.push(TYPED_OBJECT);
            short(out, class);
            members(out, inner);
        }
        Value::Null => out.push(NULL),
        Value::Undefined => out.push(UNDEFINED),
        Value::Reference(number) => {
            out.push(REFERENCE);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::EcmaArray(inner) => {
            out.push(ECMA_ARRAY);
            out.extend_from_slice(&u32::try_from(inner.len()).unwrap_or(u32::MAX).to_be_bytes());
            members(out, inner);
        }
        Value::StrictArray(inner) => {
            out.push(STRICT_ARRAY);
            out.extend_from_slice(&u32::try_from(inner.len()).unwrap_or(u32::MAX).to_be_bytes());
            for value in inner {
                encode(out, value);
            }
        }
        Value::Date(ms, zone) => {
            out.push(DATE);
            out.extend_from_slice(&ms.to_be_bytes());
            out.extend_from_slice(&zone.to_be_bytes());
        }
        Value::Xml(text) => {
            out.push(XML_DOCUMENT);
            long(out, text);
        }
    }
}

fn members(out: &mut Vec<u8>, inner: &[(Box<str>, Value)]) {
    for (key, value) in inner {
        short(out, key);
        encode(out, value);
    }
    out.extend_from_slice(&[0, 0, OBJECT_END]);
}

/// A text behind 16 bits of length, cut to what they can tell.
fn short(out: &mut Vec<u8>, text: &str) {
    let max = usize::from(u16::MAX).min(text.len());
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let bytes = text.get(..end).unwrap_or_default().as_bytes();
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn long(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads the values of one message, one after the other.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    length: usize,
    /// Values that may still come: 0 ..= VALUES_MAX.
    budget: usize,
}

/// A container that is being filled.
enum Open {
    Object(Members, Box<str>),
    Ecma(Members, Box<str>),
    Typed(Box<str>, Members, Box<str>),
    Strict(Vec<Value>, u32),
}

impl<'a> Decoder<'a> {
    /// A decoder of a message's payload.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, length: payload.len(), budget: VALUES_MAX }
    }

    /// How many bytes were read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    /// The next value; `None` at the end.
    ///
    /// # Errors
    /// [`AmfError`].
    pub fn value(&mut self) -> Result<Option<Value>, AmfError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        // What is open, outermost first; never longer than DEPTH_MAX.
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut whole = self.simple_or_open(&mut open)?;
            // What is whole goes into the container around it, which may be whole then, and so on.
            loop {
                match whole {
                    None => {}
                    Some(value) => match open.last_mut() {
                        None => return Ok(Some(value)),
                        Some(Open::Strict(values, left)) => {
                            *left = left.saturating_sub(1);
                            values.push(value);
                        }
                        Some(
                            Open::Object(members, key) | Open::Ecma(members, key) | Open::Typed(_, members, key),
                        ) => {
                            members.push((std::mem::take(key), value));
                        }
                    },
                }
                if self.goes_on(&mut open)? {
                    break;
                }
                whole = Some(match open.pop() {
                    Some(Open::Object(members, _)) => Value::Object(members),
                    Some(Open::Ecma(members, _)) => Value::EcmaArray(members),
                    Some(Open::Typed(class, members, _)) => Value::Typed(class, members),
                    Some(Open::Strict(values, _)) => Value::StrictArray(values),
                    None => return Err(AmfError::End(self.position())),
                });
            }
        }
    }

    /// Whether the innermost container has a further value; the key in front of it is taken.
    fn goes_on(&mut self, open: &mut [Open]) -> Result<bool, AmfError> {
        match open.last_mut() {
            None => Ok(false),
            Some(Open::Strict(_, left)) => Ok(*left > 0),
            // Some encoders leave out the end of the last array.
            Some(Open::Ecma(..)) if self.rest.is_empty() => Ok(false),
            Some(Open::Object(_, key) | Open::Ecma(_, key) | Open::Typed(_, _, key)) => {
                let name = self.short_bytes()?;
                if name.is_empty() && self.rest.first() == Some(&OBJECT_END) {
                    self.take(1)?;
                    return Ok(false);
                }
                *key = text(name);
                Ok(true)
            }
        }
    }

    /// A simple value, or `None` and a container more in `open`.
    fn simple_or_open(&mut self, open: &mut Vec<Open>) -> Result<Option<Value>, AmfError> {
        let at = self.position();
        self.budget = self.budget.checked_sub(1).ok_or(AmfError::Values)?;
        let [marker] = self.array()?;
        let container = match marker {
            NUMBER => return Ok(Some(Value::Number(f64::from_be_bytes(self.array()?)))),
            BOOLEAN => return Ok(Some(Value::Boolean(self.array::<1>()? != [0]))),
            STRING => return Ok(Some(Value::String(text(self.short_bytes()?)))),
            LONG_STRING => return Ok(Some(Value::String(text(self.long_bytes()?)))),
            XML_DOCUMENT => return Ok(Some(Value::Xml(text(self.long_bytes()?)))),
            NULL => return Ok(Some(Value::Null)),
            UNDEFINED | UNSUPPORTED => return Ok(Some(Value::Undefined)),
            REFERENCE => return Ok(Some(Value::Reference(u16::from_be_bytes(self.array()?)))),
            DATE => {
                let ms = f64::from_be_bytes(self.array()?);
                return Ok(Some(Value::Date(ms, i16::from_be_bytes(self.array()?))));
            }
            AVMPLUS => return self.amf3().map(Some),
            OBJECT => Open::Object(Members::new(), Box::default()),
            TYPED_OBJECT => Open::Typed(text(self.short_bytes()?), Members::new(), Box::default()),
            ECMA_ARRAY => {
                // The count is a hint that encoders lie in: the end marker counts.
                let _count: [u8; 4] = self.array()?;
                Open::Ecma(Members::new(), Box::default())
            }
            STRICT_ARRAY => Open::Strict(Vec::new(), u32::from_be_bytes(self.array()?)),
            _ => return Err(AmfError::Marker(at)),
        };
        if open.len() >= DEPTH_MAX {
            return Err(AmfError::Depth);
        }
        open.push(container);
        Ok(None)
    }

    /// A simple AMF3 value behind a switch marker.
    fn amf3(&mut self) -> Result<Value, AmfError> {
        let at = self.position();
        let [marker] = self.array()?;
        match marker {
            0x00 => Ok(Value::Undefined),
            0x01 => Ok(Value::Null),
            0x02 => Ok(Value::Boolean(false)),
            0x03 => Ok(Value::Boolean(true)),
            0x04 => {
                // 29 bits with a sign.
                let raw = self.u29()?;
                let wide = if raw >= 1 << 28 { raw | 0xE000_0000 } else { raw };
                Ok(Value::Number(f64::from(wide.cast_signed())))
            }
            0x05 => Ok(Value::Number(f64::from_be_bytes(self.array()?))),
            0x06 => {
                let head = self.u29()?;
                if head & 1 == 0 {
                    return Err(AmfError::Amf3(at));
                }
                let length = usize::try_from(head >> 1).unwrap_or(usize::MAX);
                Ok(Value::String(text(self.take(length)?)))
            }
            _ => Err(AmfError::Amf3(at)),
        }
    }

    /// One to four bytes of 7, 7, 7 and 8 bits.
    fn u29(&mut self) -> Result<u32, AmfError> {
        let mut value = 0_u32;
        for index in 0..4 {
            let [byte] = self.array()?;
            if index == 3 {
                return Ok(value << 8 | u32::from(byte));
            }
            value = value << 7 | u32::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    fn short_bytes(&mut self) -> Result<&'a [u8], AmfError> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(usize::from(length))
    }

    fn long_bytes(&mut self) -> Result<&'a [u8], AmfError> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| AmfError::End(self.position()))?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], AmfError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or_else(|| AmfError::End(self.position()))?;
        self.rest = rest;
        Ok(head)
    }
}

fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}
