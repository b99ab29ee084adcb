//! What a viewer shows and wants in the query of its address, whatever the protocol.

use std::time::Duration;

use super::{Merge, PlayOptions, Start};
use crate::extension::{Credentials, Secret};

/// How a viewer wants its stream, as the query says.
pub(super) fn play_options(credentials: &Credentials) -> PlayOptions {
    let millis = |name| credentials.param(name).and_then(|value| value.parse::<u64>().ok());
    PlayOptions {
        start: match credentials.param("start") {
            Some("instant") => Some(Start::Instant),
            Some("live") => Some(Start::Live),
            Some("catch-up") => Some(Start::CatchUp),
            // What is more than the application keeps is refused with a reason, so here it needs no bound.
            _ => millis("behind_ms").map(|ms| Start::Behind(Duration::from_millis(ms))),
        },
        merge: millis("merge_ms").map(|ms| match ms.min(MERGE_MS_MAX) {
            0 => Merge::Off,
            ms => Merge::Window(Duration::from_millis(ms)),
        }),
        max_age: millis("max_age_ms").filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms.min(MAX_AGE_MS_MAX))),
    }
}

/// Of a parameter that stands twice, the first counts: the name's before the application's before `tcUrl`'s.
pub(super) fn credentials(query: &str) -> Credentials {
    let mut out = Credentials::from_query(query);
    let first =
        |names: [&str; 2]| out.params.iter().find(|(key, _)| names.contains(&&**key)).map(|(_, v)| v.expose());
    let token = first(["token", "key"]).map(Secret::new);
    let user = first(["user", "user"]).map(Into::into);
    let password = first(["password", "pass"]).map(Secret::new);
    (out.token, out.user, out.password) = (token, user, password);
    out
}

/// The longest merge window that a viewer can ask for.
const MERGE_MS_MAX: u64 = 10_000;
/// The farthest that a viewer can ask to be behind.
const MAX_AGE_MS_MAX: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_of_a_viewer_are_bounded() {
        let options = |query: &str| play_options(&Credentials::from_query(query));
        assert_eq!(options(""), PlayOptions::default());
        assert_eq!(options("merge_ms=0").merge, Some(Merge::Off));
        assert_eq!(options("merge_ms=50").merge, Some(Merge::Window(Duration::from_millis(50))));
        assert_eq!(options("merge_ms=99999999").merge, Some(Merge::Window(Duration::from_secs(10))));
        assert_eq!(options("merge_ms=-1&max_age_ms=x"), PlayOptions::default());
        assert_eq!(options("start=live").start, Some(Start::Live));
        assert_eq!(options("start=instant&behind_ms=5").start, Some(Start::Instant));
        assert_eq!(options("start=catch-up").start, Some(Start::CatchUp));
        assert_eq!(options("behind_ms=30000").start, Some(Start::Behind(Duration::from_secs(30))));
        assert_eq!(options("start=yesterday&behind_ms=-1").start, None, "as the application says");
        assert_eq!(options("max_age_ms=1500").max_age, Some(Duration::from_millis(1500)));
    }
}
