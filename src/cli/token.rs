//! `shardcast token`: signs a token with a secret of the server.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use shardcast::clock::Clock;
use shardcast::extension::{Actions, Claims, Grant, KeyPattern, TokenKey};

use super::Failure;
use super::config::{DEFAULT_KEY_ID, Overrides, ServerConfig, parse_duration, read_secret_file};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What the token is for: publish, play or both
    #[arg(long, value_name = "ACTION")]
    action: Actions,

    /// The streams it is for: app/name, app/* or *
    #[arg(long, value_name = "STREAMS")]
    stream: KeyPattern,

    /// How long it is good, from now on: 90s, 15m, 12h
    #[arg(long, value_name = "TIME", value_parser = validity)]
    expires: Duration,

    /// Who will hold it; the audit trail shows that name
    #[arg(long, value_name = "NAME")]
    principal: Option<Box<str>>,

    /// The only address that may use it
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,

    /// Sign with a token key of this configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    config: Option<PathBuf>,

    /// Sign with the secret in this file, as `serve --token-secret-file` takes it
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    secret_file: Option<PathBuf>,

    /// The id of the key: the first in the configuration file, else "default"
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let key = key(&args)?;
    println!("{}", sign(args, &key, &Clock::start())?);
    Ok(())
}

fn sign(args: Args, key: &TokenKey, clock: &Clock) -> Result<String, Failure> {
    let claims = Claims {
        grant: Grant { actions: args.action, streams: args.stream },
        expires: Claims::expires_after(clock.now().wall, args.expires),
        principal: args.principal,
        address: args.address,
    };
    key.sign(&claims).map_err(Failure::usage)
}

fn key(args: &Args) -> Result<TokenKey, Failure> {
    let Some(config) = &args.config else {
        let path = args.secret_file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
        let mut warnings = Vec::new();
        let secret = read_secret_file(path, &mut warnings)
            .map_err(|text| Failure::usage(format!("the file of --secret-file {text}")))?;
        warnings.iter().for_each(|warning| eprintln!("shardcast: {warning}"));
        return TokenKey::new(args.key_id.as_deref().unwrap_or(DEFAULT_KEY_ID), secret.as_bytes())
            .map_err(Failure::usage);
    };
    let keys = ServerConfig::load(Some(config), &Overrides::default()).map_err(Failure::usage)?.access.token_keys;
    let known: Vec<_> = keys.iter().map(|key| key.id().to_owned()).collect();
    let wanted = |key: &TokenKey| args.key_id.as_deref().is_none_or(|id| id == key.id());
    keys.into_iter().find(wanted).ok_or_else(|| {
        let ids = if known.is_empty() { "none".into() } else { known.join(", ") };
        Failure::usage(format!("{} has no such token key; it has: {ids}", config.display()))
    })
}

fn validity(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| *time >= Duration::from_secs(1))
        .ok_or_else(|| "a time of at least 1s with its unit, such as 90s, 15m or 12h".into())
}

const EXAMPLES: &str = "\
Examples:
  openssl rand -hex 32 > secret && chmod 600 secret
  shardcast token --secret-file secret --action publish --stream live/demo --expires 12h --principal studio
  ffplay \"rtmp://HOST/live/demo?token=$(shardcast token --secret-file secret --action play --stream 'live/*' --expires 1h)\"";

#[cfg(test)]
mod tests {
    use clap::Parser;
    use shardcast::extension::auth::{Action, AuthRequest};
    use shardcast::extension::{Credentials, TokenAuthenticator};
    use shardcast::id::{ConnectionId, StreamKey};
    use shardcast::reason::Reason;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Wrapper::try_parse_from(line.split(' ')).map(|wrapper| wrapper.args)
    }

    #[test]
    fn a_token_from_the_command_line_opens_what_it_says_for_as_long_as_it_says() {
        let args = parse("token --secret-file x --action play --stream live/* --expires 1h --principal eve").unwrap();
        let (key, clock) = (TokenKey::new(DEFAULT_KEY_ID, b"0123456789abcdef").unwrap(), Clock::start());
        let mut now = clock.now();
        let token = sign(args, &key, &clock).unwrap();

        let gate = TokenAuthenticator::new(vec![key]);
        let mut ask = |seconds: u64| {
            now.wall.0 += seconds * 1_000_000_000;
            let credentials = Credentials::from_query(&format!("token={token}"));
            let key = StreamKey::parse("live/demo").unwrap();
            let request = AuthRequest::new(Action::Play, key, credentials, ConnectionId(1), None, "rtmp", now);
            gate.check(&request).map(|principal| principal.to_string())
        };
        assert_eq!(ask(0), Ok("eve".into()));
        assert_eq!(ask(3599), Ok("eve".into()));
        assert_eq!(ask(3), Err(Reason::TokenExpired));
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        let good = "token --secret-file x --action play --stream live/* --expires 1h";
        assert!(parse(good).is_ok());
        for (from, to) in [
            ("--action play", "--action watch"),
            ("--stream live/*", "--stream live"),
            ("--expires 1h", "--expires 3600"),
            ("--expires 1h", "--expires 0s"),
            ("--secret-file x ", ""),
            ("--secret-file x", "--secret-file x --config y"),
        ] {
            assert!(parse(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
