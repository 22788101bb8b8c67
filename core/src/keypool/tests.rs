//! The pool's table of states, row by row, and against a model.

use proptest::prelude::*;

use super::*;
use crate::{
    secret::Secret,
    time::{Duration, Instant},
};

const T0: Instant = Instant::from_secs(1_000);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn pool(keys: usize) -> Pool {
    let keys = (0..keys)
        .map(|n| Secret::new(format!("k{n}-pool-key")))
        .collect();
    Pool::new(keys, secs(60), secs(3600)).unwrap()
}

fn cool(wait: u64) -> Verdict {
    Verdict::next_key(Fate::Cool(Some(secs(wait)), Reason::RateLimited))
}

fn retire() -> Verdict {
    Verdict::next_key(Fate::Retire(Reason::Unauthorized))
}

fn lease(pool: &Pool, now: Instant, walker: &mut Walker) -> Result<usize, Exhausted> {
    pool.lease(now, walker, &Failover::default(), None, None)
        .map(|lease| lease.index)
}

fn state(pool: &Pool, now: Instant, index: usize) -> KeyState {
    pool.statuses(now)[index].state
}

#[test]
fn a_pool_needs_distinct_keys_that_can_be_sent() {
    let build = |keys: &[&str]| {
        Pool::new(
            keys.iter().map(|key| Secret::new(*key)).collect(),
            secs(60),
            secs(60),
        )
        .err()
    };
    assert_eq!(build(&[]), Some(PoolError::Empty));
    assert_eq!(build(&["a", "b", "a"]), Some(PoolError::Duplicate(2)));
    assert_eq!(build(&["a", "  "]), Some(PoolError::Malformed(1)));
    assert_eq!(build(&["a\nb"]), Some(PoolError::Malformed(0)));
    assert_eq!(build(&["a", "b"]), None);
    assert_eq!(PoolError::Empty.to_string(), "no keys provided");
    assert_eq!(PoolError::Duplicate(2).to_string(), "duplicate key");
}

#[test]
fn a_cooldown_ends_exactly_at_its_deadline() {
    let mut pool = pool(1);
    let changed = pool.apply(T0, KeyId(0), &cool(5), None).unwrap();
    assert_eq!(
        (changed.from, changed.hint.as_str()),
        (KeyState::Valid, "k0...ey")
    );
    let just_before = T0 + Duration::from_nanos(4_999_999_999);
    assert_eq!(
        state(&pool, just_before, 0),
        KeyState::Temporary(T0 + secs(5), Reason::RateLimited)
    );
    assert_eq!(state(&pool, T0 + secs(5), 0), KeyState::Valid);
}

#[test]
fn a_cooldown_is_lengthened_never_shortened() {
    let mut pool = pool(1);
    pool.apply(T0, KeyId(0), &cool(10), None);
    let forbidden = Verdict::next_key(Fate::Cool(Some(secs(5)), Reason::Forbidden));
    assert_eq!(pool.apply(T0, KeyId(0), &forbidden, None), None);
    assert_eq!(
        state(&pool, T0, 0),
        KeyState::Temporary(T0 + secs(10), Reason::RateLimited)
    );
    let longer = Verdict::next_key(Fate::Cool(Some(secs(20)), Reason::Forbidden));
    assert_eq!(pool.apply(T0, KeyId(0), &longer, None), None);
    assert_eq!(
        state(&pool, T0, 0),
        KeyState::Temporary(T0 + secs(20), Reason::Forbidden)
    );
}

#[test]
fn absent_cooldowns_take_the_default_and_long_ones_are_capped() {
    let mut pool = pool(3);
    let absent = Verdict::next_key(Fate::Cool(None, Reason::RateLimited));
    pool.apply(T0, KeyId(0), &absent, None);
    pool.apply(T0, KeyId(1), &cool(0), None);
    pool.apply(T0, KeyId(2), &cool(86_400), None);
    for (index, wait) in [(0, 60), (1, 60), (2, 3600)] {
        let expected = KeyState::Temporary(T0 + secs(wait), Reason::RateLimited);
        assert_eq!(state(&pool, T0, index), expected);
    }
}

