//! A reply that is relayed and breaks off is judged again, as a fault: for the key's sake only.

use super::*;
use crate::{api::Api, keypool::KeyState};

/// Cools a key whose reply breaks off, for as many seconds as bytes of it were relayed; and would
/// try the next one.
#[derive(Debug)]
struct Fragile;

impl Policy for Fragile {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        match attempt.outcome {
            Came::Fault(_) if attempt.relayed > 0 => {
                let wait = Duration::from_secs(attempt.relayed);
                Verdict::next_key(Fate::Cool(Some(wait), Reason::Other("fragile")))
            }
            _ => Failover::default().judge(attempt),
        }
    }
}

const SENT: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

fn fragile() -> Provider {
    Provider {
        policy: Arc::new(Fragile),
        ..provider(Vendor::Anthropic)
    }
}

/// A streamed reply, begun: without tools and with.
fn begun(provider: &Provider) -> [Run; 2] {
    let mut plain = Run::new(provider.clone(), messages(true));
    plain.stream();
    let mut runs = [plain, endings::with_tools(provider.clone(), Api::Messages)];
    for run in &mut runs {
        run.bytes(SENT.as_bytes());
    }
    runs
}

/// It ended with an error, after one attempt, which was recorded once; the keys are in these
/// states.
#[track_caller]
fn assert_broken_off(run: &Run, outcome: Outcome, states: [&str; 2]) {
    assert_eq!((run.outcome(), run.ended), (outcome, Some(true)));
    assert!(run.text().starts_with(&format!("{SENT}event: error\n")));
    assert_eq!(run.calls.len(), 1, "nothing is tried again");
    let attempts = run
        .records
        .iter()
        .filter(|it| matches!(it, Record::Attempt(..)));
    assert_eq!(attempts.count(), 1);
    assert_eq!(run.states(), states);
}

#[test]
fn a_policy_may_cool_a_key_whose_reply_breaks_off() {
    for mut run in begun(&fragile()) {
        run.tell(Event::UpstreamFailed(CallId(1), Fault::Reset));
        assert_broken_off(&run, Outcome::UpstreamError, ["temporary", "valid"]);
        let until = NOW + Duration::from_secs(SENT.len() as u64);
        let state = run.bridge.keys(NOW)[0].keys[0].state;
        assert_eq!(state, KeyState::Temporary(until, Reason::Other("fragile")));
        let changed = run
            .records
            .iter()
            .filter(|it| matches!(it, Record::KeyChanged { .. }));
        assert_eq!(changed.count(), 1);
    }
}

#[test]
fn silence_in_a_reply_is_a_fault_of_it() {
    for mut run in begun(&fragile()) {
        for _ in 0..20 {
            run.pass(Duration::from_secs(15));
        }
        assert_eq!(run.outcome(), Outcome::Timeout);
        assert!(
            run.records
                .iter()
                .any(|it| matches!(it, Record::KeyChanged { .. }))
        );
    }
}

#[test]
fn the_shipped_policy_keeps_the_key_of_a_reply_that_breaks_off() {
    for mut run in begun(&provider(Vendor::Anthropic)) {
        run.tell(Event::UpstreamFailed(CallId(1), Fault::Reset));
        assert_broken_off(&run, Outcome::UpstreamError, ["valid", "valid"]);
    }
}

#[test]
fn what_is_no_fault_of_the_reply_is_not_judged() {
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for mut run in begun(&fragile()) {
        run.bytes(stop.as_bytes());
        run.tell(Event::UpstreamFailed(CallId(1), Fault::Reset));
        assert_eq!(run.states(), ["valid", "valid"], "all of it was there");
    }
    for mut run in begun(&fragile()) {
        run.tell(Event::ClientGone);
        assert_eq!(run.states(), ["valid", "valid"], "the client left");
    }
}
