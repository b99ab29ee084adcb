//! Where a server is, as a user writes it.

use std::fmt;
use std::str::FromStr;

/// `rtmp://host[:port]/app[/name][?query]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port, as they were written.
    pub host: String,
    /// The application.
    pub app: String,
    /// The name of the stream.
    pub name: Option<String>,
    /// What stands behind the name.
    pub query: Option<String>,
}

/// Why a text is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Another scheme, or none.
    Scheme,
    /// Nothing behind the host.
    NoApp,
    /// Nothing where something must be.
    Empty,
    /// Not from 0 to 65,535.
    Port,
}

impl UrlError {
    /// What is wrong.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Scheme => "it does not begin with rtmp://",
            Self::NoApp => "no application is named",
            Self::Empty => "host or application is empty",
            Self::Port => "there is no such port",
        }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// What to look up: the host without brackets, and the port.
    ///
    /// # Errors
    /// [`UrlError::Port`].
    pub fn host_and_port(&self) -> Result<(&str, u16), UrlError> {
        let bare = |host| str::trim_end_matches(str::trim_start_matches(host, '['), ']');
        match self.host.rsplit_once(':') {
            Some((host, port))
                if port.bytes().all(|byte| byte.is_ascii_digit()) && (host.ends_with(']') || !host.contains(':')) =>
            {
                Ok((bare(host), port.parse().map_err(|_| UrlError::Port)?))
            }
            _ => Ok((bare(&self.host), RTMP_PORT)),
        }
    }

    /// The name with its query, as `publish` and `play` name it; none if there is no name.
    #[must_use]
    pub fn stream(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(self.query.as_ref().map_or_else(|| name.clone(), |query| format!("{name}?{query}")))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (rest, query) = match text.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (text, None),
        };
        let rest = rest.strip_prefix("rtmp://").ok_or(UrlError::Scheme)?;
        let (host, path) = rest.split_once('/').ok_or(UrlError::NoApp)?;
        let (app, name) = match path.split_once('/') {
            Some((app, name)) => (app, Some(name.trim_end_matches('/')).filter(|name| !name.is_empty())),
            None => (path, None),
        };
        if host.is_empty() || app.is_empty() {
            return Err(UrlError::Empty);
        }
        let url = Self { host: host.into(), app: app.into(), name: name.map(str::to_owned), query };
        url.host_and_port()?;
        Ok(url)
    }
}

/// Where RTMP listens unless told otherwise.
const RTMP_PORT: u16 = 1935;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_address_is_found() {
        let url: Url = "rtmp://127.0.0.1:1936/live/cam/1?token=a".parse().unwrap();
        assert_eq!((url.host.as_str(), url.app.as_str()), ("127.0.0.1:1936", "live"));
        assert_eq!(url.host_and_port(), Ok(("127.0.0.1", 1936)));
        assert_eq!((url.name.as_deref(), url.query.as_deref()), (Some("cam/1"), Some("token=a")));
        assert_eq!(url.stream().as_deref(), Some("cam/1?token=a"));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        for (text, place) in [
            ("rtmp://host/live", ("host", 1935)),
            ("rtmp://host:7/live/", ("host", 7)),
            ("rtmp://[::1]/live", ("::1", 1935)),
            ("rtmp://[::1]:5/live", ("::1", 5)),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host_and_port(), url.stream()), (Ok(place), None), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, why) in [
            ("http://127.0.0.1/live", UrlError::Scheme),
            ("rtmp://127.0.0.1", UrlError::NoApp),
            ("rtmp:///live", UrlError::Empty),
            ("rtmp://127.0.0.1:99999/live", UrlError::Port),
        ] {
            assert_eq!(text.parse::<Url>(), Err(why), "{text}");
        }
    }
}
