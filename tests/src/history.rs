//! What happened in a world: everything that could be seen from outside, and what a bridge asked
//! itself.
//!
//! Laws are judged by a [`History`] alone. It is written by the simulator as things happen, and
//! reads as a timeline.

use std::{fmt, sync::Arc};

use aibridge_core::{
    ConnId, Duration, Instant,
    api::Api,
    keypool::{Exhausted, Fate, KeyId, NextStep, Scope, Verdict},
    record::Record,
};
use bytes::Bytes;
use http::{HeaderName, header::AUTHORIZATION};

use crate::{Answer, Seen, laws::Breach, plan::Plan};

/// Stands in the middle of every secret of a world and nowhere else, so that one search finds them
/// all, also in part.
pub const MARK: &str = "-never-shown-";

/// What happened in a world.
#[derive(Clone, Debug)]
pub struct History {
    /// The world.
    pub plan: Arc<Plan>,
    /// When it began.
    pub began: Instant,
    /// What happened, in order: at each bridge exactly, between bridges by time.
    pub entries: Vec<Entry>,
    /// What a program would have logged: every question and every action of every session in its
    /// debug form, and at the end the bridges' and sessions' own.
    pub log: String,
    /// The trace of each client's session, if the world was [`traced`](crate::World::traced).
    pub traces: Vec<Vec<u8>>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// At which bridge.
    pub bridge: usize,
    /// In which of its sessions; each client connection is one, and so is the keeper of an MCP
    /// server.
    pub session: usize,
    /// What.
    pub fact: Fact,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A client sent a request.
    Asked(Box<Asked>),
    /// A client got a whole reply, or as much of one as there was when the connection ended or the
    /// client left. `None`: nothing.
    Answered(Option<Box<Answer>>, Ending),
    /// An upstream's side of a connection ended or was reset.
    Broke(ConnId, &'static str),
    /// An upstream saw a request.
    Called(Box<Called>),
    /// The bridge began to shut down.
    Draining,
    /// A client was handed bytes.
    Delivered(Bytes),
    /// Bytes of an upstream have to wait: its session does not want them.
    Held(ConnId),
    /// The policy said what becomes of a key.
    Judged {
        /// The provider's name.
        provider: Arc<str>,
        /// The key.
        key: KeyId,
        /// What it said.
        verdict: Verdict,
        /// The model asked for.
        model: Option<Arc<str>>,
    },
    /// A session asked for a key.
    Leased(Box<Leased>),
    /// A session emitted a record.
    Recorded(Box<Record>),
    /// An administrator made a key valid again.
    Reset {
        /// The provider's name.
        provider: Arc<str>,
        /// The key's place in the configuration.
        key: usize,
    },
    /// An upstream sent bytes.
    Sent(ConnId, Bytes),
    /// A session broke the contract between it and its adapter.
    Wrong(String),
}

/// How a client's wait for a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The bridge closed the connection.
    Closed,
    /// The reply was complete.
    Complete,
    /// The client left.
    Left,
    /// The world ended, and the client still waited.
    Waiting,
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The client.
    pub client: usize,
    /// Its request, by its place in the plan.
    pub request: usize,
    /// The provider.
    pub provider: usize,
    /// API.
    pub api: Api,
    /// Whether the reply is to be streamed.
    pub streaming: bool,
    /// The client's own key, if it brings one.
    pub own_key: Option<String>,
    /// Whether all of it was sent.
    pub is_whole: bool,
    /// Whether it was sent at once, as far as it was.
    pub is_swift: bool,
}

/// A request as an upstream saw it.
#[derive(Clone, Debug)]
pub struct Called {
    /// On which connection.
    pub conn: ConnId,
    /// Which provider it is; `None`: an MCP server.
    pub provider: Option<usize>,
    /// Whether the connection had served an earlier request.
    pub is_reused: bool,
    /// The request.
    pub seen: Seen,
}

/// A session asked for a key.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model asked for.
    pub model: Option<Arc<str>>,
    /// Whether this begins an iteration.
    pub is_first: bool,
    /// The key by its identity and its place in the configuration, or why there is none.
    pub lease: Result<(KeyId, usize), Exhausted>,
    /// If there is none: places of the keys that the provider would have served at this moment.
    pub able: Vec<usize>,
}

impl History {
    /// All entries of one kind.
    pub fn pick<'a, T: 'a>(
        &'a self,
        pick: impl Fn(&'a Fact) -> Option<T> + 'a,
    ) -> impl Iterator<Item = (&'a Entry, T)> {
        self.entries
            .iter()
            .filter_map(move |entry| Some((entry, pick(&entry.fact)?)))
    }

    /// What clients got, in the order in which they had it.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.entries.iter().filter_map(|entry| match &entry.fact {
            Fact::Answered(Some(answer), _) => Some(&**answer),
            _ => None,
        })
    }

    /// What bridges said when sessions asked for keys: a key, or none.
    pub fn leases(&self) -> impl Iterator<Item = &Leased> {
        self.entries.iter().filter_map(|entry| match &entry.fact {
            Fact::Leased(leased) => Some(&**leased),
            _ => None,
        })
    }

    /// Time since the world began.
    pub fn since(&self, at: Instant) -> Duration {
        at.since(self.began)
    }

    /// The timeline, with a mark where a law breaks.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>, breach: Option<&Breach>) -> fmt::Result {
        for (at, entry) in self.entries.iter().enumerate() {
            let breach = breach.filter(|breach| breach.entry == at);
            let line = entry.fact.to_string();
            if line.is_empty() && breach.is_none() {
                continue;
            }
            let millis = self.since(entry.at).as_millis();
            let (seconds, millis) = (millis / 1000, millis % 1000);
            let place = format!("b{}/s{}", entry.bridge, entry.session);
            writeln!(f, "{seconds:>6}.{millis:03} s  {place:<7} {line}")?;
            if let Some(breach) = breach {
                writeln!(f, "{:>22}└─ {}", "", breach.why)?;
            }
        }
        Ok(())
    }

    /// The secret of a provider's key.
    pub fn key(provider: usize, key: usize) -> String {
        format!("p{provider}k{key}{MARK}{provider:03}{key:03}")
    }

    /// The token by which bridges know a client.
    pub fn token(client: usize) -> String {
        format!("c{client}{MARK}token")
    }

    /// The field in which an MCP server wants its secret, and its value.
    pub fn server_field(server: usize) -> (HeaderName, String) {
        if server.is_multiple_of(2) {
            (AUTHORIZATION, format!("Bearer t{server}{MARK}secret"))
        } else {
            let name = HeaderName::from_static("x-tool-key");
            (name, format!("t{server}{MARK}secret"))
        }
    }

    /// A client's own key.
    pub fn own_key(client: usize, status: u16) -> String {
        format!("own{client}{MARK}{status}")
    }
}

