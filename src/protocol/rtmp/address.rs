//! What a URL says: application, stream name, credentials, wishes.
//!
//! Clients cut `rtmp://user:pass@host/app/name?query` in different places: FFmpeg takes two path segments for
//! the application where there are three, OBS takes what its two fields hold, and a query may be part of either
//! or only of `tcUrl`. So everything is joined again before it is split.

use super::amf::Value;
use crate::extension::Credentials;
use crate::id::{NameError, StreamKey};
use crate::protocol::wishes::credentials;

/// Bytes of all queries together.
const QUERY_BYTES_MAX: usize = 8 * 1024;

/// What `connect` said.
pub(super) struct Address {
    /// The path before the name, without slashes at its ends; may be empty.
    path: Box<str>,
    /// Queries of the application and of `tcUrl`, then its user and password as a query.
    query: Box<str>,
}

impl Address {
    /// Reads the command object of `connect`.
    pub(super) fn from_connect(object: &Value) -> Result<Self, NameError> {
        let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let (url, url_query) = split_query(text("tcUrl"));
        let (app, app_query) = split_query(text("app"));
        let (authority, url_path) = split_url(url);
        let app = app.trim_matches('/');
        let path = if app.is_empty() { url_path.trim_matches('/') } else { app };
        if path.len() > crate::limits::NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if !path.is_empty() {
            // Whatever the name will be: a path that no name can mend is refused at once.
            StreamKey::parse(&format!("{path}/n"))?;
        }
        let mut query = String::new();
        join(&mut query, app_query);
        if url_query != app_query {
            join(&mut query, url_query);
        }
        if let Some((user, password)) = authority
            .rsplit_once('@')
            .map(|(login, _)| login)
            .map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            for (key, value) in [("user", user), ("password", password)] {
                if !value.is_empty() {
                    join(&mut query, &format!("{key}={}", value.replace('+', "%2B").replace('&', "%26")));
                }
            }
        }
        if query.len() > QUERY_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self { path: path.into(), query: query.into() })
    }

    /// The stream that `publish` or `play` names, and what was shown for it.
    pub(super) fn stream(&self, name: &str) -> Result<(StreamKey, Credentials), NameError> {
        let (name, name_query) = split_query(name);
        if name.len() > crate::limits::NAME_BYTES_MAX || name_query.len() > QUERY_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        // Flash's file type prefixes; FFmpeg adds "mp4:" to names that end so.
        let name = ["mp4:", "flv:", "mp3:"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let name = name.trim_matches('/');
        let key = match (&*self.path, name) {
            ("", name) => StreamKey::parse(name)?,
            (path, "") => StreamKey::parse(path)?,
            (path, name) => StreamKey::parse(&format!("{path}/{name}"))?,
        };
        let mut query = name_query.to_owned();
        join(&mut query, &self.query);
        Ok((key, credentials(&query)))
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// Authority and path of `scheme://authority/path`.
fn split_url(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split_once('/').unwrap_or((rest, ""))
}

fn join(query: &mut String, more: &str) {
    if !more.is_empty() {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(app: &str, url: &str) -> Result<Address, NameError> {
        Address::from_connect(&Value::object([("app", Value::string(app)), ("tcUrl", Value::string(url))]))
    }

    fn key(app: &str, name: &str) -> Result<String, NameError> {
        address(app, "").and_then(|a| a.stream(name)).map(|(key, _)| key.to_string())
    }

    #[test]
    fn wherever_the_client_cuts_the_path_the_stream_is_the_same() {
        for (app, name) in [
            ("live", "a/b"),
            ("live/a", "b"),
            ("live/a/b", ""),
            ("", "live/a/b"),
            ("live/", "a/b"),
            ("/live", "/a/b"),
            ("live/a/", "mp4:b"),
            ("live?token=x", "a/b?token=y"),
        ] {
            assert_eq!(key(app, name).as_deref(), Ok("live/a/b"), "{app:?} {name:?}");
        }
        let from_url = address("", "rtmp://host:1935/live/a").unwrap().stream("b").unwrap().0;
        assert_eq!(from_url.as_str(), "live/a/b");
    }

    #[test]
    fn names_that_are_not_allowed_are_refused_wherever_they_stand() {
        for (app, name) in [
            ("live", ".."),
            ("live", "a/../b"),
            ("..", "a"),
            ("live", "%2e%2e"),
            ("live", "a\\b"),
            ("live", "a\u{202e}"),
            ("live", "a\0"),
            ("live", ""),
            ("", ""),
            ("li ve", "a"),
        ] {
            assert!(key(app, name).is_err(), "{app:?} {name:?}");
        }
        assert_eq!(key("live", &"n".repeat(65_535)), Err(NameError::TooLong));
        assert_eq!(key(&"a".repeat(65_535), "n"), Err(NameError::TooLong));
        assert_eq!(key("live", &format!("n?{}", "q".repeat(65_535))), Err(NameError::TooLong));
    }

    #[test]
    fn the_query_nearest_to_the_name_counts() {
        let address = address("live?token=app&room=1", "rtmp://host/live?token=url&who=me").unwrap();
        let (_, shown) = address.stream("a?token=name").unwrap();
        assert_eq!(shown.token.unwrap().expose(), "name");
        let (_, shown) = address.stream("a").unwrap();
        assert_eq!(shown.token.as_ref().unwrap().expose(), "app");
        assert_eq!((shown.param("room"), shown.param("who")), (Some("1"), Some("me")));
    }

    #[test]
    fn user_and_password_of_the_url_are_credentials() {
        let (_, shown) = address("live", "rtmp://eve:p+w%21@host/live").unwrap().stream("a").unwrap();
        assert_eq!((shown.user.as_deref(), shown.password.unwrap().expose()), (Some("eve"), "p+w!"));
        let (_, shown) = address("live", "rtmp://host/live").unwrap().stream("a?user=bob&pass=x").unwrap();
        assert_eq!((shown.user.as_deref(), shown.password.unwrap().expose()), (Some("bob"), "x"));
    }
}
