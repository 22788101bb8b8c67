//! Circuit breakers: a provider that fails again and again is left alone for a while.
//!
//! ```text
//!           failures in a row                open is over
//!  Closed ────────────────────▶ Open(until) ─────────────▶ Half-open ──┐ successes in a row
//!    ▲                            ▲                          │         │
//!    │                            └────────── failure ───────┘         │
//!    └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! One per provider and endpoint, so there are as many as the configuration has, whatever clients
//! send. What counts is what a provider says of its own health: 503, 504 and 529. A key's 429 or
//! 401 is no failure, and a connection that breaks is neither.

use std::sync::Arc;

use crate::{
    api::Api,
    config::Breaker,
    time::{Duration, Instant},
};

/// What of a provider may fail by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// One of the APIs that the bridge looks into.
    Api(Api),
    /// Everything else.
    Passthrough,
}

impl Endpoint {
    /// As records and metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api(api) => api.as_str(),
            Self::Passthrough => "passthrough",
        }
    }
}

/// A circuit as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitStatus {
    /// The provider's name.
    pub provider: Arc<str>,
    /// What of it.
    pub endpoint: Endpoint,
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Failure,
    Success,
}

impl Health {
    pub(super) const fn of(status: u16) -> Self {
        match status {
            503 | 504 | 529 => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// How a request passes. What was let through before the circuit opened says nothing of it
/// afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    round: u64,
}

/// One circuit.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    state: State,
    /// Counts changes of state.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    HalfOpen { trying: u32, successes: u32 },
    Open { until: Instant },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// What a client is told to wait while others try.
const WHILE_TRYING: Duration = Duration::from_secs(1);

impl Circuit {
    /// May a request pass? If not, after how long.
    pub(super) fn enter(&mut self, now: Instant, breaker: &Breaker) -> Result<Pass, Duration> {
        if let State::Open { until } = self.state {
            if now < until {
                return Err(until.since(now));
            }
            self.turn(State::HalfOpen {
                trying: 0,
                successes: 0,
            });
        }
        if let State::HalfOpen { successes, .. } = self.state
            && successes >= breaker.half_open
        {
            // As many as it takes, since a reload: no one is left whose success would close it.
            self.turn(State::default());
        }
        if let State::HalfOpen { trying, successes } = &mut self.state {
            if *trying + *successes >= breaker.half_open {
                return Err(WHILE_TRYING);
            }
            *trying += 1;
        }
        Ok(Pass { round: self.round })
    }

    /// What came of a request that passed.
    pub(super) fn judge(&mut self, now: Instant, breaker: &Breaker, pass: Pass, health: Health) {
        if pass.round != self.round {
            return;
        }
        let open = State::Open {
            until: now + breaker.open,
        };
        match (&mut self.state, health) {
            (State::Closed { failures }, Health::Success) => *failures = 0,
            (State::Closed { failures }, Health::Failure) => {
                *failures += 1;
                if *failures >= breaker.failures {
                    self.turn(open);
                }
            }
            (State::HalfOpen { trying, successes }, Health::Success) => {
                *trying = trying.saturating_sub(1);
                *successes += 1;
                if *successes >= breaker.half_open {
                    self.turn(State::default());
                }
            }
            (State::HalfOpen { .. }, Health::Failure) => self.turn(open),
            (State::Open { .. }, _) => {}
        }
    }

    /// A request that passed came to no judgement: another may try in its place.
    pub(super) fn abandon(&mut self, pass: Pass) {
        if let State::HalfOpen { trying, .. } = &mut self.state
            && pass.round == self.round
        {
            *trying = trying.saturating_sub(1);
        }
    }

    /// `closed`, `open` or `half_open`.
    pub(super) fn state(&self, now: Instant) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { until } if now < until => "open",
            State::HalfOpen { .. } | State::Open { .. } => "half_open",
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Breaker = Breaker {
        failures: 2,
        open: Duration::from_secs(30),
        half_open: 3,
    };

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    /// A request that passes and is judged at once.
    fn ask(circuit: &mut Circuit, now: Instant, status: u16) -> Result<(), Duration> {
        let pass = circuit.enter(now, &BREAKER)?;
        circuit.judge(now, &BREAKER, pass, Health::of(status));
        Ok(())
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..2 {
            assert_eq!(ask(&mut circuit, now, 529), Ok(()));
        }
        circuit
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut circuit = Circuit::default();
        for status in [503, 200, 529, 429, 504, 500, 503] {
            assert_eq!(ask(&mut circuit, at(0), status), Ok(()));
        }
        assert_eq!(ask(&mut circuit, at(1), 504), Ok(()));
        assert_eq!(ask(&mut circuit, at(2), 200), Err(Duration::from_secs(29)));
    }

    #[test]
    fn after_its_time_three_may_try_and_close_it() {
        let mut circuit = opened(at(0));
        assert_eq!(circuit.enter(at(29), &BREAKER), Err(Duration::from_secs(1)));
        let passes: Vec<_> = (0..3)
            .map(|_| circuit.enter(at(30), &BREAKER).unwrap())
            .collect();
        assert_eq!(circuit.enter(at(30), &BREAKER), Err(WHILE_TRYING));
        for pass in passes {
            circuit.judge(at(31), &BREAKER, pass, Health::Success);
        }
        for _ in 0..9 {
            assert!(circuit.enter(at(31), &BREAKER).is_ok());
        }
    }

    #[test]
    fn a_failure_of_one_that_tries_opens_it_again_whatever_the_others_say() {
        let mut circuit = opened(at(0));
        let first = circuit.enter(at(30), &BREAKER).unwrap();
        let second = circuit.enter(at(30), &BREAKER).unwrap();
        circuit.judge(at(31), &BREAKER, first, Health::Failure);
        circuit.judge(at(32), &BREAKER, second, Health::Success);
        assert_eq!(
            circuit.enter(at(33), &BREAKER),
            Err(Duration::from_secs(28))
        );
    }

    #[test]
    fn one_that_leaves_without_a_judgement_makes_room() {
        let mut circuit = opened(at(0));
        for _ in 0..20 {
            let pass = circuit.enter(at(30), &BREAKER).unwrap();
            circuit.abandon(pass);
        }
    }

    #[test]
    fn late_replies_from_before_it_opened_do_not_count() {
        let mut circuit = Circuit::default();
        let early = circuit.enter(at(0), &BREAKER).unwrap();
        assert!(ask(&mut circuit, at(0), 503).is_ok() && ask(&mut circuit, at(0), 503).is_ok());
        // While it is open.
        for health in [Health::Failure, Health::Success] {
            circuit.judge(at(1), &BREAKER, early, health);
            let refused = circuit.enter(at(10), &BREAKER);
            assert_eq!(refused, Err(Duration::from_secs(20)));
        }
        // While others try.
        for _ in 0..3 {
            circuit.enter(at(30), &BREAKER).unwrap();
            circuit.judge(at(31), &BREAKER, early, Health::Failure);
            assert_eq!(circuit.state(at(31)), "half_open");
        }
        for _ in 0..3 {
            circuit.judge(at(32), &BREAKER, early, Health::Success);
        }
        assert_eq!(circuit.enter(at(32), &BREAKER), Err(WHILE_TRYING));
    }

    #[test]
    fn fewer_that_must_succeed_after_a_reload_do_not_keep_it_half_open() {
        for half_open in 1..=3 {
            let mut circuit = opened(at(0));
            for _ in 0..2 {
                assert_eq!(ask(&mut circuit, at(30), 200), Ok(()));
            }
            assert_eq!(circuit.state(at(30)), "half_open");
            let reloaded = Breaker {
                half_open,
                ..BREAKER
            };
            for _ in 0..5 {
                let pass = circuit.enter(at(31), &reloaded).unwrap();
                circuit.judge(at(31), &reloaded, pass, Health::Success);
            }
            assert_eq!(circuit.state(at(31)), "closed", "{half_open}");
        }
    }

    #[test]
    fn one_that_tries_still_decides_after_a_reload() {
        let mut circuit = opened(at(0));
        assert_eq!(ask(&mut circuit, at(30), 200), Ok(()));
        let pass = circuit.enter(at(30), &BREAKER).unwrap();
        let reloaded = Breaker {
            half_open: 2,
            ..BREAKER
        };
        assert_eq!(circuit.enter(at(31), &reloaded), Err(WHILE_TRYING));
        circuit.judge(at(31), &reloaded, pass, Health::Success);
        assert_eq!(circuit.state(at(31)), "closed");
    }
}
