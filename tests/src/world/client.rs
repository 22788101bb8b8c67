//! A client of a world: it thinks, asks, waits for its reply in its own manner, and asks again.

use std::borrow::Cow;

use aibridge_core::{
    Duration, Instant, Rng,
    api::{Api, Vendor},
};
use bytes::Bytes;

use super::provider::AT_LENGTH;
use crate::{
    Answer, Ask, ClientId, Sim,
    history::{Asked, Ending, Fact, History},
    plan::{Bulk, ClientPlan, Credential, Manner, Plan, RequestPlan},
    reply::pieces,
};

/// What a client that reads slowly takes at a time.
const SIP: usize = 16 << 10;
/// After so many sips it takes the rest at once: no world is to go on for ever.
const MAX_SIPS: u32 = 100;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    index: usize,
    plan: ClientPlan,
    /// The request that it thinks about or waits for.
    at: usize,
    retries: u32,
    conn: Option<ClientId>,
    /// Pieces of its request that it has not sent, the next one last.
    unsent: Vec<Bytes>,
    /// How often it has taken some of its reply, if it reads slowly.
    sips: u32,
    /// How many bytes of its reply it has looked at.
    seen: usize,
    state: State,
    rng: Rng,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Done,
    Thinking(Instant),
    /// It asked, and does something at a time, if it does not get its reply before.
    Waiting(Option<Instant>),
}

impl Client {
    pub(super) fn new(index: usize, plan: &ClientPlan, began: Instant, seed: u64) -> Self {
        let state = match plan.requests.first() {
            Some(first) => State::Thinking(began + first.after),
            None => State::Done,
        };
        Self {
            index,
            plan: plan.clone(),
            at: 0,
            retries: 0,
            conn: None,
            unsent: Vec::new(),
            sips: 0,
            seen: 0,
            state,
            rng: Rng::new(seed),
        }
    }

