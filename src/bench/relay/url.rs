//! Where a server is, as a user writes it.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use super::error::RelayError;
use crate::protocol::rtmp::client::{self, UrlError};

/// `rtmp://host[:port]/app[/name][?query][#PID]`, its host looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    /// Host and port, as they were written.
    pub(crate) host: String,
    pub(crate) app: String,
    /// What to publish and play; several streams get a number behind it.
    pub(crate) name: Option<String>,
    /// For publishing and playing alike.
    pub(crate) query: Option<String>,
    /// The server's process, if it runs here and its CPU time is to be read.
    pub(crate) pid: Option<u32>,
}

impl FromStr for Url {
    type Err = RelayError;

    fn from_str(text: &str) -> Result<Self, RelayError> {
        let wrong = |why| RelayError::Url { url: text.to_owned(), why };
        let (rest, pid) = match text.split_once('#') {
            Some((rest, pid)) => (rest, Some(pid.parse().map_err(|_| wrong("what is behind # is no process id"))?)),
            None => (text, None),
        };
        let client::Url { host, app, name, query } =
            rest.parse().map_err(|error: UrlError| wrong(error.sentence()))?;
        let place = client::Url { host: host.clone(), app: String::new(), name: None, query: None };
        let looked_up = place.host_and_port().ok().and_then(|place| place.to_socket_addrs().ok());
        let address = looked_up.and_then(|mut all| all.next()).ok_or_else(|| wrong("no such host or port"))?;
        Ok(Self { address, host, app, name, query, pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn every_part_of_an_address_is_found() {
        let url = read("rtmp://127.0.0.1:1936/live/cam/1?token=a#77");
        assert_eq!((url.address.to_string(), url.host), ("127.0.0.1:1936".into(), "127.0.0.1:1936".into()));
        assert_eq!((url.app, url.name), ("live".into(), Some("cam/1".into())));
        assert_eq!((url.query, url.pid), (Some("token=a".into()), Some(77)));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        for text in ["rtmp://127.0.0.1/live", "rtmp://127.0.0.1/live/"] {
            let url = read(text);
            assert_eq!((url.address.port(), url.name, url.query, url.pid), (1935, None, None, None));
        }
        assert_eq!(read("rtmp://[::1]/live").address.to_string(), "[::1]:1935");
        assert_eq!(read("rtmp://[::1]:5/live").address.to_string(), "[::1]:5");
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, why) in [
            ("http://127.0.0.1/live", "rtmp://"),
            ("rtmp://127.0.0.1", "application"),
            ("rtmp:///live", "empty"),
            ("rtmp://127.0.0.1/live#me", "process"),
            ("rtmp://127.0.0.1:99999/live", "port"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(why), "{error}");
        }
    }
}
