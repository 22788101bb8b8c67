//! The admin listener: health, keys and interceptions as JSON and metrics as text, for operators
//! and their tools.
//!
//! It listens apart from the clients' address, on loopback unless a token protects it. Every reply
//! is built whole, so it needs no router and no streams. What waits for files, a search of the
//! store or a reload, is done by threads that may block; nothing else, as a resolver that does not
//! answer can keep all of them busy, and probes are to be answered then too.

use std::{
    borrow::Cow,
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use aibridge_core::{
    Instant,
    bridge::{ProviderKeys, ServerTools},
    keypool::{KeyState, KeyStatus},
    mcp::ServerState,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{self, AbortHandle},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, info, warn};

use crate::{
    access::{Access, Refused},
    bridge::Identity,
    metrics::Snapshot,
    records::{Cursor, NotFound, Recorder, Search},
};

/// How many interceptions are shown where the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// And at most.
const HIGHEST_LIMIT: usize = 10_000;
/// Of more connections than this the oldest goes: nobody watches one bridge from so many windows,
/// and whoever holds on to them must not keep a probe out.
const MOST_CONNECTIONS: usize = 64;
/// How long a client may take over its TLS handshake, and again over its request's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever is asked on it. What is being answered then has
/// [`PATIENCE`] to be read.
const LIFETIME: Duration = Duration::from_secs(60);

/// The keys, as an administrator may see and reset them.
pub(crate) trait Keys: Send + Sync {
    /// The time by which cooldowns are told.
    fn now(&self) -> Instant;
    /// All keys of all providers, in configured order.
    fn keys(&self, now: Instant) -> Vec<ProviderKeys>;
    /// What else there is to count.
    fn snapshot(&self) -> Snapshot;
    /// All MCP servers and their tools, in configured order.
    fn tool_servers(&self) -> Vec<ServerTools>;
    /// Makes a key valid again; `None` if there is no such key.
    fn reset(&self, now: Instant, provider: &str, index: usize) -> Option<KeyStatus>;
}

/// Whether the bridge takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Starting,
    Ready,
    Draining,
}

/// What the admin endpoints show.
pub(crate) struct Admin {
    phase: AtomicU8,
    access: RwLock<Access>,
    keys: Arc<dyn Keys>,
    recorder: Arc<Recorder>,
    reload: Reload,
    lifetime: Duration,
}

/// Reads the configuration again and puts it in force, or says why not.
pub(crate) type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

