//! As much of AMF0 as an RTMP client needs.

/// A value that a client sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Number(f64),
    Boolean(bool),
    Text(&'a str),
    Null,
    Object(&'a [(&'a str, Self)]),
    EcmaArray(&'a [(&'a str, Self)]),
}

/// The body of a command or data message.
pub(crate) fn write(values: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        value.write(&mut out);
    }
    out
}

impl Value<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(0);
                out.extend(number.to_be_bytes());
            }
            Self::Boolean(boolean) => out.extend([1, u8::from(*boolean)]),
            Self::Text(text) => {
                out.push(2);
                write_text(text, out);
            }
            Self::Null => out.push(5),
            Self::Object(fields) => {
                out.push(3);
                write_fields(fields, out);
            }
            Self::EcmaArray(fields) => {
                out.push(8);
                out.extend(u32::try_from(fields.len()).unwrap_or(0).to_be_bytes());
                write_fields(fields, out);
            }
        }
    }
}

fn write_fields(fields: &[(&str, Value<'_>)], out: &mut Vec<u8>) {
    for (name, value) in fields {
        write_text(name, out);
        value.write(out);
    }
    out.extend([0, 0, 9]);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend(text.as_bytes());
}

/// A server's answer, as far as it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// `_result`, `onStatus`, …
    pub(crate) name: &'a [u8],
    pub(crate) transaction: f64,
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads the name and the transaction.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let len = match body {
            [2, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return None,
        };
        let name = body.get(3..3 + len)?;
        Some(Self { name, transaction: number(&body[3 + len..])?, rest: &body[3 + len + 9..] })
    }

    /// The number behind the command object, which is null: the answer to `createStream`.
    pub(crate) fn number(&self) -> Option<f64> {
        match self.rest {
            [5, rest @ ..] => number(rest),
            _ => None,
        }
    }

    /// The field `code` of a status object.
    pub(crate) fn code(&self) -> &'a [u8] {
        const KEY: &[u8] = b"\0\x04code\x02";
        let Some(at) = self.rest.windows(KEY.len()).position(|window| window == KEY) else { return b"" };
        match &self.rest[at + KEY.len()..] {
            [high, low, rest @ ..] => rest.get(..usize::from(u16::from_be_bytes([*high, *low]))).unwrap_or(b""),
            _ => b"",
        }
    }
}

fn number(bytes: &[u8]) -> Option<f64> {
    match bytes {
        [0, rest @ ..] => Some(f64::from_be_bytes(*rest.first_chunk()?)),
        _ => None,
    }
}
