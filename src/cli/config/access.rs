//! `[auth]`: who may publish and play.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shardcast::extension::{
    Actions, AnyOf, Authenticator, Grant, KeyPattern, TokenAuthenticator, TokenKey, UserList,
};

use super::reader::Section;
use super::units::{duration, list, text, yes_or_no};

/// Who may publish and play.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// Everybody may, also from other machines: somebody has said so.
    pub(crate) open: bool,
    /// How many users there are.
    pub(crate) users: usize,
    list: Option<Arc<UserList>>,
    /// What tokens may be signed with.
    pub(crate) token_keys: Vec<TokenKey>,
    leeway: Duration,
}

impl Access {
    /// Whether anybody is asked for anything.
    pub(crate) const fn is_guarded(&self) -> bool {
        self.list.is_some() || !self.token_keys.is_empty()
    }

    /// The guard, if there is one.
    pub(crate) fn authenticator(&self) -> Option<Arc<dyn Authenticator>> {
        let users = self.list.clone().map(|list| list as Arc<dyn Authenticator>);
        let tokens = (!self.token_keys.is_empty()).then(|| {
            let tokens = TokenAuthenticator::new(self.token_keys.clone()).leeway(self.leeway);
            Arc::new(tokens) as Arc<dyn Authenticator>
        });
        match (users, tokens) {
            (Some(users), Some(tokens)) => Some(Arc::new(AnyOf::new(vec![tokens, users]))),
            (one, other) => one.or(other),
        }
    }
}

/// Reads the section; secrets in files are taken relative to `base`. Adds a sentence to `warnings` for each file
/// that others can read.
pub(super) fn read_access(mut section: Section<'_>, base: &Path, warnings: &mut Vec<String>) -> Access {
    let mut access = Access { open: section.take("open", yes_or_no).unwrap_or(false), ..Access::default() };
    if let Some(leeway) = section.take("token_leeway", duration(Duration::ZERO..=Duration::from_secs(3600))) {
        access.leeway = leeway;
    }
    for user in section.sections("user") {
        read_user(user, base, warnings, &mut access);
    }
    for key in section.sections("token_key") {
        read_token_key(key, base, warnings, &mut access);
    }
    section.finish();
    access
}

fn read_user(mut section: Section<'_>, base: &Path, warnings: &mut Vec<String>, access: &mut Access) {
    let name = required(&mut section, "name");
    let password = secret(&mut section, "password", "password_file", base, warnings);
    let mut grants = Vec::new();
    for (key, actions) in [("publish", Actions::Publish), ("play", Actions::Play)] {
        let streams = section.take(key, list(pattern)).unwrap_or_default();
        grants.extend(streams.into_iter().map(|streams| Grant { actions, streams }));
    }
    if let (Some(name), Some(password)) = (name, password)
        && let Err(error) = add_user(access, name, &password, grants)
    {
        section.wrong("name", &format!("{name:?} cannot be added: {error}"));
    }
    section.finish();
}

fn add_user(
    access: &mut Access,
    name: &str,
    password: &str,
    grants: Vec<Grant>,
) -> Result<(), shardcast::extension::UserError> {
    if access.list.is_none() {
        access.list = Some(Arc::new(UserList::new()?));
    }
    if let Some(list) = access.list.as_mut().and_then(Arc::get_mut) {
        list.add(name, password, grants)?;
        access.users += 1;
    }
    Ok(())
}

fn read_token_key(mut section: Section<'_>, base: &Path, warnings: &mut Vec<String>, access: &mut Access) {
    let id = required(&mut section, "id");
    let secret = secret(&mut section, "secret", "secret_file", base, warnings);
    if let (Some(id), Some(secret)) = (id, secret) {
        match TokenKey::new(id, secret.as_bytes()) {
            Ok(_) if access.token_keys.iter().any(|there| there.id() == id) => {
                section.wrong("id", "is there twice: give each key its own");
            }
            Ok(key) => access.token_keys.push(key),
            Err(error) => section.wrong("id", &format!("{id:?} cannot be used: {error}")),
        }
    }
    section.finish();
}

/// Reads a secret from a file of its own, without the line end.
pub(crate) fn read_secret_file(path: &Path, warnings: &mut Vec<String>) -> Result<String, String> {
    let secret = fs::read_to_string(path).map_err(|error| format!("cannot be read: {}: {error}", path.display()))?;
    #[cfg(unix)]
    if fs::metadata(path).is_ok_and(|meta| std::os::unix::fs::MetadataExt::mode(&meta) & 0o077 != 0) {
        let path = path.display();
        warnings.push(format!("{path} can be read by other users of this machine: chmod 600 {path}"));
    }
    Ok(secret.trim_end_matches(['\r', '\n']).to_owned())
}

pub(super) fn required<'a>(section: &mut Section<'a>, key: &'static str) -> Option<&'a str> {
    let value = section.take(key, text);
    if value.is_none() && !section.has(key) {
        section.wrong(key, "is missing");
    }
    value
}

fn secret(
    section: &mut Section<'_>,
    key: &'static str,
    file_key: &'static str,
    base: &Path,
    warnings: &mut Vec<String>,
) -> Option<String> {
    let inline = section.take(key, text).map(str::to_owned);
    let from_file = section.take(file_key, |value| read_secret_file(&base.join(text(value)?), warnings));
    match (section.has(key), section.has(file_key)) {
        (true, true) => section.wrong(file_key, &format!("and {key} are both there: give one of them")),
        (false, false) => section.wrong(key, &format!("is missing, and so is {file_key}: give one of them")),
        _ => {}
    }
    inline.or(from_file)
}

fn pattern(text: &str) -> Result<KeyPattern, String> {
    text.parse().map_err(|_| format!("must hold \"app/name\", \"app/*\" or \"*\" for each entry, not {text:?}"))
}
