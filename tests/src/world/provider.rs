//! A provider of a world: keys with limits, outages, and what goes wrong by the way.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use aibridge_core::{
    Duration, Fault, Instant, Target,
    api::{Api, Vendor},
};

use super::blips::Blips;
use crate::{
    Connect, Host, Reply, Seen, Turn,
    history::{History, MARK},
    plan::{Blip, Limit, ProviderPlan, Told},
};

/// A provider, shared by a world and what plays it.
#[derive(Clone, Debug)]
pub(super) struct Provider(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    plan: ProviderPlan,
    began: Instant,
    now: Instant,
    /// Secrets in the order of the keys.
    keys: Vec<String>,
    blips: Blips,
    /// When each bucket will be full again, by key and model.
    full_at: BTreeMap<(usize, String), Instant>,
}

/// How much a bucket has for a request.
struct Taken {
    /// Tokens left; `None`: there was none to take.
    left: Option<u32>,
    /// When there is one.
    next_in: Duration,
    /// When it is full.
    full_in: Duration,
}

impl Provider {
    pub(super) fn new(plan: &ProviderPlan, index: usize, began: Instant) -> Self {
        Self(Arc::new(Mutex::new(State {
            plan: plan.clone(),
            began,
            now: began,
            keys: (0..plan.keys.len())
                .map(|key| History::key(index, key))
                .collect(),
            blips: Blips::new(&plan.blips),
            full_at: BTreeMap::new(),
        })))
    }

    /// Where the provider of this number is.
    pub(super) fn target(index: usize) -> Target {
        Target {
            host: format!("p{index}.test").into(),
            port: 80,
            tls: false,
        }
    }

    pub(super) fn set_now(&self, now: Instant) {
        self.lock().now = now;
    }

