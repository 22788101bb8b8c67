//! Finding out how a server is to be spoken to.
//!
//! ```text
//!  Probing ──"server/discover" answered──────────────────────────▶ agreed: 2026-07-28
//!     │ refused, or no answer
//!     ▼
//!  Initializing ──result──▶ Confirming ──accepted──▶ agreed: the server's version, its session
//! ```
//!
//! The newest revision comes first: `server/discover`, which servers of that revision must answer,
//! is sent as one of its requests. An older server refuses it, each in its own way (400 for the
//! version, 400 for the missing session, 404, method not found, invalid params), and any way but a
//! closed door means: try `initialize`. Servers that speak both are spoken to in the newer. Where a
//! session of an older revision is only to be renewed, there is no probe.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    exchange::{Answer, Exchange},
    failure::Failure,
    outbox::{ExchangeId, Input, Outbox},
    peer::Peer,
    rpc,
    server::Server,
    terms::{Terms, Version},
};
use crate::{
    json::{self, Scanner},
    time::{Duration, Instant, earliest},
};

/// What a handshake comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) terms: Terms,
    /// Whether the server says that it has tools.
    pub(super) has_tools: bool,
    /// Whether it says when they change.
    pub(super) tells_changes: bool,
}

#[derive(Debug)]
pub(super) struct Handshake {
    server: Arc<Server>,
    stage: Stage,
    /// How long each step may take.
    timeout: Duration,
    until: Instant,
    /// Whether the server refused the probe's revision and named it as one that it speaks.
    is_second_probe: bool,
}

#[derive(Debug)]
enum Stage {
    Confirming(Exchange, Agreed),
    Initializing(Exchange),
    Over,
    Probing(Exchange),
}

impl Handshake {
    /// With a server of which nothing is known.
    pub(super) fn probe(
        now: Instant,
        server: &Arc<Server>,
        timeout: Duration,
        out: &mut Outbox,
    ) -> Self {
        Self {
            server: Arc::clone(server),
            stage: discover(server, out),
            timeout,
            until: now + timeout,
            is_second_probe: false,
        }
    }

    /// With a server that is known to want `initialize`.
    pub(super) fn renew(
        now: Instant,
        server: &Arc<Server>,
        timeout: Duration,
        out: &mut Outbox,
    ) -> Self {
        Self {
            server: Arc::clone(server),
            stage: initialize(server, out),
            timeout,
            until: now + timeout,
            is_second_probe: false,
        }
    }

    pub(super) fn is_on(&self, on: ExchangeId) -> bool {
        match &self.stage {
            Stage::Over => false,
            Stage::Confirming(exchange, _)
            | Stage::Initializing(exchange)
            | Stage::Probing(exchange) => exchange.is_on(on),
        }
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        on: ExchangeId,
        input: Input,
        out: &mut Outbox,
    ) -> Option<Result<Agreed, Failure>> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => None,
            Stage::Probing(mut probe) => match probe.handle(now, on, input, out) {
                None => self.stay(Stage::Probing(probe)),
                Some(answer) => self.probed(now, answer, &probe, out),
            },
            Stage::Initializing(mut exchange) => match exchange.handle(now, on, input, out) {
                None => self.stay(Stage::Initializing(exchange)),
                Some(answer) => self.initialized(now, answer, &mut exchange, out),
            },
            Stage::Confirming(mut exchange, agreed) => match exchange.handle(now, on, input, out) {
                None => self.stay(Stage::Confirming(exchange, agreed)),
                Some(Err(failure @ (Failure::Fault(_) | Failure::SessionLost))) => {
                    Peer::new(&self.server, Some(agreed.terms)).delete(now, out);
                    Some(Err(failure))
                }
                // Some servers refuse a notification they have no use for, and go on.
                Some(_) => Some(Ok(agreed)),
            },
        }
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut Outbox,
    ) -> Option<Result<Agreed, Failure>> {
        if let Some(exchange) = self.exchange() {
            exchange.handle_timeout(now, out);
        }
        if now < self.until {
            return None;
        }
        let was_probe = matches!(self.stage, Stage::Probing(_));
        self.leave(now, out);
        if was_probe {
            // Old servers may leave unanswered what they do not know.
            self.initialize(now, out);
            return None;
        }
        Some(Err(Failure::TimedOut))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Over => None,
            Stage::Confirming(exchange, _)
            | Stage::Initializing(exchange)
            | Stage::Probing(exchange) => earliest(Some(self.until), exchange.deadline()),
        }
    }

    /// Gives up. A session that the server has given meanwhile is deleted: nobody else knows it.
    pub(super) fn leave(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(exchange) = self.exchange() {
            exchange.abort(out);
        }
        if let Stage::Confirming(_, agreed) = std::mem::replace(&mut self.stage, Stage::Over) {
            Peer::new(&self.server, Some(agreed.terms)).delete(now, out);
        }
    }

    fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.stage {
            Stage::Over => None,
            Stage::Confirming(exchange, _)
            | Stage::Initializing(exchange)
            | Stage::Probing(exchange) => Some(exchange),
        }
    }

    fn stay<T>(&mut self, stage: Stage) -> Option<T> {
        self.stage = stage;
        None
    }

    fn initialize(&mut self, now: Instant, out: &mut Outbox) {
        self.stage = initialize(&self.server, out);
        self.until = now + self.timeout;
    }

    fn probed(
        &mut self,
        now: Instant,
        answer: Answer,
        probe: &Exchange,
        out: &mut Outbox,
    ) -> Option<Result<Agreed, Failure>> {
        let speaks =
            |versions: &[String]| versions.iter().any(|v| v == Version::V20260728.as_str());
        match answer {
            Ok(result) => {
                let said = Said::read(&result).unwrap_or_default();
                if speaks(&said.supported) {
                    let version = Version::V20260728;
                    let session = None;
                    return Some(Ok(said.agreed(Terms { version, session })));
                }
            }
            Err(failure @ Failure::Fault(_)) => return Some(Err(failure)),
            Err(failure @ Failure::Status(status, _)) if is_closed_door(status) => {
                return Some(Err(failure));
            }
            Err(_) => {
                // A modern server that does not speak our revision names those it does.
                let data = probe.error_data().and_then(Said::read);
                let known = |name: &String| Version::parse(name).is_some();
                let supported = data.map(|said| said.supported).unwrap_or_default();
                if speaks(&supported) && !self.is_second_probe {
                    self.is_second_probe = true;
                    return self.stay(discover(&self.server, out));
                }
                if !supported.is_empty() && !supported.iter().any(known) {
                    let unknown = Failure::version(&supported.join(", "));
                    return Some(Err(unknown.masked(&self.server)));
                }
            }
        }
        self.initialize(now, out);
        None
    }

    fn initialized(
        &mut self,
        now: Instant,
        answer: Answer,
        exchange: &mut Exchange,
        out: &mut Outbox,
    ) -> Option<Result<Agreed, Failure>> {
        let result = match answer {
            Ok(result) => result,
            Err(failure) => return Some(Err(failure)),
        };
        let Some(said) = Said::read(&result) else {
            return Some(Err(Failure::Malformed("no initialize result")));
        };
        let Some(version) = Version::parse(&said.version) else {
            return Some(Err(Failure::version(&said.version).masked(&self.server)));
        };
        let mut session = exchange.session();
        if let Some(session) = &mut session {
            session.set_sensitive(true);
        }
        let agreed = said.agreed(Terms { version, session });
        let peer = Peer::new(&self.server, Some(agreed.terms.clone())).in_new_session(true);
        let notice = Exchange::notification(peer, "notifications/initialized", out);
        self.until = now + self.timeout;
        self.stay(Stage::Confirming(notice, agreed))
    }
}

