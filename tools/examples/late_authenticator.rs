//! An authenticator that asks somebody else: the shard goes on meanwhile, and the answer comes from another thread.
//!
//! Three subscribers: one is let in, one is not, and the third is never answered, which is a no when the time is up.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use shardcast::Router;
use shardcast::extension::{AuthReply, AuthRequest, Authenticator, Credentials};
use shardcast::id::StreamKey;
use shardcast::limits::Limits;
use shardcast::reason::Reason;
use shardcast::router::{PublishOptions, SubscribeOptions};

/// Hands each question to the thread that knows; it must not wait for the answer itself.
struct AskLater(Sender<(AuthRequest, AuthReply)>);

impl Authenticator for AskLater {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        // If nobody is there to answer, the reply is dropped, and that is a no.
        let _ = self.0.send((request, reply));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (ask, questions) = channel::<(AuthRequest, AuthReply)>();
    thread::spawn(move || {
        let mut unanswered = Vec::new();
        for (request, reply) in questions {
            // As if it had asked a database.
            thread::park_timeout(Duration::from_millis(20));
            match request.credentials.user.as_deref() {
                Some("alice") => reply.allow(Some("alice")),
                Some("mallory") => reply.deny(Reason::Denied),
                _ => unanswered.push(reply),
            }
        }
    });
    let mut limits = Limits::default();
    limits.auth_deadline = Duration::from_millis(200);
    let router = Router::builder().shards(1).limits(limits).authenticator(Arc::new(AskLater(ask))).start()?;
    let key = StreamKey::parse("live/demo")?;
    // Without credentials the host vouches for itself.
    let _publisher = router.publish(&key, PublishOptions::default())?;

    let mut answers = Vec::new();
    for user in ["alice", "mallory", "nobody"] {
        let credentials = Some(Credentials::from_query(&format!("user={user}")));
        let answer = router.subscribe(&key, SubscribeOptions { credentials, ..SubscribeOptions::default() });
        match &answer {
            Ok(_) => println!("{user}: welcome"),
            Err(reason) => println!("{user}: {reason}"),
        }
        answers.push(answer.map(|_| ()));
    }
    if answers == [Ok(()), Err(Reason::Denied), Err(Reason::AuthTimeout)] {
        Ok(())
    } else {
        Err(format!("other answers were due: {answers:?}").into())
    }
}