impl Admin {
    /// In phase [`Phase::Starting`].
    pub(crate) fn new(
        access: Access,
        keys: Arc<dyn Keys>,
        recorder: Arc<Recorder>,
        reload: Reload,
    ) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            access: RwLock::new(access),
            keys,
            recorder,
            reload,
            lifetime: LIFETIME,
        }
    }

    /// From now on these may ask.
    pub(crate) fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// From now on `/readyz` tells this.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, identity: Option<Identity>) {
        let mut connections = VecDeque::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, mostly: to try again at once would only spin.
                    warn!(%error, "admin connection not accepted");
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = Arc::clone(&self);
            let identity = identity.clone();
            connections.retain(|connection: &AbortHandle| !connection.is_finished());
            if connections.len() >= MOST_CONNECTIONS
                && let Some(oldest) = connections.pop_front()
            {
                debug!("too many admin connections: the oldest is closed");
                oldest.abort();
            }
            let connection = tokio::spawn(async move {
                match identity {
                    None => admin.serve_connection(stream).await,
                    Some(identity) => match shake_hands(&identity, stream).await {
                        Ok(stream) => admin.serve_connection(stream).await,
                        Err(error) => debug!(%error, "admin connection: TLS handshake failed"),
                    },
                }
            });
            connections.push_back(connection.abort_handle());
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let answer = service_fn(|request: Request<Incoming>| {
            let admin = Arc::clone(&self);
            async move {
                let request = request.map(drop);
                if !blocks(&request) {
                    return Ok(admin.answer(&request));
                }
                let reply = task::spawn_blocking(move || admin.answer(&request)).await;
                let failed = |_| {
                    let body = json!({"error": "the bridge could not answer"});
                    reply_with(StatusCode::INTERNAL_SERVER_ERROR, None, &body)
                };
                Ok::<_, Infallible>(reply.unwrap_or_else(failed))
            }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), answer);
        let mut serving = pin!(serving);
        let served = if let Ok(served) = time::timeout(self.lifetime, serving.as_mut()).await {
            served
        } else {
            serving.as_mut().graceful_shutdown();
            let last = time::timeout(self.lifetime.min(PATIENCE), serving).await;
            last.unwrap_or_else(|_| {
                debug!("admin connection closed: its client does not read");
                Ok(())
            })
        };
        if let Err(error) = served {
            debug!(%error, "admin connection failed");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let segments: Vec<_> = path.split('/').skip(1).collect();
        // Probes have no token, and learn nothing that an open port would not tell.
        let probe = matches!(segments[..], ["healthz" | "readyz"]);
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = access.refuses(request).filter(|_| !probe) {
            let body = json!({"error": refused.why()});
            let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            let challenge = Some(challenge).filter(|_| refused == Refused::NoToken);
            return reply_with(refused.status(), challenge, &body);
        }
        drop(access);
        let (allowed, read) = match segments[..] {
            ["keys", _, _, "reset"] | ["reload"] => ("POST", false),
            ["healthz" | "readyz" | "keys" | "interceptions" | "metrics" | "tools"] => {
                ("GET, HEAD", true)
            }
            _ => {
                let body = json!({"error": "no such endpoint"});
                return reply_with(StatusCode::NOT_FOUND, None, &body);
            }
        };
        let method = request.method();
        let fits = if read {
            matches!(*method, Method::GET | Method::HEAD)
        } else {
            method == Method::POST
        };
        if !fits {
            let body = json!({"error": format!("method not allowed; use {allowed}")});
            let allow = (header::ALLOW, HeaderValue::from_static(allowed));
            return reply_with(StatusCode::METHOD_NOT_ALLOWED, Some(allow), &body);
        }
        let (status, body) = match segments[..] {
            ["metrics"] => return self.show_metrics(),
            ["healthz"] => (StatusCode::OK, json!({"status": "ok"})),
            ["readyz"] => self.readiness(),
            ["keys"] => (StatusCode::OK, self.show_keys()),
            ["tools"] => (StatusCode::OK, self.show_tools()),
            ["keys", provider, index, "reset"] => self.reset(provider, index),
            ["reload"] => match (self.reload)() {
                Ok(()) => (StatusCode::OK, json!({"status": "ok"})),
                Err(why) => (StatusCode::BAD_REQUEST, json!({"error": why})),
            },
            _ => self.show_interceptions(request.uri().query()),
        };
        reply_with(status, None, &body)
    }

    fn readiness(&self) -> (StatusCode, Value) {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase == Phase::Ready as u8 {
            let mut body = json!({"status": "ok"});
            // A server that is down keeps nothing else from working. No names: this needs no token.
            let servers = self.keys.tool_servers();
            if !servers.is_empty() {
                let count = |name| servers.iter().filter(|one| state(one) == name).count();
                let [connecting, down, up] = ["connecting", "down", "up"].map(count);
                body["mcp"] = json!({"connecting": connecting, "down": down, "up": up});
            }
            return (StatusCode::OK, body);
        }
        let status = if phase == Phase::Draining as u8 {
            "draining"
        } else {
            "starting"
        };
        (StatusCode::SERVICE_UNAVAILABLE, json!({"status": status}))
    }

    fn show_keys(&self) -> Value {
        let now = self.keys.now();
        let providers = self.keys.keys(now);
        let providers = providers.iter().map(|provider| {
            let keys: Vec<_> = provider.keys.iter().map(|key| show_key(key, now)).collect();
            json!({"name": &*provider.name, "keys": keys})
        });
        json!({"providers": providers.collect::<Vec<_>>()})
    }

    fn show_tools(&self) -> Value {
        let now = self.keys.now();
        let servers = self.keys.tool_servers();
        let servers = servers.iter().map(|server| show_server(server, now));
        json!({"servers": servers.collect::<Vec<_>>()})
    }

    fn reset(&self, provider: &str, index: &str) -> (StatusCode, Value) {
        let now = self.keys.now();
        let key = index
            .parse()
            .ok()
            .and_then(|index| self.keys.reset(now, provider, index));
        let Some(key) = key else {
            return (StatusCode::NOT_FOUND, json!({"error": "no such key"}));
        };
        info!(provider, index, key = key.hint, "key was reset");
        (StatusCode::OK, show_key(&key, now))
    }

    fn show_interceptions(&self, query: Option<&str>) -> (StatusCode, Value) {
        let search = match search(query.unwrap_or_default()) {
            Ok(search) => search,
            Err(what) => return (StatusCode::BAD_REQUEST, json!({"error": what})),
        };
        match self.recorder.find(&search) {
            Ok(found) => {
                let mut body = json!({"interceptions": found});
                if let Some(note) = self.recorder.note() {
                    body["note"] = note.into();
                }
                (StatusCode::OK, body)
            }
            Err(NotFound::NoSuchPlace) => {
                let what = "before: there is no interception of this id";
                (StatusCode::BAD_REQUEST, json!({"error": what}))
            }
            Err(NotFound::Unreadable(why)) => {
                let what = format!("the store cannot be read: {why}");
                (StatusCode::SERVICE_UNAVAILABLE, json!({"error": what}))
            }
        }
    }

    fn show_metrics(&self) -> Response<Full<Bytes>> {
        let keys = self.keys.keys(self.keys.now());
        let (bridge, counts) = (self.keys.snapshot(), self.recorder.counts());
        let text = self.recorder.metrics().text(&keys, &bridge, counts);
        let mut reply = Response::new(Full::from(text));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, kind);
        reply
    }
}

