//! The bridge's answers, as a trace has them.

use std::sync::Arc;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::{
    config::{Config, Server},
    secrets::Secrets,
};
use crate::{
    bridge::{self, Query, Ticket},
    config,
    id::ConnId,
    interception::{self, Toolbox},
    keypool::{self, KeyId, KeyState, Reason},
    mcp::{self, Catalog, Version},
    secret::Secret,
    time::{Duration, Instant},
};

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// As this ticket, under this configuration; none: the last one.
    Admitted(u64, Option<Box<Config>>),
    NotAdmitted(Refused),
    /// The connection of this number; whether it was parked.
    Connect(u64, bool),
    Granted,
    NotGranted(Refused),
    Lease(Lease),
    Reported(Option<Transition>),
    Terms(Option<Terms>),
    Told,
    /// None: the same as last time.
    Tools(Option<Vec<Offer>>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    why: String,
    retry_after: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    /// Its id, its place in the configuration, and its placeholder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<(u32, usize, String)>,
    /// Where there is no key: how long to wait; none if waiting does not help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait: Option<Duration>,
    /// The keys that the walk has had.
    tried: Vec<u32>,
    last: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transition {
    index: usize,
    hint: String,
    from: State,
    to: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Permanent(String),
    /// Until so many nanoseconds since the epoch.
    Temporary(u64, String),
    Valid,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Terms {
    version: String,
    session: Option<String>,
}

/// A server and what it offers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offer {
    server: Server,
    tools: Vec<Tool>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    description: String,
    schema: String,
    mirrored: bool,
}

/// What was written, or read, before: it is not repeated.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) config: Arc<config::Config>,
    /// How many secrets were known when the configuration was written.
    pub(super) secrets: usize,
    pub(super) toolbox: Option<Arc<Toolbox>>,
}

impl Answer {
    /// As a trace has it; none if it can be no answer to a client's session.
    pub(super) fn of(
        answer: bridge::Answer,
        before: &mut Before,
        secrets: &mut Secrets,
    ) -> Option<Self> {
        use interception::Answer as Inner;
        Some(match answer {
            bridge::Answer::Admit(Ok((config, Ticket(ticket)))) => {
                // A token that was shown meanwhile is to be told.
                let is_known =
                    Arc::ptr_eq(&before.config, &config) && before.secrets == secrets.len();
                let written = (!is_known).then(|| Box::new(Config::of(&config, secrets)));
                before.config = config;
                before.secrets = secrets.len();
                Self::Admitted(ticket, written)
            }
            bridge::Answer::Admit(Err(refused)) => Self::NotAdmitted(Refused::of(&refused)),
            bridge::Answer::Connect { conn, parked } => Self::Connect(conn.number(), parked),
            bridge::Answer::Granted(Ok(())) => Self::Granted,
            bridge::Answer::Granted(Err(refused)) => Self::NotGranted(Refused::of(&refused)),
            bridge::Answer::Interception(Inner::Lease(lease, walker)) => {
                Self::Lease(Lease::of(lease, &walker, secrets))
            }
            bridge::Answer::Interception(Inner::Reported(transition)) => {
                Self::Reported(transition.as_ref().map(Transition::of))
            }
            bridge::Answer::Interception(Inner::Tools(toolbox)) => {
                let same = |known: &Arc<Toolbox>| Arc::ptr_eq(known, &toolbox);
                let is_known = before.toolbox.as_ref().is_some_and(same);
                let written = (!is_known).then(|| offers(&toolbox, secrets));
                before.toolbox = Some(toolbox);
                Self::Tools(written)
            }
            bridge::Answer::Terms(terms) => Self::Terms(terms.map(|it| Terms::of(&it, secrets))),
            bridge::Answer::Told(None) => Self::Told,
            bridge::Answer::Keep(_) | bridge::Answer::Told(Some(_)) => return None,
        })
    }

