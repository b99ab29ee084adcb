//! The live view: one table on the alternate screen of a terminal, drawn anew for each interval and key.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::style::{Attribute, SetAttribute};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, queue};
use shardcast::clock::{Clock, Instant};

use super::client::Client;
use super::table::{Sort, View};
use crate::cli::control::model::Stats;

/// Shows it until the user has enough.
///
/// # Errors
/// There is no terminal, or no server any more: in a sentence.
pub(super) fn run(client: &mut Client, mut view: View, interval: Duration) -> Result<(), String> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err("this is no terminal: --once prints a table, --json prints an object for each interval".into());
    }
    let failed = |error: io::Error| format!("the terminal does not work: {error}");
    let clock = Clock::start();
    let mut stats = client.stats()?;
    let mut next = clock.instant() + interval;
    let _terminal = Terminal::take().map_err(failed)?;
    loop {
        draw(client.path(), &view, &stats).map_err(failed)?;
        let wait = next.since(clock.instant());
        if poll(wait).map_err(failed)? {
            let rows = stats.streams.len();
            if let Event::Key(key) = read().map_err(failed)?
                && key.kind != KeyEventKind::Release
                && !pressed(&mut view, key.code, key.modifiers, rows)
            {
                return Ok(());
            }
        }
        if clock.instant() >= next {
            stats = client.stats()?;
            next = next_look(next, interval, clock.instant());
        }
    }
}

/// The next one that is not over yet: a server that was slow is not asked twice for that.
fn next_look(last: Instant, interval: Duration, now: Instant) -> Instant {
    (last + interval).max(now + interval / 2)
}

/// Does what a key says; `false` ends.
fn pressed(view: &mut View, key: KeyCode, modifiers: KeyModifiers, rows: usize) -> bool {
    let last = rows.saturating_sub(1);
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('v') => view.sort = Sort::Viewers,
        KeyCode::Char('b') => view.sort = Sort::Bitrate,
        KeyCode::Char('f') => view.sort = Sort::Fps,
        KeyCode::Char('a') => view.sort = Sort::Age,
        KeyCode::Char('s') => view.sort = Sort::Skipped,
        KeyCode::Char('n') => view.sort = Sort::Name,
        KeyCode::Char('r') => view.reversed = !view.reversed,
        KeyCode::Up => view.from = view.from.saturating_sub(1),
        KeyCode::Down => view.from += 1,
        KeyCode::PageUp => view.from = view.from.saturating_sub(PAGE),
        KeyCode::PageDown => view.from += PAGE,
        KeyCode::Home => view.from = 0,
        KeyCode::End => view.from = last,
        _ => {}
    }
    view.from = view.from.min(last);
    true
}

fn draw(path: &str, view: &View, stats: &Stats) -> io::Result<()> {
    let (width, height) = size()?;
    let (width, height) = (usize::from(width), usize::from(height));
    let mut out = io::stdout().lock();
    queue!(out, cursor::MoveTo(0, 0))?;
    for line in view.lines(stats, height.saturating_sub(1)) {
        let text: String = line.text.chars().take(width).collect();
        if line.head {
            queue!(out, SetAttribute(Attribute::Reverse))?;
        }
        // A row that is full has no end of line to clear.
        write!(out, "{text}")?;
        queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        write!(out, "\r\n")?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    let foot: String = format!("{path}   q ends, v b f a s n sort, r reverses").chars().take(width).collect();
    write!(out, "{foot}")?;
    out.flush()
}

/// Raw mode and the alternate screen, given back whatever happens.
struct Terminal;

impl Terminal {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let terminal = Self;
        let mut out = io::stdout();
        queue!(out, EnterAlternateScreen, cursor::Hide)?;
        out.flush()?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = io::stdout();
        // There is nobody left to tell if this fails.
        let _ = queue!(out, cursor::Show, LeaveAlternateScreen);
        let _ = out.flush();
        let _ = disable_raw_mode();
    }
}

const PAGE: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_scroll_and_end() {
        let mut view = View::new(Sort::Viewers);
        let mut press = |key| {
            let goes_on = pressed(&mut view, key, KeyModifiers::NONE, 30);
            (goes_on, view.sort, view.reversed, view.from)
        };
        assert_eq!(press(KeyCode::Char('a')), (true, Sort::Age, false, 0));
        assert_eq!(press(KeyCode::Char('r')), (true, Sort::Age, true, 0));
        assert_eq!(press(KeyCode::PageDown).3, 20);
        assert_eq!(press(KeyCode::PageDown).3, 29, "the last stream stays");
        assert_eq!(press(KeyCode::Home).3, 0);
        assert_eq!(press(KeyCode::Up).3, 0);
        assert!(!press(KeyCode::Char('q')).0 && !press(KeyCode::Esc).0);
        assert!(!pressed(&mut View::new(Sort::Name), KeyCode::Char('c'), KeyModifiers::CONTROL, 0));
    }
}
