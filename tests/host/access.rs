//! Who may: authenticators as the host's own publishers and subscribers meet them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shardcast::Router;
use shardcast::extension::{Action, AuthReply, AuthRequest, Authenticator};
use shardcast::fact::FactKind;
use shardcast::reason::Reason;

use crate::world::*;

fn guarded(authenticator: impl Authenticator + 'static) -> Router {
    builder(2).authenticator(Arc::new(authenticator)).start().unwrap()
}

fn both(router: &Router, name: &str, query: &str) -> [Result<(), Reason>; 2] {
    let (publish, subscribe) = with_credentials(query);
    let publisher = router.publish(&key(name), publish);
    [publisher.as_ref().map(|_| ()).map_err(|reason| *reason), router.subscribe(&key(name), subscribe).map(|_| ())]
}

#[test]
fn the_host_vouches_for_itself_unless_it_shows_credentials() {
    struct Nobody;
    impl Authenticator for Nobody {
        fn authorize(&self, _: AuthRequest, reply: AuthReply) {
            reply.deny(Reason::Denied);
        }
    }
    let router = guarded(Nobody);
    let _publisher = publish(&router, "live/a");
    let _subscription = subscribe(&router, "live/a");
    assert_eq!(both(&router, "live/a", "user=eve"), [Err(Reason::Denied); 2]);
}

#[cfg(feature = "token")]
#[test]
fn tokens_open_what_they_grant_and_nothing_else() {
    use shardcast::extension::{Actions, Claims, Grant, TokenAuthenticator, TokenKey};
    let signer = TokenKey::new("web", b"a secret of 16 bytes or more").unwrap();
    let token = |actions: Actions, expires: u64| {
        let grant = Grant { actions, streams: "live/a".parse().unwrap() };
        let claims = Claims { grant, expires, principal: Some("eve".into()), address: None };
        format!("token={}", signer.sign(&claims).unwrap())
    };
    let router = guarded(TokenAuthenticator::new(vec![signer.clone()]));
    let events = router.events();
    let late = 253_402_300_800;

    assert_eq!(both(&router, "live/a", &token(Actions::Both, late)), [Ok(()), Ok(())]);
    let start = fact(&events, FactKind::PublishStart);
    assert_eq!(start.who.unwrap().principal.as_deref(), Some("eve"));
    assert_eq!(fact(&events, FactKind::PlayStart).who.unwrap().principal.as_deref(), Some("eve"));
    eventually("the name is free", || router.streams().is_empty());

    let _publisher = publish(&router, "live/a");
    let denied = Err(Reason::Denied);
    assert_eq!(both(&router, "live/a", &token(Actions::Play, late)), [denied, Ok(())]);
    assert_eq!(both(&router, "live/a", &token(Actions::Play, 1)), [denied, Err(Reason::TokenExpired)]);
    assert_eq!(both(&router, "live/b", &token(Actions::Both, late)), [denied, denied]);
    assert_eq!(both(&router, "live/a", "token=v1.web.x.y"), [denied, denied]);
}

#[cfg(feature = "token")]
#[test]
fn users_do_what_they_are_granted() {
    use shardcast::extension::{Actions, Grant, UserList};
    let mut users = UserList::new().unwrap();
    let play = Grant { actions: Actions::Play, streams: "live/*".parse().unwrap() };
    let publish_one = Grant { actions: Actions::Publish, streams: "live/eve".parse().unwrap() };
    users.add("eve", "secret", vec![play, publish_one]).unwrap();
    let router = guarded(users);
    let _publisher = publish(&router, "live/a");

    let denied = Err(Reason::Denied);
    assert_eq!(both(&router, "live/eve", "user=eve&password=secret"), [Ok(()), Ok(())]);
    assert_eq!(both(&router, "live/a", "user=eve&password=secret"), [denied, Ok(())]);
    assert_eq!(both(&router, "live/a", "user=eve&password=wrong"), [denied, denied]);
    assert_eq!(both(&router, "live/a", ""), [denied, denied]);
}

/// Hands every request to the test.
struct Ask(Sender<(AuthRequest, AuthReply)>);

impl Authenticator for Ask {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        let _ = self.0.send((request, reply));
    }
}

fn asked(limit: Duration) -> (Router, Receiver<(AuthRequest, AuthReply)>) {
    let (ask, asked) = channel();
    let router = limited(|limits| limits.auth_deadline = limit).authenticator(Arc::new(Ask(ask))).start().unwrap();
    (router, asked)
}

