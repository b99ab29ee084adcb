//! What the running program's own file tells about its making.

use std::fs::File;
use std::io::{BufReader, Read};

/// The compiler, as it signed the program: the linker keeps its words in the section `.comment`. Empty if they are
/// not there.
pub(super) fn compiler() -> String {
    let Ok(file) = std::env::current_exe().and_then(File::open) else { return String::new() };
    find(BufReader::new(file)).unwrap_or_default()
}

/// `rustc version 1.95.0 (59807616e 2026-04-14)` up to its end, without the word `version`.
fn find(mut program: impl Read) -> Option<String> {
    // Not one literal: it would find itself.
    let mark = ["rustc", " version "].concat().into_bytes();
    let mut window = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = program.read(&mut block).ok().filter(|read| *read > 0)?;
        window.extend_from_slice(&block[..read]);
        let mut from = 0;
        while let Some(at) = window[from..].windows(mark.len()).position(|bytes| bytes == mark) {
            let text = &window[from + at + mark.len()..];
            // Its end may be in the next block.
            if text.len() < TEXT_BYTES_MAX && read == BLOCK_BYTES {
                break;
            }
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len()).min(TEXT_BYTES_MAX);
            let text = String::from_utf8_lossy(&text[..end]).into_owned();
            if text.starts_with(|first: char| first.is_ascii_digit()) {
                return Some(format!("rustc {text}"));
            }
            from += at + mark.len();
        }
        let keep = window.len().min(mark.len() + TEXT_BYTES_MAX);
        window.drain(..window.len() - keep);
    }
}

const BLOCK_BYTES: usize = 256 * 1024;
const TEXT_BYTES_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_read_out_of_a_program() {
        let program =
            [&[7; 300_000][..], b"rustc version 1.2.3 (abc 2020-01-01)\0GCC: (x)\0", &[0; 100][..]].concat();
        assert_eq!(find(&program[..]).as_deref(), Some("rustc 1.2.3 (abc 2020-01-01)"));
        assert_eq!(find(&[0; 1000][..]), None);
    }

    #[test]
    fn it_is_found_across_two_blocks() {
        for before in BLOCK_BYTES - 60..BLOCK_BYTES {
            let program =
                [&vec![7; before][..], b"rustc version 1.2.3 (abc 2020-01-01)\0", &[1; 300_000][..]].concat();
            assert_eq!(find(&program[..]).as_deref(), Some("rustc 1.2.3 (abc 2020-01-01)"), "{before}");
        }
    }
}
