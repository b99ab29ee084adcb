//! Texts of others as people may see them.

use shardcast::audit::is_sly;

/// What would move a cursor, begin a line, hide itself or turn the direction of writing is a `·`.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_sly(c) { '·' } else { c }).collect()
}

/// The same, with an end where it has more than `most` characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let mut shown = plain(text);
    if let Some((at, _)) = shown.char_indices().nth(most) {
        let end = shown[..at].char_indices().next_back().map_or(0, |(last, _)| last);
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_moves_a_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\r\n\u{202e}c"), "a·[2Jb···c");
    }

    #[test]
    fn what_is_too_long_says_so_and_is_as_long_as_it_may_be() {
        assert_eq!(shortened("a\nbc", 4), "a·bc");
        assert_eq!(shortened("äbcdef", 4), "äbc…");
        assert_eq!(shortened("", 0), "");
    }
}