#[test]
fn defect_24_a_retired_key_stays_so_until_it_is_reset() {
    let mut pool = pool(1);
    pool.apply(T0, KeyId(0), &cool(5), None);
    assert!(pool.apply(T0, KeyId(0), &retire(), None).is_some());
    for verdict in [cool(9), retire(), Verdict::RELAY] {
        assert_eq!(pool.apply(T0, KeyId(0), &verdict, None), None);
    }
    assert_eq!(
        state(&pool, T0 + secs(9_999), 0),
        KeyState::Permanent(Reason::Unauthorized)
    );
    assert_eq!(pool.reset(T0, 0).unwrap().state, KeyState::Valid);
    assert_eq!(pool.reset(T0, 1), None);
}

#[test]
fn a_success_does_not_clear_a_cooldown() {
    let mut pool = pool(1);
    pool.apply(T0, KeyId(0), &cool(5), None);
    assert_eq!(pool.apply(T0, KeyId(0), &Verdict::RELAY, None), None);
    assert_eq!(state(&pool, T0, 0).as_str(), "temporary");
}

#[test]
fn defect_07_a_key_that_cools_for_less_than_a_round_trip_is_not_tried_twice() {
    let mut pool = pool(2);
    let mut walker = Walker::new();
    let mut now = T0;
    for expected in [Ok(0), Ok(1), Err(Exhausted::RateLimited(secs(1)))] {
        let leased = lease(&pool, now, &mut walker);
        assert_eq!(leased, expected);
        if let Ok(index) = leased {
            let short = Fate::Cool(Some(Duration::from_millis(1)), Reason::RateLimited);
            pool.apply(
                now,
                KeyId(u32::try_from(index).unwrap()),
                &Verdict::next_key(short),
                None,
            );
        }
        now += secs(1);
    }
    assert_eq!(walker.attempts(), 2);
}

#[test]
fn a_walk_moves_forward_only() {
    let mut pool = pool(3);
    pool.apply(T0, KeyId(0), &cool(5), None);
    let mut walker = Walker::new();
    assert_eq!(lease(&pool, T0, &mut walker), Ok(1));
    assert_eq!(lease(&pool, T0 + secs(6), &mut walker), Ok(2));
    let over = Err(Exhausted::RateLimited(secs(1)));
    assert_eq!(lease(&pool, T0 + secs(6), &mut walker), over);
}

#[test]
fn exhaustion_tells_the_smallest_wait_in_whole_seconds() {
    let mut pool = pool(3);
    let over = |pool: &Pool, now| {
        let mut walker = Walker::new();
        while lease(pool, now, &mut walker).is_ok() {}
        lease(pool, now, &mut walker)
    };
    for (key, wait) in [(0, 5), (1, 3), (2, 10)] {
        pool.apply(T0, KeyId(key), &cool(wait), None);
    }
    assert_eq!(over(&pool, T0), Err(Exhausted::RateLimited(secs(3))));
    let later = T0 + Duration::from_millis(1_500);
    assert_eq!(over(&pool, later), Err(Exhausted::RateLimited(secs(2))));
    pool.apply(T0, KeyId(1), &retire(), None);
    assert_eq!(over(&pool, T0), Err(Exhausted::RateLimited(secs(5))));
    pool.apply(T0, KeyId(0), &retire(), None);
    pool.apply(T0, KeyId(2), &retire(), None);
    assert_eq!(over(&pool, T0), Err(Exhausted::Unauthorized));
}

