//! A scripted upstream: what it will reply, and what it saw.
//!
//! A [`Script`] belongs to the test, an [`Upstream`] to whatever plays it (the simulator, a driver,
//! a server on a socket). The test ends with [`Script::verify`]: a script that was called too
//! often, or not often enough, or by something that is no HTTP, fails the test. Dropping a script
//! that nobody verified fails it as well.
//!
//! ```
//! use aibridge_testkit::{Reply, Script};
//!
//! let script = Script::in_order([Reply::status(429).retry_after(5), Reply::json(200, "{}")]);
//! // … play it …
//! # script.abandon();
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aibridge_core::Fault;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};

use crate::Reply;

/// One call as the upstream saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The secret in `x-api-key`, or else the bearer token in `authorization`; empty without
    /// either.
    pub key: String,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// On which connection, counted from 1 as they were accepted; 0 where there are none.
    pub connection: u64,
}

impl Seen {
    /// A call from its message.
    pub fn new(request: Request<Bytes>, connection: u64) -> Self {
        let (parts, body) = request.into_parts();
        let field = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let bearer = || field("authorization")?.split_whitespace().nth(1);
        let key = field("x-api-key").or_else(bearer).unwrap_or_default();
        Self {
            key: key.to_owned(),
            method: parts.method,
            path: parts.uri.to_string(),
            headers: parts.headers,
            body,
            connection,
        }
    }

    /// A header field; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// How a connection attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// It comes up, as the connection of this number.
    Accept(u64),
    /// It fails.
    Fail(Fault),
    /// Nothing ever comes back.
    NoAnswer,
}

/// The test's end of a scripted upstream. It ends with [`verify`](Self::verify): a script that was
/// called too often, or not often enough, or by something that is no HTTP, fails the test. So does
/// one that is dropped unverified.
#[derive(Debug)]
pub struct Script {
    upstream: Upstream,
    verified: bool,
}

/// The player's end of a scripted upstream.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    confirmed: Condvar,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    seen: Vec<Seen>,
    wrong: Vec<String>,
    accepted: u64,
    confirmations: u64,
    /// Nobody is at home: connections are refused.
    is_down: bool,
}

/// An upstream that keeps a state of its own.
pub trait Host: Send {
    /// Somebody connects: how that goes, and how long a connection takes to come up. `number` is
    /// what it is called.
    fn dial(&mut self, number: u64) -> (Connect, Duration);

    /// Somebody calls.
    fn call(&mut self, seen: &Seen) -> Reply;

    /// How many bytes of what it is sent it reads at a time, and how long it pauses then; `None`:
    /// all at once.
    fn sips(&self) -> Option<(usize, Duration)> {
        None
    }
}

/// Chooses a reply.
type Chooser = Box<dyn FnMut(&Seen) -> Reply + Send>;

enum Plan {
    Choose(Chooser),
    Host(Box<dyn Host>),
    Keys(BTreeMap<String, VecDeque<Reply>>),
    Order(VecDeque<Reply>),
}

impl Script {
    /// Replies in the order of the calls, one each.
    pub fn in_order(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::new(Plan::Order(replies.into_iter().collect()))
    }

    /// Replies for each key in the order of its calls, one each.
    pub fn by_key<R: IntoIterator<Item = Reply>>(
        keys: impl IntoIterator<Item = (&'static str, R)>,
    ) -> Self {
        let queue = |(key, replies): (&str, R)| (key.to_owned(), replies.into_iter().collect());
        Self::new(Plan::Keys(keys.into_iter().map(queue).collect()))
    }

    /// Replies chosen by the call, any number of times.
    pub fn choosing(choose: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::new(Plan::Choose(Box::new(choose)))
    }

    /// Played by a host. What it sees is not kept.
    pub fn hosted(host: impl Host + 'static) -> Self {
        Self::new(Plan::Host(Box::new(host)))
    }

    fn new(plan: Plan) -> Self {
        let state = State {
            plan,
            seen: Vec::new(),
            wrong: Vec::new(),
            accepted: 0,
            confirmations: 0,
            is_down: false,
        };
        Self {
            upstream: Upstream(Arc::new(Shared {
                state: Mutex::new(state),
                confirmed: Condvar::new(),
            })),
            verified: false,
        }
    }

    /// What plays it.
    pub fn upstream(&self) -> Upstream {
        self.upstream.clone()
    }

    /// Lets one reply that waits for it go on: see [`Reply::confirming`].
    pub fn confirm(&self) {
        self.upstream.lock().confirmations += 1;
        self.upstream.0.confirmed.notify_all();
    }

    /// From now on connections are refused, or accepted again.
    pub fn set_down(&self, is_down: bool) {
        self.upstream.lock().is_down = is_down;
    }

    /// The calls so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.upstream.lock().seen.clone()
    }

    /// The keys of the calls so far, in order.
    pub fn keys(&self) -> Vec<String> {
        self.upstream
            .lock()
            .seen
            .iter()
            .map(|call| call.key.clone())
            .collect()
    }

