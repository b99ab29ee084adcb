//! What a peer shows to be let in, kept out of every print-out.

use std::fmt;

/// What a peer shows to be let in.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The token or stream key.
    pub token: Option<Secret>,
    /// A user name.
    pub user: Option<Box<str>>,
    /// A password.
    pub password: Option<Secret>,
    /// All parameters of the request, in order; those that hold a secret are above as well.
    pub params: Vec<(Box<str>, Secret)>,
}

impl Credentials {
    /// The first parameter of this name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| &**key == name).map(|(_, value)| value.expose())
    }

    /// Parses `a=1&b=2` (application/x-www-form-urlencoded), at most 32 pairs. `token` (or `key`), `user` and
    /// `password` (or `pass`) are recognised.
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        let mut out = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()).take(32) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (percent_decode(key), percent_decode(value));
            match &*key {
                "token" | "key" => out.token = Some(Secret::new(&value)),
                "user" => out.user = Some(value.as_str().into()),
                "password" | "pass" => out.password = Some(Secret::new(&value)),
                _ => {}
            }
            out.params.push((key.into(), Secret::new(&value)));
        }
        out
    }
}

/// A text that must not be printed: its `Debug` says only that it is there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for comparing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], hex) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', None) => {
                out.push(b' ');
                at += 1;
            }
            (byte, None) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_gives_token_user_and_all_parameters() {
        let found = Credentials::from_query("token=a%2Fb&user=eve&x=1+2&token=");
        assert_eq!(found.user.as_deref(), Some("eve"));
        assert_eq!(found.param("x"), Some("1 2"));
        assert_eq!(found.params[0].1.expose(), "a/b");
    }

    #[test]
    fn a_secret_is_never_printed() {
        let shown = format!("{:?}", Credentials::from_query("token=hunter2&password=hunter2&q=hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
