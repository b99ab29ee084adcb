//! Connections that do nothing: handshake, `connect`, `createStream`, `play` of a stream that is not there.
//!
//! The client half runs in processes of its own and holds its connections until its input ends.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use super::link::Link;
use super::options::Options;
use super::session::{Progress, Purpose, Role};

/// Connections that may be between `connect` and `play` at once: less than any listener's queue.
const OPENING_MAX: usize = 64;
/// Without progress for so long, the rest is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens them, prints `settled N` once, and at its end `left N`.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let address: SocketAddr = options.get("address")?;
    let count: usize = options.get("connections")?;
    let purpose = Purpose {
        role: Role::Play,
        app: Rc::from(options.get::<String>("app")?),
        host: Rc::from(address.to_string()),
        stream: Rc::from("absent"),
    };
    let mut poll = Poll::new()?;
    let over = over_at_end_of_input(&poll, Token(count))?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let mut links: Vec<Option<Link>> = Vec::with_capacity(count);
    let (mut settled, mut lost, mut reported) = (0, 0, false);
    while !over.load(Ordering::Relaxed) {
        while links.len() < count && links.len() - settled - lost < OPENING_MAX {
            let token = Token(links.len());
            links.push(Some(Link::connect(poll.registry(), token, address, purpose.clone())?));
        }
        poll.poll(&mut events, Some(PATIENCE))?;
        let stuck = events.is_empty();
        for event in &events {
            let Some(slot) = links.get_mut(event.token().0) else { continue };
            let Some(link) = slot else { continue };
            let before = is_settled(link);
            let mut result = if event.is_writable() { link.on_writable() } else { Ok(()) };
            if event.is_readable() && result.is_ok() {
                result = link.on_readable(&mut buffer, false, |_| {}).map(drop);
            }
            let after = result.is_ok() && is_settled(link);
            match (before, after) {
                (false, true) => settled += 1,
                (true, false) => settled -= 1,
                _ => {}
            }
            if result.is_err() {
                lost += 1;
                *slot = None;
            }
        }
        if !reported && (settled + lost == count || stuck) {
            reported = true;
            println!("settled {settled}");
            io::stdout().flush()?;
        }
    }
    println!("left {settled}");
    Ok(())
}

/// Whether it has asked to play.
fn is_settled(link: &Link) -> bool {
    matches!(link.session().progress(), Progress::Asked | Progress::Started)
}

fn over_at_end_of_input(poll: &Poll, token: Token) -> io::Result<Arc<AtomicBool>> {
    let waker = Waker::new(poll.registry(), token)?;
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    std::thread::spawn(move || {
        let _any = io::stdin().read_to_end(&mut Vec::new());
        ended.store(true, Ordering::Relaxed);
        waker.wake()
    });
    Ok(over)
}
