//! A list of users with passwords, held in memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{error, hmac, rand};

use crate::extension::{AuthReply, AuthRequest, Authenticator, Decision, Grant};
use crate::reason::Reason;

/// Lets in whoever shows the name and the password of a user with a grant for what it asks.
///
/// Passwords are not kept, only their HMAC under a random key of this list; it is compared in constant time, and
/// an unknown name costs as much as a wrong password. That keeps them out of print-outs and core dumps' text, not
/// from somebody who reads the process's memory.
pub struct UserList {
    salt: hmac::Key,
    /// Peers choose the names that are looked up: std's hasher is keyed.
    users: HashMap<Arc<str>, User>,
    /// Compared with for names that do not exist.
    nobody: hmac::Tag,
}

struct User {
    password: hmac::Tag,
    grants: Vec<Grant>,
}

impl UserList {
    /// A list without users: nobody is let in.
    ///
    /// # Errors
    /// [`UserError::NoRandomness`].
    pub fn new() -> Result<Self, UserError> {
        let salt = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|error::Unspecified| UserError::NoRandomness)?;
        let nobody = hmac::sign(&salt, b"");
        Ok(Self { salt, users: HashMap::new(), nobody })
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`UserError`] if the name or the password is empty or too long, or the name is there already.
    pub fn add(&mut self, name: &str, password: &str, grants: Vec<Grant>) -> Result<(), UserError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(UserError::Name);
        }
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(UserError::Password);
        }
        if self.users.contains_key(name) {
            return Err(UserError::Twice);
        }
        let password = hmac::sign(&self.salt, password.as_bytes());
        self.users.insert(name.into(), User { password, grants });
        Ok(())
    }

    /// The user that this request names, if the password is right and a grant covers what is asked.
    ///
    /// # Errors
    /// [`Reason::Denied`] in all other cases, without a difference.
    pub fn check(&self, request: &AuthRequest) -> Result<Arc<str>, Reason> {
        let name = request.credentials.user.as_deref().ok_or(Reason::Denied)?;
        let password = request.credentials.password.as_ref().ok_or(Reason::Denied)?.expose();
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Reason::Denied);
        }
        let found = self.users.get_key_value(name);
        let expected = found.map_or(&self.nobody, |(_, user)| &user.password);
        let matches = hmac::verify(&self.salt, password.as_bytes(), expected.as_ref()).is_ok();
        let (name, user) = found.filter(|_| matches).ok_or(Reason::Denied)?;
        let granted = user.grants.iter().any(|grant| grant.covers(request.action, &request.key));
        if granted { Ok(Arc::clone(name)) } else { Err(Reason::Denied) }
    }
}

impl Authenticator for UserList {
    fn authorize(&self, request: AuthRequest, reply: AuthReply) {
        reply.decide(match self.check(&request) {
            Ok(principal) => Decision::Allow { principal: Some(principal) },
            Err(reason) => Decision::Deny(reason),
        });
    }
}

impl fmt::Debug for UserList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserList({} users)", self.users.len())
    }
}

/// Why a user cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// The name.
    #[error("the name of a user must have 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    /// The password.
    #[error("the password of a user must have 1 to {PASSWORD_BYTES_MAX} bytes")]
    Password,
    /// The name once more.
    #[error("there is a user of this name already")]
    Twice,
    /// The operating system has none.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

const NAME_BYTES_MAX: usize = 128;
const PASSWORD_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::extension::{Action, Actions, Credentials, Secret};
    use crate::id::{ConnectionId, StreamKey};

    fn list() -> UserList {
        let mut list = UserList::new().unwrap();
        let grant = |actions, streams: &str| Grant { actions, streams: streams.parse().unwrap() };
        let grants = vec![grant(Actions::Publish, "live/eve"), grant(Actions::Play, "live/*")];
        list.add("eve", "planted-password", grants).unwrap();
        list.add("guest", "guest", Vec::new()).unwrap();
        list
    }

    fn check(action: Action, stream: &str, user: Option<&str>, password: Option<&str>) -> Result<String, Reason> {
        let credentials =
            Credentials { user: user.map(Into::into), password: password.map(Secret::new), ..Credentials::default() };
        let key = StreamKey::parse(stream).unwrap();
        let request = AuthRequest::new(action, key, credentials, ConnectionId(1), None, "rtmp", Now::default());
        list().check(&request).map(|principal| principal.to_string())
    }

    #[test]
    fn a_user_may_do_what_is_granted_and_nothing_else() {
        let eve = |action, stream| check(action, stream, Some("eve"), Some("planted-password"));
        assert_eq!(eve(Action::Publish, "live/eve"), Ok("eve".into()));
        assert_eq!(eve(Action::Play, "live/other"), Ok("eve".into()));
        assert_eq!(eve(Action::Publish, "live/other"), Err(Reason::Denied));
        assert_eq!(eve(Action::Publish, "live/Eve"), Err(Reason::Denied));
        assert_eq!(eve(Action::Play, "vod/eve"), Err(Reason::Denied));
    }

    #[test]
    fn whoever_does_not_show_the_right_password_is_denied() {
        for (user, password) in [
            (Some("eve"), Some("planted-passwore")),
            (Some("eve"), Some("")),
            (Some("eve"), None),
            (Some("Eve"), Some("planted-password")),
            (Some("nobody"), Some("")),
            (Some(""), Some("")),
            (Some("guest"), Some("planted-password")),
            (None, Some("planted-password")),
            (None, None),
        ] {
            assert_eq!(check(Action::Play, "live/eve", user, password), Err(Reason::Denied), "{user:?} {password:?}");
        }
        assert_eq!(check(Action::Play, "live/eve", Some("guest"), Some("guest")), Err(Reason::Denied), "no grant");
    }

    #[test]
    fn a_user_without_a_name_or_a_password_and_a_second_one_of_a_name_are_refused() {
        let mut list = list();
        assert_eq!(list.add("", "x", Vec::new()), Err(UserError::Name));
        assert_eq!(list.add("mallory", "", Vec::new()), Err(UserError::Password));
        assert_eq!(list.add("eve", "x", Vec::new()), Err(UserError::Twice));
    }

    #[test]
    fn a_list_shows_no_password() {
        assert_eq!(format!("{:?}", list()), "UserList(2 users)");
    }
}