/// The timeline.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, None)
    }
}

/// A line of the timeline; empty where there is nothing to tell.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(asked) => write!(f, "client → bridge    {asked}"),
            Self::Answered(None, ending) => write!(f, "client has         nothing, {ending}"),
            Self::Answered(Some(answer), ending) => {
                let wait = answer.header("retry-after");
                let wait = wait.map_or_else(String::new, |wait| format!(", retry-after {wait}"));
                let (status, len) = (answer.status, answer.body.len());
                write!(f, "client has         {status}, {len} B{wait}, {ending}")
            }
            Self::Broke(conn, how) => write!(f, "provider           {how} {conn}"),
            Self::Called(called) => {
                let (path, conn) = (&called.seen.path, called.conn);
                match called.provider {
                    Some(provider) => {
                        let key = shown(&called.seen.key);
                        write!(f, "bridge → p{provider}        {path} with {key} on {conn}")
                    }
                    None => write!(f, "bridge → tools     {path} on {conn}"),
                }
            }
            Self::Delivered(_) => Ok(()),
            Self::Held(conn) => write!(f, "bridge             holds {conn} back"),
            Self::Draining => f.write_str("administrator      shuts the bridge down"),
            Self::Judged {
                provider,
                key,
                verdict,
                model,
            } => {
                let model = model.as_deref().filter(|_| verdict.scope == Scope::Model);
                let model = model.map_or_else(String::new, |model| format!(" for {model}"));
                write!(
                    f,
                    "policy             key {} of {provider}{model}: {}",
                    key.0,
                    judged(verdict)
                )
            }
            Self::Leased(leased) => {
                let walk = if leased.is_first { "a walk" } else { "next" };
                match leased.lease {
                    Ok((_, key)) => write!(
                        f,
                        "pool               {walk}: key {key} of {}",
                        leased.provider
                    ),
                    Err(exhausted) => write!(
                        f,
                        "pool               {walk}: no key of {}, {exhausted:?}; {:?} would do",
                        leased.provider, leased.able
                    ),
                }
            }
            Self::Recorded(record) => match &**record {
                Record::Ended(_, ended) => write!(
                    f,
                    "recorded           {}, {} attempts",
                    ended.outcome.as_str(),
                    ended.attempts
                ),
                _ => Ok(()),
            },
            Self::Reset { provider, key } => {
                write!(f, "administrator      resets key {key} of {provider}")
            }
            Self::Sent(conn, bytes) => {
                let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or(bytes);
                let len = bytes.len();
                match str::from_utf8(line) {
                    Ok(line) if line.starts_with("HTTP/") => {
                        write!(f, "provider → bridge  {line} ({len} B) on {conn}")
                    }
                    _ => write!(f, "provider → bridge  {len} B on {conn}"),
                }
            }
            Self::Wrong(what) => write!(f, "wrong              {what}"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, request, provider) = (self.client, self.request, self.provider);
        write!(
            f,
            "c{client} asks p{provider} {:?}, its request {request}",
            self.api
        )?;
        if self.streaming {
            f.write_str(", streamed")?;
        }
        if self.own_key.is_some() {
            f.write_str(", with a key of its own")?;
        }
        if !self.is_whole {
            f.write_str(", but sends only a part")?;
        }
        if !self.is_swift {
            f.write_str(", slowly")?;
        }
        Ok(())
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "and the connection closed",
            Self::Complete => "complete",
            Self::Left => "and left",
            Self::Waiting => "and waits for ever",
        })
    }
}

/// A secret of a world as far as it may be shown.
fn shown(secret: &str) -> &str {
    match secret.split_once(MARK) {
        Some((begin, _)) => begin,
        None if secret.is_empty() => "no key",
        None => "a key of nobody's",
    }
}

fn judged(verdict: &Verdict) -> String {
    let fate = match verdict.fate {
        Fate::Cool(Some(wait), reason) => format!("cools for {wait:?} ({})", reason.as_str()),
        Fate::Cool(None, reason) => format!("cools ({})", reason.as_str()),
        Fate::Keep => "stays".to_owned(),
        Fate::Retire(reason) => format!("is retired ({})", reason.as_str()),
    };
    let step = match verdict.step {
        NextStep::GiveUp => "give up",
        NextStep::NextKey => "next key",
        NextStep::Relay => "relay",
    };
    format!("{fate}, {step}")
}