#[test]
fn an_answer_may_come_later_from_another_thread_and_frames_flow_meanwhile() {
    let (router, asked) = asked(WAIT);
    let mut beside = publish(&router, "live/beside");
    let mut watching = subscribe(&router, "live/beside");
    std::thread::scope(|scope| {
        let router = &router;
        let waiting = scope.spawn(|| {
            let (options, _) = with_credentials("user=eve&x=1");
            router.publish(&key("live/a"), options)
        });
        let (request, reply) = asked.recv_timeout(WAIT).unwrap();
        assert_eq!((request.action, request.key.as_str(), request.protocol), (Action::Publish, "live/a", "host"));
        assert_eq!((request.credentials.user.as_deref(), request.credentials.param("x")), (Some("eve"), Some("1")));
        assert_eq!(request.peer, None);
        // While it waits, the shard works.
        Reel::new().send(&mut beside, "kd");
        assert_eq!(take(&mut watching, 2), ["k0", "d1"]);
        assert!(!waiting.is_finished());

        reply.allow(Some("eve"));

        let publisher = waiting.join().unwrap().unwrap();
        let info = router.inspect(publisher.key()).unwrap();
        assert_eq!((info.principal.as_deref(), info.connection), (Some("eve"), publisher.connection()));
    });
}

#[test]
fn an_answer_that_never_comes_is_a_no_and_one_that_comes_too_late_changes_nothing() {
    let (router, asked) = asked(Duration::from_millis(20));
    let events = router.events();
    assert_eq!(both(&router, "live/a", "user=eve"), [Err(Reason::AuthTimeout); 2]);
    assert_eq!(fact(&events, FactKind::PublishRefuse).reason, Some(Reason::AuthTimeout));
    assert_eq!(fact(&events, FactKind::PlayRefuse).reason, Some(Reason::AuthTimeout));

    for (_, late) in asked.try_iter() {
        late.allow(None);
    }

    assert_eq!((router.streams().len(), router.stats()[0].subscribers), (0, 0));
}

#[test]
fn an_answer_that_is_dropped_is_a_no_at_once() {
    let (router, asked) = asked(WAIT);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| both(&router, "live/a", "user=eve"));
        for _ in 0..2 {
            drop(asked.recv_timeout(WAIT).unwrap());
        }
        assert_eq!(waiting.join().unwrap(), [Err(Reason::Denied); 2]);
    });
}

#[test]
fn the_authenticator_can_be_replaced_while_it_runs() {
    let (router, _asked) = asked(Duration::from_millis(20));
    router.set_authenticator(Arc::new(shardcast::extension::AllowAll));
    assert_eq!(both(&router, "live/a", "user=eve"), [Ok(()), Ok(())]);
}

#[test]
fn what_a_limit_or_a_name_forbids_is_not_asked() {
    let (ask, asked) = channel();
    let app = shardcast::stream::AppSpec::new("live");
    let router = builder(1).app(app).authenticator(Arc::new(Ask(ask))).start().unwrap();
    assert_eq!(both(&router, "vod/a", "user=eve"), [Err(Reason::UnknownApp); 2]);
    assert!(asked.try_recv().is_err());
}

#[test]
fn one_who_is_let_in_late_is_served_from_the_keyframe_that_is_cached_then() {
    let (router, asked) = asked(WAIT);
    let mut publisher = publish(&router, "live/a");
    let mut reel = Reel::new();
    reel.send(&mut publisher, "ckd");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| router.subscribe(&key("live/a"), with_credentials("user=eve").1));
        let (_, reply) = asked.recv_timeout(WAIT).unwrap();
        reel.send(&mut publisher, "kd");
        taken_in(&router, "live/a", 5);
        reply.allow(None);
        let mut subscription = waiting.join().unwrap().unwrap();
        assert_eq!(take(&mut subscription, 3), ["c0", "k3", "d4"]);
    });
}

#[test]
fn one_who_is_let_in_after_the_publisher_has_gone_is_told_so() {
    let (router, asked) = asked(WAIT);
    let _publisher = publish(&router, "live/a");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| router.subscribe(&key("live/a"), with_credentials("user=eve").1));
        let (_, reply) = asked.recv_timeout(WAIT).unwrap();
        router.kick_publisher(&key("live/a"));
        eventually("it is over", || router.streams().is_empty());
        reply.allow(None);
        let refused = waiting.join().unwrap();
        assert!(matches!(refused, Err(Reason::NotFound)), "{refused:?}");
    });
}