/// Whether a request may wait for files.
fn blocks<B>(request: &Request<B>) -> bool {
    matches!(request.uri().path(), "/interceptions" | "/reload")
}

async fn shake_hands(identity: &Identity, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let acceptor = TlsAcceptor::from(identity.config());
    time::timeout(PATIENCE, acceptor.accept(stream)).await?
}

/// What `GET /interceptions` may be asked for.
const PARAMETERS: &str = "actor, before, limit, outcome and provider";
/// Characters shown of one that is none of them.
const LONGEST_SHOWN: usize = 64;

/// What of `GET /interceptions` is asked for.
fn search(query: &str) -> Result<Search, Cow<'static, str>> {
    let mut search = Search::newest(DEFAULT_LIMIT);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key), decoded(value));
        let text = || Some(value.clone());
        match &*key {
            "actor" => search.actor = text(),
            "before" => search.before = Some(cursor(&value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                search.limit = limit
                    .map(|limit: usize| limit.min(HIGHEST_LIMIT))
                    .ok_or("limit must be a whole number from 1")?;
            }
            "outcome" => search.outcome = text(),
            "provider" => search.provider = text(),
            _ => {
                let shown: String = key.chars().take(LONGEST_SHOWN).collect();
                let what = format!("unknown parameter {shown:?}; known are {PARAMETERS}");
                return Err(what.into());
            }
        }
    }
    Ok(search)
}

/// A part of a query, as forms encode it.
fn decoded(part: &str) -> String {
    let spaced = part.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// An interception's id, or a time.
fn cursor(text: &str) -> Result<Cursor, &'static str> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Cursor {
            started_at: Some(format!("{time:.3}")),
            id: String::new(),
        });
    }
    let is_id = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    if text.len() != 36 || !text.bytes().all(is_id) {
        return Err("before must be an interception's id, or a time such as 2026-01-31T12:00:00Z");
    }
    Ok(Cursor {
        started_at: None,
        id: text.to_ascii_lowercase(),
    })
}

fn state(server: &ServerTools) -> &'static str {
    server.state.as_str()
}

fn show_server(server: &ServerTools, now: Instant) -> Value {
    let (reason, retry_in) = match &server.state {
        ServerState::Connecting | ServerState::Up => (None, None),
        ServerState::Down { why, retry_at } => {
            (Some(why.to_string()), Some(millis(retry_at.since(now))))
        }
    };
    let tools = server.offered.iter();
    let tools = tools.map(|(name, tool)| json!({"name": &**name, "tool": &**tool}));
    let refused = server.refused.iter();
    let refused = refused.map(|refused| json!({"tool": refused.tool, "reason": refused.why}));
    json!({
        "name": &*server.name,
        "state": state(server),
        "reason": reason,
        "retry_in_ms": retry_in,
        "tools": tools.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
        "clashes": server.clashes,
    })
}

/// Rounded up: what is still to come is never 0.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn show_key(key: &KeyStatus, now: Instant) -> Value {
    let (reason, until) = match key.state {
        KeyState::Valid => (None, None),
        KeyState::Temporary(until, reason) => (Some(reason.as_str()), Some(until)),
        KeyState::Permanent(reason) => (Some(reason.as_str()), None),
    };
    let remaining = until.map(|until| millis(until.since(now)));
    json!({
        "hint": key.hint,
        "state": key.state.as_str(),
        "reason": reason,
        "cooldown_remaining_ms": remaining,
    })
}

fn reply_with(
    status: StatusCode,
    field: Option<(HeaderName, HeaderValue)>,
    body: &Value,
) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::from(format!("{body}\n")));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(field);
    reply
}

#[cfg(test)]
mod tests;
