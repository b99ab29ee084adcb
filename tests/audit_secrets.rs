//! What a peer shows to be let in stays out of the trail.
#![cfg(feature = "token")]

use shardcast::audit::{Entry, Record, write_line};
use shardcast::clock::Now;
use shardcast::extension::{Action, Actions, AuthRequest, Claims, Credentials, Grant, KeyPattern};
use shardcast::extension::{TokenAuthenticator, TokenKey};
use shardcast::fact::{Fact, FactKind, Who};
use shardcast::id::{ConnectionId, ShardId, StreamKey};

#[test]
fn what_a_peer_shows_to_be_let_in_is_not_in_the_trail() {
    let secret = "planted-secret-of-the-web-application";
    let key = TokenKey::new("web", secret.as_bytes()).unwrap();
    let grant = Grant { actions: Actions::Play, streams: KeyPattern::ALL };
    let claims = Claims { grant, expires: u64::MAX, principal: Some("eve".into()), address: None };
    let token = key.sign(&claims).unwrap();
    let credentials = Credentials::from_query(&format!("token={token}&password={secret}&x={secret}"));
    let (stream, peer) = (StreamKey::parse("live/demo").unwrap(), "192.0.2.1:5000".parse().ok());
    let request = AuthRequest::new(Action::Play, stream, credentials, ConnectionId(1), peer, "rtmp", Now::default());
    let principal = TokenAuthenticator::new(vec![key]).check(&request).unwrap();

    let who = Who { connection: request.connection, peer, protocol: request.protocol, principal: Some(principal) };
    let fact = Fact::new(FactKind::PlayStart, Now::default(), ShardId(0)).stream(&request.key).who(&who);
    let mut line = Vec::new();
    write_line(&Record { seq: 1, producer: 0, producer_seq: 1, entry: Entry::Fact(fact.clone()) }, &mut line);
    let shown = format!("{}{fact:?}", String::from_utf8(line).unwrap());

    assert!(shown.contains("eve") && shown.contains("192.0.2.1"));
    let mac = token.rsplit_once('.').unwrap().1;
    assert!(!shown.contains(mac) && !shown.contains(secret), "{shown}");
}
