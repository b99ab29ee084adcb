//! The line between this process and its parts: the same program, started again, that reads lines of JSON from its
//! input and writes lines of JSON to its output. A part whose input ends goes.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, unbounded};
use mio::Waker;
use serde::Serialize;

use super::error::RelayError;
use super::plan::{Order, Plan, Said};
use super::process::{self, Guarded};
use super::settings::Programs;

/// A part, as the one who started it sees it.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    orders: Option<ChildStdin>,
    words: BufReader<ChildStdout>,
    // Last, so that its input has ended before it is asked to go.
    child: Guarded,
}

impl Part {
    /// Starts one on `core` that may open `files` files.
    pub(crate) fn start(programs: &Programs, plan: &Plan, core: usize, files: usize) -> Result<Self, RelayError> {
        let name = match plan {
            Plan::Generate(_) => "generator",
            Plan::Floor(_) => "floor",
            Plan::Hold(_) => "holder of connections",
        };
        let mut command = process::command(&programs.own, files)?;
        command.args(&programs.part).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            Guarded::spawn(command, Some(core)).map_err(RelayError::system(format!("cannot start the {name}")))?;
        let orders = child.child().stdin.take();
        let Some(words) = child.child().stdout.take().map(BufReader::new) else {
            return Err(RelayError::Silent { part: name, said: String::new() });
        };
        let mut part = Self { name, orders, words, child };
        part.write(plan)?;
        Ok(part)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Says what to do next.
    pub(crate) fn tell(&mut self, order: Order) -> Result<(), RelayError> {
        self.write(&order)
    }

    /// Waits for what it says next; what went wrong there is an error here.
    pub(crate) fn hear(&mut self) -> Result<Said, RelayError> {
        let mut line = String::new();
        self.words.read_line(&mut line).map_err(RelayError::system(format!("cannot hear the {}", self.name)))?;
        match serde_json::from_str(&line) {
            Ok(Said::Failed(why)) => Err(RelayError::Part(why)),
            Ok(said) => Ok(said),
            Err(_) => Err(RelayError::Silent { part: self.name, said: line.trim().to_owned() }),
        }
    }

    /// What it should not have said.
    pub(crate) fn unexpected(&self, said: &Said) -> RelayError {
        RelayError::Silent { part: self.name, said: format!("{said:?}") }
    }

    /// Ends its input, so that it goes.
    pub(crate) fn end(&mut self) {
        self.orders = None;
    }

    fn write(&mut self, value: &impl Serialize) -> Result<(), RelayError> {
        let Some(orders) = &mut self.orders else { return Ok(()) };
        match orders.write_all(line(value).as_bytes()) {
            // It has gone, and has said why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(RelayError::system(format!("cannot tell the {} what to do", self.name))),
        }
    }
}

/// The other end, in the part.
#[derive(Debug)]
pub(crate) struct Orders {
    received: Receiver<Order>,
    over: Arc<AtomicBool>,
}

impl Orders {
    /// Reads the plan, from the first line of the input.
    pub(crate) fn plan() -> Result<Plan, RelayError> {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(RelayError::system("cannot read the plan"))?;
        serde_json::from_str(&line).map_err(|error| RelayError::Part(format!("the plan is none: {error}")))
    }

    /// Listens on a thread of its own, which wakes the loop.
    pub(crate) fn listen(waker: Waker) -> Self {
        let (send, received) = unbounded();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if let Ok(order) = serde_json::from_str(&line) {
                    let _gone = send.send(order);
                }
                let _woken = waker.wake();
            }
            ended.store(true, Ordering::Release);
            let _woken = waker.wake();
        });
        Self { received, over }
    }

    /// Orders from the same process: how a test leads a generator.
    #[cfg(test)]
    pub(crate) fn given(received: Receiver<Order>) -> Self {
        Self { received, over: Arc::new(AtomicBool::new(false)) }
    }

    /// What has been said since.
    pub(crate) fn next(&self) -> Option<Order> {
        self.received.try_recv().ok()
    }

    /// Whether nobody is there any more who could say something.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// Ends this process when the input ends, for a part that blocks in its work.
pub(crate) fn end_with_input() {
    std::thread::spawn(|| {
        let _any = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(1);
    });
}

/// Says it to the parent.
pub(crate) fn say(said: &Said) {
    let mut out = io::stdout().lock();
    // A parent that has gone hears nothing, and the input has ended.
    let _gone = out.write_all(line(said).as_bytes()).and_then(|()| out.flush());
}

fn line(value: &impl Serialize) -> String {
    // Our own types have string keys and no failing parts.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}