    /// Which bridge it talks to.
    pub(super) fn bridge(&self) -> usize {
        self.plan.bridge
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// When it does something by itself.
    pub(super) fn wakes(&self) -> Option<Instant> {
        match self.state {
            State::Done => None,
            State::Thinking(until) => Some(until),
            State::Waiting(until) => until,
        }
    }

    /// Does what there is to do now; says whether there was anything.
    pub(super) fn step(&mut self, now: Instant, sim: &mut Sim, world: &Plan) -> bool {
        match self.state {
            State::Thinking(until) if until <= now => self.ask(now, sim, world),
            State::Waiting(until) => return self.look(now, sim, until),
            State::Done | State::Thinking(_) => return false,
        }
        true
    }

    /// The world ends.
    pub(super) fn give_up(&mut self, sim: &mut Sim) {
        if let (State::Waiting(_), Some(conn)) = (self.state, self.conn) {
            answered(sim, conn, Ending::Waiting);
        }
        self.state = State::Done;
    }

    fn ask(&mut self, now: Instant, sim: &mut Sim, world: &Plan) {
        let request = &self.plan.requests[self.at];
        let conn = match self.conn.filter(|conn| !sim.is_closed(*conn)) {
            Some(conn) => conn,
            None => sim.connect(),
        };
        self.conn = Some(conn);
        let api = api_of(world.providers[request.provider].vendor, request);
        let own_key = match request.credential {
            Credential::Own(status) => Some(History::own_key(self.index, status)),
            Credential::Pool => None,
        };
        let asked = Asked {
            client: self.index,
            request: self.at,
            provider: request.provider,
            api,
            streaming: request.streaming,
            own_key: own_key.clone(),
            is_whole: !matches!(
                request.manner,
                Manner::SendsOnly(_) | Manner::SendsThenResets(_)
            ),
            is_swift: !matches!(request.manner, Manner::SendsSlowly(_)),
        };
        sim.note(conn.0, || Fact::Asked(Box::new(asked)));

        let mut bytes = self.bytes(api, request, own_key.as_deref(), world.tokens);
        if let Manner::SendsOnly(part) | Manner::SendsThenResets(part) = request.manner {
            bytes.truncate(part.min(bytes.len() - 1));
        }
        let cut = match request.bulk {
            Some(Bulk::Question) => self.plan.cut.coarser(),
            Some(Bulk::Reply) | None => self.plan.cut.clone(),
        };
        let mut pieces: Vec<_> = pieces(bytes, &cut).collect();
        pieces.reverse();
        self.unsent = pieces;
        match request.manner {
            Manner::SendsSlowly(_) => {
                self.send(sim, conn);
            }
            _ => while self.send(sim, conn) {},
        }
        let request = &self.plan.requests[self.at];
        let wakes = match request.manner {
            Manner::LeavesAt(_) | Manner::Patient | Manner::ResetsAt(_) => None,
            Manner::ReadsLate(wait) | Manner::ReadsSlowly(wait) | Manner::ResetsAfter(wait) => {
                Some(now + wait)
            }
            Manner::SendsSlowly(pause) => Some(now + pause),
            Manner::SendsOnly(_) => {
                sim.end(conn);
                None
            }
            Manner::SendsThenResets(_) => {
                sim.reset(conn);
                return self.left(now, sim, conn);
            }
        };
        let is_slow = matches!(
            request.manner,
            Manner::ReadsLate(_) | Manner::ReadsSlowly(_)
        );
        sim.set_reading(conn, !is_slow);
        self.sips = 0;
        self.seen = 0;
        self.state = State::Waiting(wakes);
    }

    /// Sends the next piece; says whether there was one.
    fn send(&mut self, sim: &mut Sim, conn: ClientId) -> bool {
        let Some(piece) = self.unsent.pop() else {
            return false;
        };
        sim.send(conn, piece);
        true
    }

    fn bytes(
        &self,
        api: Api,
        request: &RequestPlan,
        own_key: Option<&str>,
        has_token: bool,
    ) -> Bytes {
        let model = request.model;
        let question = match request.bulk {
            None => Cow::Borrowed("What is a bridge?"),
            Some(Bulk::Question) => "Of all bridges that I crossed… ".repeat(10_000).into(),
            Some(Bulk::Reply) => format!("What is a bridge? {AT_LENGTH}").into(),
        };
        let body = match api {
            Api::Messages => format!(
                r#"{{"model":"m{model}","max_tokens":64,"messages":[{{"role":"user","content":"{question}"}}]}}"#
            ),
            Api::ChatCompletions => format!(
                r#"{{"model":"m{model}","messages":[{{"role":"user","content":"{question}"}}]}}"#
            ),
            Api::Responses => format!(r#"{{"model":"m{model}","input":"{question}"}}"#),
        };
        let mut ask = Ask::with_body(api, request.streaming, &body);
        let path = crate::path(api).trim_start_matches('/');
        let (_, rest) = path.split_once('/').unwrap_or_default();
        ask.path = format!("/p{}/{rest}", request.provider);
        if self.plan.has_session {
            ask = ask
                .header("user-agent", "opencode/1")
                .header("x-opencode-session", &format!("session-{}", self.index));
        }
        if has_token {
            let token = History::token(self.index);
            // Every other client has only its SDK's field for it, which its own key takes.
            ask = if own_key.is_some() || self.index.is_multiple_of(2) {
                ask.header("x-aibridge-token", &token)
            } else {
                ask.key(api, &token)
            };
        }
        if let Some(key) = own_key {
            ask = ask.key(api, key);
        }
        ask.bytes()
    }

    /// Looks whether its reply is there.
    fn look(&mut self, now: Instant, sim: &mut Sim, wakes: Option<Instant>) -> bool {
        let Some(conn) = self.conn else {
            return false;
        };
        let (got, is_closed) = (sim.got(conn).len(), sim.is_closed(conn));
        let is_news = is_closed || got != std::mem::replace(&mut self.seen, got);
        if let Some(answer) = is_news.then(|| sim.take_complete(conn)).flatten() {
            let next = self.next(now, Some(&answer));
            sim.note(conn.0, || {
                Fact::Answered(Some(Box::new(answer)), Ending::Complete)
            });
            self.go_on(sim, next);
            return true;
        }
        if is_closed && sim.unsent(conn) == 0 {
            answered(sim, conn, Ending::Closed);
            self.conn = None;
            let next = self.next(now, None);
            self.go_on(sim, next);
            return true;
        }
        let is_due = wakes.is_some_and(|at| at <= now);
        match self.plan.requests[self.at].manner {
            Manner::LeavesAt(bytes) if got >= bytes => sim.end(conn),
            Manner::ResetsAfter(_) if is_due => sim.reset(conn),
            Manner::ResetsAt(bytes) if got >= bytes => sim.reset(conn),
            Manner::SendsSlowly(pause) if is_due => {
                let more = self.send(sim, conn);
                self.state = State::Waiting(more.then_some(now + pause));
                return true;
            }
            Manner::ReadsSlowly(pause) if is_due && self.sips < MAX_SIPS => {
                sim.take_some(conn, SIP);
                self.sips += 1;
                self.state = State::Waiting(Some(now + pause));
                return true;
            }
            Manner::ReadsLate(_) | Manner::ReadsSlowly(_) if is_due => {
                sim.set_reading(conn, true);
                self.state = State::Waiting(None);
                return true;
            }
            _ => return false,
        }
        self.left(now, sim, conn);
        true
    }

    /// It has left its connection.
    fn left(&mut self, now: Instant, sim: &mut Sim, conn: ClientId) {
        answered(sim, conn, Ending::Left);
        self.conn = None;
        let next = self.next(now, None);
        self.go_on(sim, next);
    }

    /// When the next request is due; `None` after the last.
    fn next(&mut self, now: Instant, answer: Option<&Answer>) -> Option<Instant> {
        let again =
            answer.filter(|answer| answer.status == 429 && self.retries < self.plan.retries);
        if let Some(answer) = again {
            self.retries += 1;
            let wait = answer
                .header("retry-after")
                .and_then(|wait| wait.parse().ok());
            // As SDKs do: not all at once.
            let jitter = Duration::from_millis(self.rng.next_u64() % 1000);
            return Some(now + Duration::from_secs(wait.unwrap_or(1)) + jitter);
        }
        self.retries = 0;
        self.at += 1;
        let next = self.plan.requests.get(self.at)?;
        Some(now + next.after)
    }

    fn go_on(&mut self, sim: &mut Sim, next: Option<Instant>) {
        self.state = match (next, self.conn) {
            (Some(at), _) => State::Thinking(at),
            (None, Some(conn)) => {
                sim.end(conn);
                State::Done
            }
            (None, None) => State::Done,
        };
    }
}

/// Notes as much of a reply as there is.
fn answered(sim: &mut Sim, conn: ClientId, ending: Ending) {
    let answer = sim.answer(conn).map(Box::new);
    sim.note(conn.0, || Fact::Answered(answer, ending));
}

/// Which API a request takes.
fn api_of(vendor: Vendor, request: &RequestPlan) -> Api {
    match vendor {
        Vendor::Anthropic => Api::Messages,
        Vendor::OpenAi if request.responses => Api::Responses,
        Vendor::OpenAi => Api::ChatCompletions,
    }
}
