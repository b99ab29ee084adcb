//! The pages of the server: what is live, and a player for the browser. Everything comes from the program itself.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use shardcast::Router;
use shardcast::extension::{Resource, ResourceAnswer, ResourceRequest, Resources};
use shardcast::id::StreamKey;

use super::hls::Shelves;

/// What is served beside live media.
#[derive(Debug)]
pub(super) struct Site {
    /// Known when it runs.
    router: OnceLock<Weak<Router>>,
    /// Names of streams are shown to everybody: nobody is asked who they are.
    lists: AtomicBool,
    shelves: Arc<Shelves>,
}

impl Site {
    pub(super) fn new(lists: bool, shelves: Arc<Shelves>) -> Self {
        Self { router: OnceLock::new(), lists: AtomicBool::new(lists), shelves }
    }

    /// The configuration says so from now on.
    pub(super) fn set_lists(&self, lists: bool) {
        self.lists.store(lists, Ordering::Relaxed);
    }

    pub(super) fn runs(&self, router: &Arc<Router>) {
        let _ = self.router.set(Arc::downgrade(router));
    }

    fn list(&self) -> Resource {
        let mut page = String::from(LIST_BEGIN);
        if self.lists.load(Ordering::Relaxed) {
            let router = self.router.get().and_then(Weak::upgrade);
            let mut live: Vec<_> =
                router.iter().flat_map(|router| router.streams()).map(|listed| listed.key).collect();
            live.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            if live.is_empty() {
                page.push_str("<p class=\"faint\">Nothing is live.</p>\n");
            } else {
                let _ = writeln!(page, "<p class=\"faint\">{} live:</p>\n<ul>", live.len());
                for key in live.iter().take(LISTED_MAX) {
                    let name = escaped(key.as_str());
                    let _ = writeln!(page, "<li><a href=\"/watch/{name}\">{name}</a></li>");
                }
                page.push_str("</ul>\n");
            }
        } else {
            page.push_str(
                "<p class=\"faint\">Streams are not listed here: who watches is asked who they are. Open \
                           <code>/watch/APP/NAME?token=…</code></p>\n",
            );
        }
        page.push_str("</main>\n</body>\n</html>\n");
        html(page.into())
    }
}

impl Resources for Site {
    fn file(&self, key: &StreamKey, request: &ResourceRequest<'_>) -> ResourceAnswer {
        self.shelves.file(key, request)
    }

    fn page(&self, path: &str) -> Option<Resource> {
        if path == "/" {
            return Some(self.list());
        }
        if let Some(stream) = path.strip_prefix("/watch/") {
            let key = StreamKey::parse(stream).ok()?;
            return Some(html(WATCH.replace("STREAM", &escaped(key.as_str())).into()));
        }
        let (_, content_type, bytes) = FILES.iter().find(|(name, ..)| path.strip_prefix("/site/") == Some(name))?;
        Some(Resource {
            body: vec![Bytes::from_static(bytes)],
            content_type,
            max_age: Some(Duration::from_secs(3600)),
            etag: Some(concat!("v", env!("CARGO_PKG_VERSION")).into()),
            policy: Some(POLICY),
        })
    }
}

fn html(page: Bytes) -> Resource {
    let content_type = "text/html; charset=utf-8";
    Resource { body: vec![page], content_type, max_age: None, etag: None, policy: Some(POLICY) }
}

/// Names of streams hold nothing that HTML takes for its own; should that change, this does not.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Nothing from anywhere else; media of the page's own making, which is how Media Source Extensions work.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'";

/// More would be no page for people.
const LISTED_MAX: usize = 1_000;

const LIST_BEGIN: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>shardcast</title>\n\
    <link rel=\"stylesheet\" href=\"/site/style.css\">\n<link rel=\"icon\" href=\"data:,\">\n</head>\n<body>\n<main>\n\
    <h1>shardcast</h1>\n";
const WATCH: &str = include_str!("watch.html");
const SCRIPT: &str = "text/javascript; charset=utf-8";
const FILES: [(&str, &str, &[u8]); 5] = [
    ("style.css", "text/css; charset=utf-8", include_bytes!("style.css")),
    ("watch.js", SCRIPT, include_bytes!("watch.js")),
    ("hls.js", SCRIPT, include_bytes!("vendor/hls.min.js")),
    ("mpegts.js", SCRIPT, include_bytes!("vendor/mpegts.js")),
    ("licenses.txt", "text/plain; charset=utf-8", include_bytes!("vendor/LICENSES.txt")),
];

#[cfg(test)]
mod tests {
    use shardcast::record::hls::Settings;

    use super::*;

    fn site(lists: bool) -> Site {
        Site::new(lists, Shelves::new(Settings::default()).0)
    }

    fn text(resource: &Resource) -> String {
        String::from_utf8(resource.body.concat()).unwrap()
    }

    #[test]
    fn every_page_keeps_to_itself_and_names_only_files_that_are_there() {
        let site = site(true);
        for path in ["/", "/watch/live/a"] {
            let page = site.page(path).unwrap();
            assert!(page.policy.is_some_and(|policy| policy.starts_with("default-src 'none'")));
            let page = text(&page);
            assert!(!page.contains("://") && !page.contains("onclick") && !page.contains("<style"), "{page}");
            for part in page.split("=\"/site/").skip(1) {
                let name = part.split('"').next().unwrap();
                assert!(site.page(&format!("/site/{name}")).is_some(), "{name}");
            }
        }
        for path in ["/watch/", "/watch/live", "/watch/live/<script>", "/watch/live/..", "/site/", "/site/x", "/x"] {
            assert!(site.page(path).is_none(), "{path}");
        }
        assert!(text(&site.page("/watch/live/a").unwrap()).contains("<span>live/a</span>"));
    }

    #[test]
    fn where_people_are_asked_who_they_are_nothing_is_listed() {
        assert!(text(&site(false).page("/").unwrap()).contains("not listed here"));
        assert!(text(&site(true).page("/").unwrap()).contains("Nothing is live"));
        assert_eq!(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
