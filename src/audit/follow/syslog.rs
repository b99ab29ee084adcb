//! Syslog: each record a message (RFC 5424), over TLS with octet counting (RFC 5425).
//!
//! ```text
//! LEN <110>1 2026-11-28T03:04:05.678901Z HOST shardcast - EVENT [shardcast@32473 log="…" seq="7" h="…"] {"v":1,…}
//! ```
//!
//! Syslog has no answer, so a batch is a connection: it counts as delivered when the peer has read up to our end of it and
//! has ended it in turn. If that is not seen the batch comes again; `log` and `seq` tell what is there already. 32473 is
//! the enterprise number for examples (RFC 5612): we have none of our own.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};

use super::destination::{Batch, DeliveryError, Destination, TrailRecord};
use super::tls::Roots;

/// Where messages go, and how they name us.
#[derive(Clone, Debug)]
pub struct SyslogOptions {
    /// `host:port`; the port of RFC 5425 is 6514. The name is the one that the certificate must have.
    pub address: String,
    /// Facility of the messages, 0 to 23; 13 is "log audit".
    pub facility: u8,
    /// HOSTNAME of the messages.
    pub hostname: String,
}

/// A [`Destination`] that speaks syslog.
pub struct Syslog {
    options: SyslogOptions,
    server: ServerName<'static>,
    client: Arc<ClientConfig>,
}

impl fmt::Debug for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syslog").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Syslog {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// A sentence: the address is none, or no TLS is to be had.
    pub fn new(options: SyslogOptions, roots: &Roots) -> Result<Self, String> {
        let name = options.address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let name = name.map(|(name, _)| name.trim_start_matches('[').trim_end_matches(']').to_owned());
        let server = name.and_then(|name| ServerName::try_from(name).ok());
        let server =
            server.ok_or_else(|| format!("{:?} is no host:port, such as logs.example.org:6514", options.address))?;
        if options.facility > FACILITY_MAX {
            return Err(format!("the facility {} is none: 0 to {FACILITY_MAX}", options.facility));
        }
        let client = roots.client().map_err(|error| error.to_string())?;
        Ok(Self { options, server, client })
    }

    fn send(&self, batch: &Batch<'_>) -> io::Result<()> {
        let mut socket = connect(&self.options.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut tls =
            ClientConnection::new(Arc::clone(&self.client), self.server.clone()).map_err(io::Error::other)?;
        let mut stream = Stream::new(&mut tls, &mut socket);
        let mut messages = Vec::new();
        for record in batch.records {
            let message = message(&self.options, batch.log, record);
            messages.extend_from_slice(format!("{} ", message.len()).as_bytes());
            messages.extend_from_slice(&message);
        }
        stream.write_all(&messages)?;
        stream.flush()?;
        stream.conn.send_close_notify();
        while stream.conn.wants_write() {
            stream.conn.write_tls(stream.sock)?;
        }
        socket.shutdown(Shutdown::Write)?;
        until_the_end(&mut tls, &mut socket)
    }
}

impl Destination for Syslog {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
        self.send(batch).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                DeliveryError::later(format!("it did not answer within {} s", PATIENCE.as_secs()))
            }
            _ => DeliveryError::later(error),
        })
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in address.to_socket_addrs()?.take(ADDRESSES_TRIED) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Reads what comes, which nobody needs, until the peer has ended its side: it has read all of ours by then. A peer that
/// resets the connection has not.
fn until_the_end(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    let mut passed = 0;
    let mut unread = [0; 4096];
    while tls.read_tls(socket)? > 0 {
        tls.process_new_packets().map_err(io::Error::other)?;
        loop {
            match tls.reader().read(&mut unread) {
                Ok(0) => return Ok(()),
                Ok(read) => passed += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if passed > UNREAD_BYTES_MAX {
            return Err(io::Error::other("it answers, which syslog does not do"));
        }
    }
    Ok(())
}

/// One message: RFC 5424, 6. The record is UTF-8 and is marked as such.
fn message(options: &SyslogOptions, log: &str, record: &TrailRecord) -> Vec<u8> {
    let event = record.head().map_or("-", |head| head.event);
    let event = Some(event).filter(|event| is_word(event, 32)).unwrap_or("-");
    let host = Some(&*options.hostname).filter(|host| is_word(host, 255)).unwrap_or("-");
    let severity = match event {
        "loss" | "recovery" | "sync_failed" | "disk_full" | "follower_fail" | "follower_refuse" => WARNING,
        _ => INFORMATIONAL,
    };
    let priority = options.facility * 8 + severity;
    let mut out =
        format!("<{priority}>1 {} {host} shardcast - {event} ", to_the_microsecond(record.wall())).into_bytes();
    // Neither a name of a trail nor digits need be escaped.
    let (seq, hash) = (record.seq, record.hash_hex());
    out.extend_from_slice(format!("[shardcast@32473 log=\"{log}\" seq=\"{seq}\" h=\"{hash}\"] ").as_bytes());
    out.extend_from_slice(b"\xEF\xBB\xBF");
    out.extend_from_slice(&record.line);
    out
}

/// PRINTUSASCII, so long at most.
fn is_word(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// TIMESTAMP has six digits behind the point at most; the record keeps all nine.
fn to_the_microsecond(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, rest)) if rest.len() > 6 => format!("{seconds}.{}Z", rest.get(..6).unwrap_or("000000")),
        _ if time.is_empty() => "-".into(),
        _ => time.into(),
    }
}

const FACILITY_MAX: u8 = 23;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;
const PATIENCE: Duration = Duration::from_secs(10);
const ADDRESSES_TRIED: usize = 8;
const UNREAD_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_as_many_digits_as_the_specification_allows() {
        assert_eq!(to_the_microsecond("2026-11-28T03:04:05.678901234Z"), "2026-11-28T03:04:05.678901Z");
        assert_eq!(to_the_microsecond("2026-11-28T03:04:05.678Z"), "2026-11-28T03:04:05.678Z");
        assert_eq!(to_the_microsecond(""), "-");
    }

    #[test]
    fn what_is_no_address_is_told() {
        let roots = Roots::of_this_machine().unwrap();
        let new = |address: &str, facility| {
            let options = SyslogOptions { address: address.into(), facility, hostname: "h".into() };
            Syslog::new(options, &roots).err()
        };
        for address in ["", "host", "host:", ":1", "a b:6514", "host:70000"] {
            assert!(new(address, 13).is_some_and(|why| why.contains("is no host:port")), "{address}");
        }
        assert!(new("host:6514", 24).is_some_and(|why| why.contains("facility 24")));
        for address in ["host:6514", "10.0.0.1:6514", "[::1]:6514"] {
            assert_eq!(new(address, 13), None, "{address}");
        }
    }
}
