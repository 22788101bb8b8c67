//! The configuration file as it is written: names and shapes, nothing checked or resolved yet.
//!
//! Every value carries its place in the text, so that a complaint about it can name the line. An
//! unknown key is an error: a misspelt `idle_timout` must not silently mean the default.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;
use zeroize::Zeroizing;

use super::records;

/// A secret or a reference to one, overwritten once it has been followed.
pub(super) type Secret = Zeroizing<String>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) server: Server,
    #[serde(default)]
    pub(super) client: Vec<Spanned<Client>>,
    #[serde(default)]
    pub(super) provider: Vec<Spanned<Provider>>,
    #[serde(default)]
    pub(super) mcp: Vec<Spanned<Mcp>>,
    #[serde(default)]
    pub(super) tools: Tools,
    #[serde(default)]
    pub(super) records: records::Written,
    #[serde(default)]
    pub(super) trace: Trace,
}

/// `[server]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) admin: Option<Spanned<String>>,
    pub(super) admin_token: Option<Spanned<Secret>>,
    pub(super) max_body: Option<Spanned<Quantity>>,
    pub(super) header_timeout: Option<Spanned<Quantity>>,
    pub(super) idle_timeout: Option<Spanned<Quantity>>,
    pub(super) drain_timeout: Option<Spanned<Quantity>>,
    pub(super) client_header_timeout: Option<Spanned<Quantity>>,
    pub(super) client_body_timeout: Option<Spanned<Quantity>>,
    pub(super) client_idle_timeout: Option<Spanned<Quantity>>,
    pub(super) max_connections: Option<Spanned<i64>>,
    pub(super) max_buffered: Option<Spanned<Quantity>>,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) admin_tls: Option<Spanned<Tls>>,
    #[serde(default)]
    pub(super) admin_hosts: Vec<Spanned<String>>,
    pub(super) upstream_ca: Option<Spanned<String>>,
}

/// `tls` and `admin_tls` of `[server]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: Spanned<String>,
    pub(super) key: Spanned<String>,
}

/// `[[client]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    pub(super) name: Spanned<String>,
    pub(super) token: Spanned<Secret>,
    pub(super) max_in_flight: Option<Spanned<i64>>,
    pub(super) requests_per_minute: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// `[[provider]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) name: Spanned<String>,
    pub(super) api: Spanned<String>,
    pub(super) base_url: Spanned<String>,
    #[serde(default)]
    pub(super) keys: Vec<Spanned<Secret>>,
    pub(super) byok: Option<bool>,
    pub(super) send_actor: Option<bool>,
    #[serde(default)]
    pub(super) failover: Failover,
    pub(super) circuit: Option<Circuit>,
}

/// `[provider.failover]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failover {
    pub(super) unauthorized: Option<Spanned<String>>,
    pub(super) forbidden: Option<Spanned<String>>,
    pub(super) default_cooldown: Option<Spanned<Quantity>>,
    pub(super) max_cooldown: Option<Spanned<Quantity>>,
}

/// `[provider.circuit]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Circuit {
    pub(super) failures: Option<Spanned<i64>>,
    pub(super) open: Option<Spanned<Quantity>>,
    pub(super) half_open: Option<Spanned<i64>>,
}

/// `[[mcp]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mcp {
    pub(super) name: Spanned<String>,
    pub(super) url: Spanned<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Spanned<String>, Spanned<Secret>>,
    pub(super) allow: Option<Spanned<String>>,
    pub(super) deny: Option<Spanned<String>>,
}

/// `[tools]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tools {
    pub(super) max_turns: Option<Spanned<i64>>,
    pub(super) call_timeout: Option<Spanned<Quantity>>,
    pub(super) loop_timeout: Option<Spanned<Quantity>>,
    pub(super) max_result: Option<Spanned<Quantity>>,
}

/// `[trace]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trace {
    pub(super) dir: Option<Spanned<String>>,
}

/// A duration or a size: a text such as `"60s"`, or a bare number, which only 0 may be for
/// durations.
#[derive(Debug)]
pub(super) struct Quantity(pub(super) String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number with its unit in quotes, such as \"60s\" or \"32MiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