#[test]
fn a_model_may_cool_alone() {
    let mut pool = pool(1);
    let verdict = Verdict {
        scope: Scope::Model,
        ..cool(5)
    };
    assert_eq!(pool.apply(T0, KeyId(0), &verdict, Some("opus")), None);
    let lease = |model| {
        let mut walker = Walker::new();
        pool.lease(T0, &mut walker, &Failover::default(), model, None)
            .map(|lease| lease.index)
    };
    assert_eq!(lease(Some("opus")), Err(Exhausted::RateLimited(secs(5))));
    assert_eq!(lease(Some("haiku")), Ok(0));
    assert_eq!(lease(None), Ok(0));
    assert_eq!(state(&pool, T0, 0), KeyState::Valid);
}

#[test]
fn models_that_cool_are_bounded() {
    let mut pool = pool(1);
    let verdict = Verdict {
        scope: Scope::Model,
        ..cool(5)
    };
    for n in 0..200 {
        pool.apply(T0, KeyId(0), &verdict, Some(&format!("model-{n}")));
    }
    assert_eq!(state(&pool, T0, 0).as_str(), "temporary");
}

/// Picks what it must not: out of range, and the same again.
#[derive(Debug)]
struct Wild(usize);

impl Policy for Wild {
    fn judge(&self, _attempt: &Attempt<'_>) -> Verdict {
        Verdict::RELAY
    }

    fn pick(&self, _offer: &Offer<'_>) -> Option<usize> {
        Some(self.0)
    }
}

#[test]
fn a_wild_policy_gets_no_key_twice() {
    let pool = pool(2);
    let mut walker = Walker::new();
    let mut next = |at| {
        pool.lease(T0, &mut walker, &Wild(at), None, None)
            .map(|lease| lease.index)
            .ok()
    };
    assert_eq!(
        [next(7), next(0), next(0), next(0)],
        [None, Some(0), Some(1), None]
    );
}

#[derive(Clone, Debug)]
enum Op {
    Cool(u32, u64),
    Lease,
    Pass(u64),
    Reset(u32),
    Retire(u32),
    Walk,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..4u32, 1..20u64).prop_map(|(key, wait)| Op::Cool(key, wait)),
        Just(Op::Lease),
        (0..15u64).prop_map(Op::Pass),
        (0..4u32).prop_map(Op::Reset),
        (0..4u32).prop_map(Op::Retire),
        Just(Op::Walk),
    ]
}

proptest! {
    /// Any order of outcomes: the pool agrees with the table of states written down as plainly as
    /// can be.
    #[test]
    fn the_pool_agrees_with_its_model(ops in proptest::collection::vec(op(), 0..80)) {
        let mut pool = pool(4);
        let (mut until, mut retired) = ([T0; 4], [false; 4]);
        let (mut now, mut walker, mut next) = (T0, Walker::new(), 0);
        for op in ops {
            match op {
                Op::Cool(key, wait) => {
                    pool.apply(now, KeyId(key), &cool(wait), None);
                    let key = key as usize;
                    if !retired[key] {
                        until[key] = until[key].max(now + secs(wait));
                    }
                }
                Op::Lease => {
                    let expected = (next..4).find(|key| !retired[*key] && until[*key] <= now);
                    prop_assert_eq!(lease(&pool, now, &mut walker).ok(), expected);
                    next = expected.map_or(next, |key| key + 1);
                    prop_assert!(walker.attempts() <= 4);
                }
                Op::Pass(time) => now += secs(time),
                Op::Reset(key) => {
                    pool.reset(now, key as usize);
                    (until[key as usize], retired[key as usize]) = (T0, false);
                }
                Op::Retire(key) => {
                    pool.apply(now, KeyId(key), &retire(), None);
                    retired[key as usize] = true;
                }
                Op::Walk => (walker, next) = (Walker::new(), 0),
            }
            for key in 0..4 {
                let expected = match (retired[key], until[key] <= now) {
                    (true, _) => "permanent",
                    (false, true) => "valid",
                    (false, false) => "temporary",
                };
                prop_assert_eq!(state(&pool, now, key).as_str(), expected);
            }
        }
    }
}
