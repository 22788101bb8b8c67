//! What a [`World`](crate::World) is made of, as plain data: it can be written down, drawn at
//! random and made smaller.
//!
//! All times count from the world's beginning or from the thing before. Everything is small on
//! purpose: a law that breaks in a large world breaks in a small one as well, and the small one can
//! be read.

use aibridge_core::{Duration, api::Vendor};

use crate::Cut;

/// A whole world.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Decides what the rest leaves open: which of two things that are ready is done first, and
    /// ids.
    pub seed: u64,
    /// How many bridges there are. Each has every provider's keys, and none knows what another one
    /// learns.
    pub bridges: usize,
    /// Providers, named `p0`, `p1`, ….
    pub providers: Vec<ProviderPlan>,
    /// Clients.
    pub clients: Vec<ClientPlan>,
    /// Whether the bridges know their clients by tokens, one each; else they serve whoever comes.
    pub tokens: bool,
    /// MCP servers, named `t0`, `t1`, …, whose tools the models call, all in one turn.
    pub tools: Vec<ToolPlan>,
    /// What an administrator does.
    pub resets: Vec<ResetPlan>,
    /// When the first bridge begins to shut down, if it does.
    pub drain: Option<Duration>,
}

/// A provider and its organisation's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderPlan {
    /// Which API it speaks.
    pub vendor: Vendor,
    /// Keys in configured order.
    pub keys: Vec<KeyPlan>,
    /// From a connection attempt to the connection.
    pub connects_in: Duration,
    /// From a request to its reply's head; errors come ten times as fast.
    pub latency: Duration,
    /// Silence between two events of a stream.
    pub pace: Duration,
    /// From the one time to the other it is away: it refuses connections, and those that are up are
    /// reset.
    pub outage: Option<(Duration, Duration)>,
    /// What goes otherwise than usual, call by call; `None` where nothing does.
    pub blips: Vec<Option<Blip>>,
    /// Where its bytes are cut into pieces.
    pub cut: Cut,
    /// How many bytes of a request it reads at a time, and how long it pauses then; `None`: all at
    /// once.
    pub sips: Option<(usize, Duration)>,
    /// Whether it says with each reply how many requests the key has left.
    pub announces: bool,
    /// How long the bridges leave a key alone after a 429 that names no wait.
    pub default_cooldown: Duration,
    /// How long the bridges leave a key alone at most.
    pub max_cooldown: Duration,
}

/// A key at its provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyPlan {
    /// Its rate limit; none: it has no limit.
    pub limit: Option<Limit>,
    /// From when on it is rejected, and with which status: 401 or 403.
    pub revoked: Option<(Duration, u16)>,
}

/// A token bucket: each request takes a token, and what finds none is answered with a 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many tokens it holds; it is full at first.
    pub burst: u32,
    /// How long one token takes to come.
    pub every: Duration,
    /// Whether each model has a bucket of its own.
    pub per_model: bool,
    /// How a 429 tells the time to the next token.
    pub told: Told,
}

/// How a 429 tells when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// As a date in `retry-after`.
    Date,
    /// In milliseconds, in `retry-after-ms`.
    Millis,
    /// Not at all.
    Nothing,
    /// In seconds, in `retry-after`.
    Seconds,
}

/// What goes otherwise than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blip {
    /// The connection ends after so many bytes of the reply.
    EndAt(usize),
    /// The reply is no HTTP.
    Garbage,
    /// The reply is a 429 that names a wait of so many seconds.
    Limited(u64),
    /// The connection attempt is never answered.
    NoAnswer,
    /// The connection is refused.
    Refuse,
    /// The connection is reset after so many bytes of the reply.
    ResetAt(usize),
    /// Silence for ever after so many bytes of the reply.
    StallAt(usize),
    /// The reply is an error with this status.
    Status(u16),
    /// The reply begins so much later.
    Wait(Duration),
}

impl Blip {
    /// Whether it is the connection attempt that goes wrong.
    pub const fn is_of_connection(self) -> bool {
        matches!(self, Self::NoAnswer | Self::Refuse)
    }
}