    /// The only call.
    ///
    /// # Panics
    /// There was none, or more than one.
    #[track_caller]
    pub fn only_call(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "calls seen: {seen:#?}");
        seen.remove(0)
    }

    /// The script is over: every reply was asked for, none too many. Gives the calls.
    ///
    /// # Panics
    /// It was not played as written.
    #[track_caller]
    pub fn verify(mut self) -> Vec<Seen> {
        self.verified = true;
        let state = self.upstream.lock();
        let mut wrong = state.wrong.clone();
        let left = match &state.plan {
            Plan::Choose(_) | Plan::Host(_) => 0,
            Plan::Keys(keys) => keys.values().map(VecDeque::len).sum(),
            Plan::Order(replies) => replies.len(),
        };
        if left > 0 {
            wrong.push(format!("{left} replies were not asked for"));
        }
        let keys: Vec<_> = state.seen.iter().map(|call| &call.key).collect();
        assert!(
            wrong.is_empty(),
            "scripted upstream: {wrong:#?}\nkeys seen: {keys:?}"
        );
        state.seen.clone()
    }

    /// The test does not mind what was left unplayed.
    pub fn abandon(mut self) {
        self.verified = true;
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        assert!(
            self.verified || std::thread::panicking(),
            "a script was dropped without `verify` or `abandon`"
        );
    }
}

impl Upstream {
    /// Somebody connects.
    pub fn connect(&self) -> Connect {
        self.dial().0
    }

    /// Somebody connects: how that goes, and how long a connection takes to come up where time is
    /// virtual.
    pub fn dial(&self) -> (Connect, Duration) {
        let mut state = self.lock();
        if state.is_down {
            return (Connect::Fail(Fault::Refused), Duration::ZERO);
        }
        let number = state.accepted + 1;
        if let Plan::Host(host) = &mut state.plan {
            let dialled = host.dial(number);
            state.accepted += u64::from(matches!(dialled.0, Connect::Accept(_)));
            return dialled;
        }
        if let Plan::Order(replies) = &mut state.plan
            && let Some(failed) = replies.front().and_then(Reply::failed_connect)
        {
            replies.pop_front();
            return (failed, Duration::ZERO);
        }
        state.accepted = number;
        (Connect::Accept(number), Duration::ZERO)
    }

    /// How many bytes it reads at a time where time is virtual, and how long it pauses then;
    /// `None`: all at once.
    pub(crate) fn sips(&self) -> Option<(usize, Duration)> {
        match &self.lock().plan {
            Plan::Host(host) => host.sips(),
            Plan::Choose(_) | Plan::Keys(_) | Plan::Order(_) => None,
        }
    }

    /// What peers did that no peer may do.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    /// Somebody calls. A call too many is answered with a 500 that says so, and noted.
    pub fn call(&self, seen: Seen) -> Reply {
        let mut state = self.lock();
        let reply = match &mut state.plan {
            Plan::Choose(choose) => Some(choose(&seen)),
            Plan::Host(host) => return host.call(&seen),
            Plan::Keys(keys) => keys.get_mut(&seen.key).and_then(VecDeque::pop_front),
            Plan::Order(replies) => replies.pop_front(),
        };
        if reply.is_none() {
            let wrong = format!(
                "a call too many: {} {} with key {:?}",
                seen.method, seen.path, seen.key
            );
            state.wrong.push(wrong);
        }
        if reply.as_ref().and_then(Reply::failed_connect).is_some() {
            let wrong = "a connection was to fail, but one that was up is used".to_owned();
            state.wrong.push(wrong);
        }
        state.seen.push(seen);
        reply.unwrap_or_else(|| {
            Reply::json(
                500,
                r#"{"error":{"message":"no reply is scripted for this call"}}"#,
            )
        })
    }

    /// Somebody did what no peer may do.
    pub fn note(&self, wrong: String) {
        self.lock().wrong.push(wrong);
    }

    /// How often [`Script::confirm`] was called.
    pub fn confirmations(&self) -> u64 {
        self.lock().confirmations
    }

    /// Waits until [`Script::confirm`] has been called so often; false if that takes more than ten
    /// seconds.
    pub fn wait_confirmations(&self, count: u64) -> bool {
        let pending = |state: &mut State| state.confirmations < count;
        let limit = Duration::from_secs(10);
        let waited = self
            .0
            .confirmed
            .wait_timeout_while(self.lock(), limit, pending);
        let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !result.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choose(_) => f.write_str("Choose"),
            Self::Host(_) => f.write_str("Host"),
            Self::Keys(keys) => f.debug_tuple("Keys").field(keys).finish(),
            Self::Order(replies) => f.debug_tuple("Order").field(replies).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(key: &str) -> Seen {
        let request = Request::post("/v1/messages").header("x-api-key", key);
        Seen::new(request.body(Bytes::new()).unwrap(), 1)
    }

    #[test]
    #[should_panic(expected = "1 replies were not asked for")]
    fn a_call_too_few_fails_the_test() {
        let script = Script::in_order([Reply::status(200), Reply::status(200)]);
        script.upstream().call(call("k0"));
        script.verify();
    }

    #[test]
    #[should_panic(expected = "a call too many")]
    fn a_call_too_many_fails_the_test() {
        let script = Script::by_key([("k0", [Reply::status(200)])]);
        script.upstream().call(call("k0"));
        script.upstream().call(call("k1"));
        script.verify();
    }

    #[test]
    #[should_panic(expected = "without `verify`")]
    fn a_script_nobody_verified_fails_the_test() {
        let _ = Script::in_order([]);
    }

    #[test]
    fn keys_are_read_from_both_headers() {
        let bearer = Request::get("/").header("authorization", "Bearer b");
        let seen = Seen::new(bearer.body(Bytes::new()).unwrap(), 1);
        assert_eq!((seen.key.as_str(), call("a").key.as_str()), ("b", "a"));
    }
}