    /// Places of the keys that would be served now.
    pub(super) fn able(&self, now: Instant, model: Option<&str>) -> Vec<usize> {
        let state = self.lock();
        let serves = |key: &usize| {
            let is_revoked = state.revoked(now, *key).is_some();
            let bucket = state.plan.keys[*key].limit;
            let has_token =
                bucket.is_none_or(|limit| state.wait(now, *key, limit, model).is_zero());
            !is_revoked && has_token
        };
        if state.is_out(now) {
            return Vec::new();
        }
        (0..state.keys.len()).filter(serves).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Provider {
    fn dial(&mut self, number: u64) -> (Connect, Duration) {
        let mut state = self.lock();
        let now = state.now;
        if state.is_out(now) {
            return (Connect::Fail(Fault::Refused), Duration::ZERO);
        }
        let takes = state.plan.connects_in;
        state.blips.dial(number, takes)
    }

    fn call(&mut self, seen: &Seen) -> Reply {
        let mut state = self.lock();
        let blip = state.blips.next_call();
        let reply = match blip.and_then(Blip::instead) {
            Some(reply) => reply,
            None => state.answer(seen),
        };
        let latency = state.plan.latency / if reply.is_success() { 1 } else { 10 };
        let cut = if is_long(seen) {
            state.plan.cut.coarser()
        } else {
            state.plan.cut.clone()
        };
        let reply = reply.after(latency).cut(cut);
        let reply = match state.plan.pace {
            Duration::ZERO => reply,
            pace => reply.pausing(pace),
        };
        match blip {
            Some(blip) => blip.spoil(reply, latency),
            None => reply,
        }
    }

    fn sips(&self) -> Option<(usize, Duration)> {
        self.lock().plan.sips
    }
}

impl State {
    fn is_out(&self, now: Instant) -> bool {
        let elapsed = now.since(self.began);
        let window = self.plan.outage;
        window.is_some_and(|(from, to)| (from..to).contains(&elapsed))
    }

    /// The status with which a key is rejected.
    fn revoked(&self, now: Instant, key: usize) -> Option<u16> {
        let (from, status) = self.plan.keys[key].revoked?;
        (from <= now.since(self.began)).then_some(status)
    }

    /// What a provider does that nothing goes wrong with.
    fn answer(&mut self, seen: &Seen) -> Reply {
        if let Some((_, status)) = seen.key.split_once(MARK)
            && seen.key.starts_with("own")
        {
            return match status.parse() {
                Ok(200) => said(seen),
                Ok(status) => Reply::status(status).retry_after(7),
                Err(_) => Reply::status(401),
            };
        }
        let now = self.now;
        let Some(key) = self.keys.iter().position(|known| *known == seen.key) else {
            return Reply::status(401);
        };
        if let Some(status) = self.revoked(now, key) {
            return Reply::status(status);
        }
        let Some(limit) = self.plan.keys[key].limit else {
            return said(seen);
        };
        let taken = self.take(key, limit, model_of(&seen.body));
        if taken.left.is_none() {
            return self.refusal(limit.told, taken.next_in);
        }
        if self.plan.announces {
            return self.announced(said(seen), limit, &taken);
        }
        said(seen)
    }

    /// How long a request has to wait for a token.
    fn wait(&self, now: Instant, key: usize, limit: Limit, model: Option<&str>) -> Duration {
        let full_at = self.full_at.get(&bucket(key, limit, model));
        let missing = full_at.map_or(Duration::ZERO, |at| at.since(now));
        missing.saturating_sub(limit.every * limit.burst.saturating_sub(1))
    }

    fn take(&mut self, key: usize, limit: Limit, model: Option<&str>) -> Taken {
        let now = self.now;
        let next_in = self.wait(now, key, limit, model);
        let full_at = self.full_at.entry(bucket(key, limit, model)).or_insert(now);
        *full_at = (*full_at).max(now);
        if next_in.is_zero() {
            *full_at += limit.every;
        }
        let full_in = full_at.since(now);
        let missing = full_in.as_nanos().div_ceil(limit.every.as_nanos().max(1));
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        Taken {
            left: next_in
                .is_zero()
                .then(|| limit.burst.saturating_sub(missing)),
            next_in,
            full_in,
        }
    }

    /// A 429.
    fn refusal(&self, told: Told, wait: Duration) -> Reply {
        let reply = Reply::status(429);
        let seconds = wait.as_millis().div_ceil(1000);
        match told {
            Told::Date => {
                let seconds = self.now.as_millis().div_ceil(1000)
                    + u64::try_from(seconds).unwrap_or(u64::MAX);
                let date = UNIX_EPOCH + Duration::from_secs(seconds);
                reply.header("retry-after", &httpdate::fmt_http_date(date))
            }
            Told::Millis => {
                let millis = wait.as_micros().div_ceil(1000);
                reply.header("retry-after-ms", &millis.to_string())
            }
            Told::Nothing => reply,
            Told::Seconds => reply.header("retry-after", &seconds.to_string()),
        }
    }

    /// The same reply with what providers say of their limits: how many requests a key may make,
    /// has left, and when it has all of them again.
    fn announced(&self, reply: Reply, limit: Limit, taken: &Taken) -> Reply {
        let left = taken.left.unwrap_or_default().to_string();
        let all = limit.burst.to_string();
        match self.plan.vendor {
            Vendor::Anthropic => reply
                .header("anthropic-ratelimit-requests-limit", &all)
                .header("anthropic-ratelimit-requests-remaining", &left)
                .header(
                    "anthropic-ratelimit-requests-reset",
                    &rfc3339(self.now + taken.full_in),
                ),
            Vendor::OpenAi => reply
                .header("x-ratelimit-limit-requests", &all)
                .header("x-ratelimit-remaining-requests", &left)
                .header(
                    "x-ratelimit-reset-requests",
                    &format!("{}ms", taken.full_in.as_millis()),
                ),
        }
    }
}

fn bucket(key: usize, limit: Limit, model: Option<&str>) -> (usize, String) {
    let model = model.filter(|_| limit.per_model).unwrap_or_default();
    (key, model.to_owned())
}

/// The names of the tools that models call where they are on offer.
const TOOLS: [&str; 2] = ["bmcp_t0_look", "bmcp_t1_look"];
/// What the ids of their calls begin with.
const CALL: &str = "worlds_call";

/// What a request says that wants a long reply.
pub(super) const AT_LENGTH: &str = "Tell me all of it.";

/// What a model says, rendered once: by API, and whether it streams; without a call, with one, with
/// two, and at length.
static SAID: LazyLock<Vec<[Reply; 4]>> = LazyLock::new(|| {
    let said = Turn::new().thinks(&["Hm."], "c2ln").says(&[
        "A bridge ",
        "carries you ",
        "over what would ",
        "stop you.",
    ]);
    let verse = "A bridge carries you over what would stop you. ".repeat(100);
    let told = Turn::new().says(&[verse.as_str(); 64]);
    let arguments = r#"{"at":"sky"}"#;
    let call = |turn: Turn, at: usize| turn.calls(&format!("{CALL}_{at}"), TOOLS[at], arguments);
    let called = call(Turn::new().says(&["Let me look."]), 0);
    let called_both = call(called.clone(), 1);
    let forms = crate::APIS
        .into_iter()
        .flat_map(|api| [(api, false), (api, true)]);
    forms
        .map(|(api, streaming)| {
            let replies = [
                said.reply(api, streaming, 1),
                called.reply(api, streaming, 0),
                called_both.reply(api, streaming, 0),
                told.reply(api, streaming, 1),
            ];
            // Whole replies have a length at the one API, and only an end at the other.
            match api {
                Api::Responses => replies.map(Reply::in_chunks),
                _ => replies,
            }
        })
        .collect()
});

/// The model answers; where it has tools and has not called them yet, it calls them.
fn said(seen: &Seen) -> Reply {
    let has = |text: &str| memchr::memmem::find(&seen.body, text.as_bytes()).is_some();
    let api = match seen.path.as_str() {
        path if path.ends_with("/messages") => Api::Messages,
        path if path.ends_with("/responses") => Api::Responses,
        _ => Api::ChatCompletions,
    };
    let place = crate::APIS
        .iter()
        .position(|known| *known == api)
        .unwrap_or_default();
    let streaming = usize::from(has(r#""stream":true"#));
    let offered = TOOLS.into_iter().take_while(|tool| has(tool)).count();
    let said = match offered {
        _ if has(CALL) => 0,
        0 if is_long(seen) => 3,
        calls => calls,
    };
    SAID[2 * place + streaming][said].clone()
}

/// Whether a long reply is wanted.
fn is_long(seen: &Seen) -> bool {
    // It stands near the beginning, and what is after it may be long.
    let begin = &seen.body[..seen.body.len().min(1 << 10)];
    memchr::memmem::find(begin, AT_LENGTH.as_bytes()).is_some()
}

/// The model that a request of a world asks for.
fn model_of(body: &[u8]) -> Option<&str> {
    let from = memchr::memmem::find(body, br#""model":""#)? + r#""model":""#.len();
    let len = memchr::memchr(b'"', &body[from..])?;
    str::from_utf8(&body[from..from + len]).ok()
}

/// A time as RFC 3339 writes it, in whole seconds rounded up. Days are counted as Howard Hinnant's
/// `civil_from_days` does.
fn rfc3339(at: Instant) -> String {
    let seconds = at.as_millis().div_ceil(1000);
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next_year;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::KeyPlan;

    fn provider(told: Told) -> Provider {
        let mut key = KeyPlan::limited(2, Duration::from_secs(10));
        if let Some(limit) = &mut key.limit {
            limit.told = told;
        }
        let plan = ProviderPlan {
            announces: true,
            ..ProviderPlan::new([key])
        };
        Provider::new(&plan, 0, Instant::from_secs(1_700_000_000))
    }

    fn call(provider: &mut Provider, key: &str) -> String {
        let request = http::Request::post("/v1/messages").header("x-api-key", key);
        let body = bytes::Bytes::from_static(br#"{"model":"m0"}"#);
        let reply = provider.call(&Seen::new(request.body(body).unwrap(), 1));
        let bytes = reply.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let head = text.split("\r\n\r\n").next().unwrap();
        let wanted = |line: &&str| line.contains("HTTP") || line.contains("re");
        let lines: Vec<_> = head.split("\r\n").filter(wanted).collect();
        lines.join("; ")
    }

    #[test]
    fn a_bucket_is_emptied_and_fills_again() {
        let key = History::key(0, 0);
        for (told, wait) in [
            (Told::Seconds, "; retry-after: 10"),
            (Told::Millis, "; retry-after-ms: 10000"),
            (Told::Date, "; retry-after: Tue, 14 Nov 2023 22:13:30 GMT"),
            (Told::Nothing, ""),
        ] {
            let mut provider = provider(told);
            let head = call(&mut provider, &key);
            assert!(head.contains("requests-remaining: 1"), "{head}");
            assert!(
                head.contains("requests-reset: 2023-11-14T22:13:30Z"),
                "{head}"
            );
            assert!(call(&mut provider, &key).contains("requests-remaining: 0"));
            assert_eq!(
                provider.able(Instant::from_secs(1_700_000_000), Some("m0")),
                [0; 0]
            );
            let refused = call(&mut provider, &key);
            assert_eq!(refused, format!("HTTP/1.1 429 Too Many Requests{wait}"));

            let later = Instant::from_secs(1_700_000_010);
            provider.set_now(later);
            assert_eq!(provider.able(later, Some("m0")), [0]);
            assert!(call(&mut provider, &key).contains("requests-remaining: 0"));
        }
    }

    #[test]
    fn keys_of_nobody_are_rejected() {
        let mut provider = provider(Told::Seconds);
        assert!(call(&mut provider, "p0k9").contains("401"));
        assert!(call(&mut provider, &History::own_key(3, 200)).contains("200"));
        assert!(call(&mut provider, &History::own_key(3, 429)).contains("429"));
    }
}
