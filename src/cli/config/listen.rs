//! Addresses to listen on: no two on one port, and nothing open to other machines by accident.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Access;

/// Loopback only: whoever wants more says so.
pub(super) const DEFAULT_RTMP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1935);
/// Listened on where nobody says anything and where nobody else does.
pub(crate) const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// An address and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("must be an address and a port, such as \"127.0.0.1:1935\" or \"[::]:1935\", not {text:?}")
    })
}

/// Whether one may listen on all of these.
pub(super) fn check(rtmp: &[SocketAddr], http: &[SocketAddr], access: &Access) -> Result<(), String> {
    if rtmp.is_empty() {
        return Err("listen.rtmp must name at least one address, such as \"127.0.0.1:1935\"".into());
    }
    let named = |name: &'static str, addresses: &[SocketAddr]| -> Vec<_> {
        addresses.iter().map(|address| (name, *address)).collect()
    };
    let all = [named("listen.rtmp", rtmp), named("listen.http", http)].concat();
    for (index, (name, address)) in all.iter().enumerate() {
        if let Some((_, other)) = all[..index].iter().find(|(_, other)| collide(*other, *address)) {
            return Err(format!("{name} must not name one port twice: {other} and {address} overlap; remove one"));
        }
    }
    if access.open && access.is_guarded() {
        return Err(
            "auth.open (or --open) must not stand beside users or token keys: it would let everybody in; remove one"
                .into(),
        );
    }
    let reachable = all.iter().find(|(_, address)| !address.ip().to_canonical().is_loopback());
    match reachable {
        Some((name, address)) if !access.open && !access.is_guarded() => Err(format!(
            "{name} has {address}, which other machines can reach, and anybody could publish and play: give users \
             or token keys in [auth] (or --token-secret-file FILE), listen on 127.0.0.1, or say --open if that is what you want"
        )),
        _ => Ok(()),
    }
}

/// Whether two listeners would get each other's connections. `[::]` takes IPv4 as well on most systems.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}