/// A client: a program that asks one thing after the other, on one connection as long as that
/// lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientPlan {
    /// Which bridge it talks to.
    pub bridge: usize,
    /// Whether it tells the bridge a session.
    pub has_session: bool,
    /// Where its bytes are cut into pieces.
    pub cut: Cut,
    /// How often it asks again when it is told 429, each time after the wait it is told.
    pub retries: u32,
    /// What it asks.
    pub requests: Vec<RequestPlan>,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPlan {
    /// How long the client thinks before it.
    pub after: Duration,
    /// Which provider it is for.
    pub provider: usize,
    /// Whether to take the Responses API, at providers that have it.
    pub responses: bool,
    /// Whether the reply is to be streamed.
    pub streaming: bool,
    /// Which of the provider's models: `m0`, `m1`, ….
    pub model: u8,
    /// Whose key is to be used.
    pub credential: Credential,
    /// How the client behaves.
    pub manner: Manner,
    /// What there is much of.
    pub bulk: Option<Bulk>,
}

/// What there is more of than may wait on its way at one time: some 300 KB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// The client tells a long story.
    Question,
    /// The model does.
    Reply,
}

/// Whose key is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The client's own, which the provider answers with this status.
    Own(u16),
    /// The organisation's.
    Pool,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It ends its side of the connection when it has got so many bytes.
    LeavesAt(usize),
    /// It reads its reply to the end.
    Patient,
    /// It reads nothing for so long, and then all.
    ReadsLate(Duration),
    /// It reads 16 KiB at most, and pauses so long, and reads on.
    ReadsSlowly(Duration),
    /// It resets the connection so long after it asked.
    ResetsAfter(Duration),
    /// It resets the connection when it has got so many bytes.
    ResetsAt(usize),
    /// It sends only so many bytes of its request, and then ends its side.
    SendsOnly(usize),
    /// It sends only so many bytes of its request, and then resets the connection.
    SendsThenResets(usize),
    /// It pauses so long between the pieces of its request.
    SendsSlowly(Duration),
}

/// An MCP server with the tool `look`, which wants a secret with each request. By default it runs
/// it at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolPlan {
    /// How long a call takes.
    pub latency: Duration,
    /// Whether calls fail.
    pub fails: bool,
    /// What goes otherwise than usual, call by call; `None` where nothing does. A connection that
    /// does not come up is the next one that is opened, whatever it is for.
    pub blips: Vec<Option<Blip>>,
    /// The same for what bridges ask by themselves: the handshake, the list, the farewell.
    pub errands: Vec<Option<Blip>>,
    /// Where its bytes are cut into pieces.
    pub cut: Cut,
}

/// An administrator makes a key valid again, at every bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetPlan {
    /// When.
    pub at: Duration,
    /// The provider.
    pub provider: usize,
    /// The key.
    pub key: usize,
}

impl ProviderPlan {
    /// A provider that answers at once with these keys, as Anthropic would.
    pub fn new(keys: impl IntoIterator<Item = KeyPlan>) -> Self {
        Self {
            vendor: Vendor::Anthropic,
            keys: keys.into_iter().collect(),
            connects_in: Duration::ZERO,
            latency: Duration::ZERO,
            pace: Duration::ZERO,
            outage: None,
            blips: Vec::new(),
            cut: Cut::None,
            sips: None,
            announces: false,
            default_cooldown: Duration::from_secs(60),
            max_cooldown: Duration::from_secs(600),
        }
    }
}

impl KeyPlan {
    /// A key that may be used so often, and once more each time that `every` has passed; a 429
    /// tells the wait in seconds.
    pub const fn limited(burst: u32, every: Duration) -> Self {
        let limit = Limit {
            burst,
            every,
            per_model: false,
            told: Told::Seconds,
        };
        Self {
            limit: Some(limit),
            revoked: None,
        }
    }
}

impl ClientPlan {
    /// A client of the first bridge that asks these things.
    pub fn new(requests: impl IntoIterator<Item = RequestPlan>) -> Self {
        Self {
            bridge: 0,
            has_session: false,
            cut: Cut::None,
            retries: 0,
            requests: requests.into_iter().collect(),
        }
    }
}

impl RequestPlan {
    /// A blocking request to the first provider, patiently, after this long.
    pub const fn after(after: Duration) -> Self {
        Self {
            after,
            provider: 0,
            responses: false,
            streaming: false,
            model: 0,
            credential: Credential::Pool,
            manner: Manner::Patient,
            bulk: None,
        }
    }
}

impl Plan {
    /// One bridge between one provider and these clients.
    pub fn new(provider: ProviderPlan, clients: impl IntoIterator<Item = ClientPlan>) -> Self {
        Self {
            seed: 0,
            bridges: 1,
            providers: vec![provider],
            clients: clients.into_iter().collect(),
            tokens: false,
            tools: Vec::new(),
            resets: Vec::new(),
            drain: None,
        }
    }
}