/// Refusals that `initialize` would meet as well.
fn is_closed_door(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn discover(server: &Arc<Server>, out: &mut Outbox) -> Stage {
    let terms = Terms {
        version: Version::V20260728,
        session: None,
    };
    let peer = Peer::new(server, Some(terms));
    let more = HeaderMap::new();
    Stage::Probing(Exchange::request(peer, "server/discover", "", more, out))
}

fn initialize(server: &Arc<Server>, out: &mut Outbox) -> Stage {
    let params = format!(
        r#""protocolVersion":"{}","capabilities":{{}},"clientInfo":{}"#,
        Version::OFFERED.as_str(),
        rpc::CLIENT_INFO
    );
    let peer = Peer::new(server, None);
    Stage::Initializing(Exchange::request(
        peer,
        "initialize",
        &params,
        HeaderMap::new(),
        out,
    ))
}

/// What a server says of itself, in whichever of the places there are for it.
#[derive(Debug, Default)]
struct Said {
    version: String,
    supported: Vec<String>,
    has_tools: bool,
    tells_changes: bool,
}

impl Said {
    fn read(text: &Bytes) -> Option<Self> {
        let mut said = Self::default();
        said.scan(text).ok()?;
        Some(said)
    }

    fn agreed(&self, terms: Terms) -> Agreed {
        Agreed {
            terms,
            has_tools: self.has_tools,
            tells_changes: self.tells_changes,
        }
    }

    fn scan(&mut self, text: &[u8]) -> Result<(), json::Error> {
        let mut scan = Scanner::new(text)?;
        scan.object()?;
        while let Some(key) = scan.key()? {
            match &*key.decode() {
                "protocolVersion" => {
                    let version = scan.string_or_skip()?.map(|s| s.decode().into_owned());
                    self.version = version.unwrap_or_default();
                }
                "supportedVersions" | "supported" => self.versions(&mut scan)?,
                "capabilities" => self.capabilities(&mut scan)?,
                _ => {
                    scan.skip()?;
                }
            }
        }
        scan.end()
    }

    fn versions(&mut self, scan: &mut Scanner<'_>) -> Result<(), json::Error> {
        if !scan.array_or_skip()? {
            return Ok(());
        }
        while scan.element()? {
            let name = scan.string_or_skip()?;
            self.supported.extend(name.map(|s| s.decode().into_owned()));
        }
        Ok(())
    }

    fn capabilities(&mut self, scan: &mut Scanner<'_>) -> Result<(), json::Error> {
        if !scan.object_or_skip()? {
            return Ok(());
        }
        while let Some(key) = scan.key()? {
            if !key.is("tools") {
                scan.skip()?;
                continue;
            }
            self.has_tools = true;
            if !scan.object_or_skip()? {
                continue;
            }
            while let Some(key) = scan.key()? {
                if key.is("listChanged") {
                    self.tells_changes = scan.bool_or_skip()?.unwrap_or(false);
                } else {
                    scan.skip()?;
                }
            }
        }
        Ok(())
    }
}