    /// As a session takes it.
    pub(super) fn read(self, before: &mut Before) -> Result<bridge::Answer, String> {
        use interception::Answer as Inner;
        Ok(match self {
            Self::Admitted(ticket, config) => {
                if let Some(config) = config {
                    before.config = Arc::new(config.read()?);
                }
                bridge::Answer::Admit(Ok((Arc::clone(&before.config), Ticket(ticket))))
            }
            Self::NotAdmitted(refused) => bridge::Answer::Admit(Err(refused.read()?)),
            Self::Connect(0, _) => return Err("connection 0 is the client's".to_owned()),
            Self::Connect(conn, parked) => bridge::Answer::Connect {
                conn: ConnId::new(conn),
                parked,
            },
            Self::Granted => bridge::Answer::Granted(Ok(())),
            Self::NotGranted(refused) => bridge::Answer::Granted(Err(refused.read()?)),
            Self::Lease(lease) => bridge::Answer::Interception(lease.read()),
            Self::Reported(transition) => {
                let transition = transition.map(Transition::read).transpose()?;
                bridge::Answer::Interception(Inner::Reported(transition))
            }
            Self::Terms(terms) => bridge::Answer::Terms(terms.map(Terms::read).transpose()?),
            Self::Told => bridge::Answer::Told(None),
            Self::Tools(offers) => {
                if let Some(offers) = offers {
                    before.toolbox = Some(toolbox(offers)?);
                }
                let toolbox = before.toolbox.as_ref();
                let toolbox = toolbox.ok_or("the same tools as before, and none were before")?;
                bridge::Answer::Interception(Inner::Tools(Arc::clone(toolbox)))
            }
        })
    }

    /// Whether it is one to this question.
    pub(super) const fn fits(&self, query: &Query) -> bool {
        use interception::Query as Inner;
        match query {
            Query::Admit { .. } => matches!(self, Self::Admitted(..) | Self::NotAdmitted(_)),
            Query::Connect { .. } => matches!(self, Self::Connect(..)),
            Query::Enter { .. } | Query::Hold { .. } => {
                matches!(self, Self::Granted | Self::NotGranted(_))
            }
            Query::Interception(Inner::Lease { .. }) => matches!(self, Self::Lease(_)),
            Query::Interception(Inner::Report { .. }) => matches!(self, Self::Reported(_)),
            Query::Interception(Inner::Tools) => matches!(self, Self::Tools(_)),
            Query::Held { .. } | Query::Judged { .. } | Query::Release(_) | Query::Tell(..) => {
                matches!(self, Self::Told)
            }
            Query::Terms(_) => matches!(self, Self::Terms(_)),
            Query::Keep(_) | Query::News(..) => false,
        }
    }
}

impl Refused {
    fn of(refused: &bridge::Refused) -> Self {
        use bridge::Refused as R;
        let (retry_after, limit) = match *refused {
            R::Busy(wait) | R::Draining(wait) | R::Failing(wait) | R::Unrecorded(wait) => {
                (wait, None)
            }
            R::ClientBusy { limit, retry_after } | R::ClientTooFast { limit, retry_after } => {
                (retry_after, Some(limit))
            }
        };
        Self {
            why: refused.as_str().to_owned(),
            retry_after,
            limit,
        }
    }

    fn read(self) -> Result<bridge::Refused, String> {
        use bridge::Refused as R;
        let (wait, limit) = (self.retry_after, self.limit.unwrap_or_default());
        let all = [
            R::Busy(wait),
            R::ClientBusy {
                limit,
                retry_after: wait,
            },
            R::ClientTooFast {
                limit,
                retry_after: wait,
            },
            R::Draining(wait),
            R::Failing(wait),
            R::Unrecorded(wait),
        ];
        let mut all = all.into_iter();
        let found = all.find(|refused| refused.as_str() == self.why);
        found.ok_or_else(|| format!("{:?} is no reason to refuse", self.why))
    }
}

impl Lease {
    fn of(
        lease: Result<keypool::Lease, keypool::Exhausted>,
        walker: &keypool::Walker,
        secrets: &mut Secrets,
    ) -> Self {
        let (key, wait) = match lease {
            Ok(lease) => {
                let secret = secrets.placeholder_text(lease.secret.expose());
                (Some((lease.key.0, lease.index, secret)), None)
            }
            Err(keypool::Exhausted::RateLimited(wait)) => (None, Some(wait)),
            Err(keypool::Exhausted::Unauthorized) => (None, None),
        };
        Self {
            key,
            wait,
            tried: walker.keys().map(|key| key.0).collect(),
            last: walker.last(),
        }
    }

