//! Configurations to test with, and what stands around a test of one request.

use std::sync::Arc;

use aibridge_core::{
    Target,
    api::Vendor,
    config::{Client, Config, Provider},
};

use crate::{Answer, Reply, Script, Seen, Sim};

/// The keys that most tests use, in order. Their hints: `k0...ey`, `k1...ey`, `k2...ey`.
pub const KEYS: [&str; 3] = ["k0-pool-key", "k1-pool-key", "k2-pool-key"];

/// What may be shown of a key of [`KEYS`].
pub const HINTS: [&str; 3] = ["k0...ey", "k1...ey", "k2...ey"];

/// The origin of upstreams in the simulator.
pub fn upstream() -> Target {
    Target {
        host: "upstream.test".into(),
        port: 80,
        tls: false,
    }
}

/// Providers `anthropic` and `openai` at this origin, each with a pool of these keys; nobody needs
/// a token.
pub fn config_at(target: &Target, keys: &[&str]) -> Config {
    let provider = |name, vendor, base| {
        Arc::new(Provider::new(name, vendor, target.clone(), base).with_keys(keys))
    };
    Config {
        providers: vec![
            provider("anthropic", Vendor::Anthropic, ""),
            provider("openai", Vendor::OpenAi, "/v1"),
        ],
        ..Config::default()
    }
}

/// As [`config_at`] the simulator's [`upstream`].
pub fn config(keys: &[&str]) -> Config {
    config_at(&upstream(), keys)
}

/// The same with the first two of [`KEYS`].
pub fn two_keys() -> Config {
    config(&KEYS[..2])
}

/// A short reply that any provider could have given.
pub fn ok() -> Reply {
    Reply::json(200, r#"{"id":"x"}"#)
}

/// An upstream that [replies so](ok) to whatever comes.
pub fn always() -> Script {
    Script::choosing(|_| ok())
}

/// Sends these bytes on a connection of their own to a bridge of this configuration, whose upstream
/// [`always`] replies. Gives the answer, whether the bridge closed after it, and what upstream saw.
///
/// # Panics
/// No answer comes within a day.
#[track_caller]
pub fn raw(config: Config, bytes: &[u8]) -> (Answer, bool, Vec<Seen>) {
    let script = always();
    let mut sim = Sim::new(config, &script);
    let client = sim.connect();
    sim.send(client, bytes.to_vec());
    let answer = sim.take_answer(client);
    sim.settle();
    let closed = sim.is_closed(client);
    (answer, closed, script.verify())
}

/// The same, but each provider changed.
#[must_use]
pub fn with_providers(mut config: Config, change: impl Fn(&mut Provider)) -> Config {
    for provider in &mut config.providers {
        change(Arc::make_mut(provider));
    }
    config
}

/// The same, but only for this client.
#[must_use]
pub fn with_client(mut config: Config, name: &str, token: &str) -> Config {
    let token = aibridge_core::Secret::new(token).digest();
    config.clients.push(Client::new(name, token));
    config
}