    fn read(self) -> interception::Answer {
        let lease = match (self.key, self.wait) {
            (Some((key, index, secret)), _) => Ok(keypool::Lease {
                key: KeyId(key),
                index,
                secret: Secret::new(secret),
            }),
            (None, Some(wait)) => Err(keypool::Exhausted::RateLimited(wait)),
            (None, None) => Err(keypool::Exhausted::Unauthorized),
        };
        let tried = self.tried.into_iter().map(KeyId);
        interception::Answer::Lease(lease, keypool::Walker::resumed(tried, self.last))
    }
}

impl Transition {
    fn of(transition: &keypool::Transition) -> Self {
        Self {
            index: transition.index,
            hint: transition.hint.clone(),
            from: State::of(transition.from),
            to: State::of(transition.to),
        }
    }

    fn read(self) -> Result<keypool::Transition, String> {
        Ok(keypool::Transition {
            index: self.index,
            hint: self.hint,
            from: self.from.read()?,
            to: self.to.read()?,
        })
    }
}

impl State {
    fn of(state: KeyState) -> Self {
        match state {
            KeyState::Permanent(why) => Self::Permanent(why.as_str().to_owned()),
            KeyState::Temporary(until, why) => {
                Self::Temporary(until.as_nanos(), why.as_str().to_owned())
            }
            KeyState::Valid => Self::Valid,
        }
    }

    fn read(self) -> Result<KeyState, String> {
        Ok(match self {
            Self::Permanent(why) => KeyState::Permanent(reason(&why)?),
            Self::Temporary(until, why) => {
                KeyState::Temporary(Instant::from_nanos(until), reason(&why)?)
            }
            Self::Valid => KeyState::Valid,
        })
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    let all = [Reason::Forbidden, Reason::RateLimited, Reason::Unauthorized];
    let found = all.into_iter().find(|reason| reason.as_str() == text);
    found.ok_or_else(|| format!("{text:?} is no reason of the shipped policy"))
}

impl Terms {
    fn of(terms: &mcp::Terms, secrets: &mut Secrets) -> Self {
        let text = |value: &HeaderValue| {
            let mut value = value.as_bytes().to_vec();
            secrets.replace(&mut value);
            String::from_utf8_lossy(&value).into_owned()
        };
        Self {
            version: terms.version.as_str().to_owned(),
            session: terms.session.as_ref().map(text),
        }
    }

    fn read(self) -> Result<mcp::Terms, String> {
        let version = Version::parse(&self.version);
        let session = self.session.map(|text| {
            let mut value = HeaderValue::from_str(&text).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(mcp::Terms {
            version: version.ok_or_else(|| format!("{:?} is no revision", self.version))?,
            session: session.transpose()?,
        })
    }
}

fn offers(toolbox: &Toolbox, secrets: &mut Secrets) -> Vec<Offer> {
    let entries = toolbox.catalog().entries();
    let by_server = entries.chunk_by(|a, b| Arc::ptr_eq(&a.server, &b.server));
    let mut offers = Vec::new();
    for entries in by_server {
        let Some(first) = entries.first() else {
            continue;
        };
        let tools = entries.iter().map(|entry| Tool {
            name: entry.tool.name.to_string(),
            description: entry.tool.description.to_string(),
            schema: String::from_utf8_lossy(&entry.tool.schema).into_owned(),
            mirrored: entry.tool.is_mirrored(),
        });
        offers.push(Offer {
            server: Server::of(&first.server, secrets),
            tools: tools.collect(),
        });
    }
    offers
}

fn toolbox(offers: Vec<Offer>) -> Result<Arc<Toolbox>, String> {
    let mut lists = Vec::new();
    for Offer { server, tools } in offers {
        let tools = tools.into_iter().map(|tool| {
            let made = mcp::Tool::new(&tool.name, &tool.description, tool.schema.into());
            Arc::new(if tool.mirrored { made.mirrored() } else { made })
        });
        lists.push((server.read()?, tools.collect::<Vec<_>>()));
    }
    let lists = lists.iter().map(|(server, tools)| (server, &tools[..]));
    Ok(Arc::new(Toolbox::new(Arc::new(Catalog::new(lists)))))
}
