//! Every sequence of outcomes, not a sample: for pools and sequences that are small enough.
//!
//! One client asks once a second, and each call to the provider comes to one of a few outcomes. All
//! sequences of these are tried, and what is found is as short as any that breaks a law. Each is
//! run to its end once: sequences that differ only in what is never called for (because all keys
//! are retired, say) are the same one, and a short sequence is how a long one with nothing but
//! replies after it begins. The worlds keep no log: that no secret is shown in one does not depend
//! on outcomes, and [`check_policy`](super::check_policy) looks at it.
//!
//! ```
//! use aibridge_core::keypool::Failover;
//! use aibridge_testkit::laws::{ALL, exhaustive::{OUTCOMES, check_sequences}};
//!
//! // Every sequence of up to three of six outcomes, on a pool of two keys.
//! let report = check_sequences(Failover::default(), 2, 3, &OUTCOMES, &ALL)?;
//! assert!(report.worlds > 100);
//! # Ok::<(), Box<aibridge_testkit::laws::Counterexample>>(())
//! ```

use std::sync::Arc;

use aibridge_core::{Duration, Fault, keypool::Policy, record::Record};

use super::{
    Law,
    check::{Counterexample, Detail, Report, judge},
};
use crate::{
    history::{Fact, History},
    plan::{Blip, ClientPlan, KeyPlan, Plan, ProviderPlan, RequestPlan},
};

/// Six things that a call may come to: a reply, a 429 that names a wait and one that names none, a
/// rejected key, an error that is not the key's fault, and no reply.
pub const OUTCOMES: [Option<Blip>; 6] = [
    None,
    Some(Blip::Limited(2)),
    Some(Blip::Status(429)),
    Some(Blip::Status(401)),
    Some(Blip::Status(500)),
    Some(Blip::ResetAt(0)),
];

/// Tries every sequence of so many of these outcomes, and every shorter one, on a pool of so many
/// keys. An outcome is what goes otherwise than usual, or `None` for a reply. Behind a sequence
/// there are only replies.
///
/// # Errors
/// A law does not hold: the first of the shortest worlds in which that is so.
pub fn check_sequences(
    policy: impl Policy + 'static,
    keys: usize,
    length: usize,
    outcomes: &[Option<Blip>],
    laws: &[Law],
) -> Result<Report, Box<Counterexample>> {
    let policy: Arc<dyn Policy> = Arc::new(policy);
    let mut report = Report::default();
    let shortest = if outcomes.contains(&None) { length } else { 1 };
    for of in shortest..=length {
        let Err(found) = check_length(&policy, keys, of, outcomes, laws, &mut report) else {
            continue;
        };
        let mut shorter = 1..of;
        let found_first = shorter
            .find_map(|of| check_length(&policy, keys, of, outcomes, laws, &mut report).err());
        return Err(found_first.unwrap_or(found));
    }
    Ok(report)
}

/// Tries every sequence of this length.
fn check_length(
    policy: &Arc<dyn Policy>,
    keys: usize,
    length: usize,
    outcomes: &[Option<Blip>],
    laws: &[Law],
    report: &mut Report,
) -> Result<(), Box<Counterexample>> {
    let mut next = Some(vec![0; length]);
    while let Some(sequence) = next {
        let plan = world(keys, &sequence, outcomes);
        let history = judge(plan, policy, laws, Detail::Little)?;
        report.add(&history);
        let used = used(&history).min(length);
        next = successor(sequence, used, outcomes.len());
    }
    Ok(())
}

/// A world in which calls come to these outcomes, in order, and to replies afterwards.
fn world(keys: usize, sequence: &[usize], outcomes: &[Option<Blip>]) -> Plan {
    let provider = ProviderPlan {
        blips: sequence.iter().map(|outcome| outcomes[*outcome]).collect(),
        default_cooldown: Duration::from_secs(5),
        ..ProviderPlan::new(vec![KeyPlan::default(); keys])
    };
    // A request takes one outcome at least, or finds no key.
    let request = RequestPlan::after(Duration::from_secs(1));
    Plan::new(provider, [ClientPlan::new(vec![request; sequence.len()])])
}

/// How many outcomes came up: with a call, or with a connection that did not come to one.
fn used(history: &History) -> usize {
    let came_up = history.pick(|fact| match fact {
        Fact::Called(_) => Some(()),
        Fact::Recorded(record) => match &**record {
            Record::Attempt(_, attempt) => {
                let no_connection = Err(Fault::Refused) == attempt.result
                    || Err(Fault::ConnectTimeout) == attempt.result;
                no_connection.then_some(())
            }
            _ => None,
        },
        _ => None,
    });
    came_up.count()
}

/// The next sequence that differs within the outcomes that were used.
fn successor(mut sequence: Vec<usize>, used: usize, outcomes: usize) -> Option<Vec<usize>> {
    let at = sequence[..used]
        .iter()
        .rposition(|outcome| outcome + 1 < outcomes)?;
    sequence[at] += 1;
    sequence[at + 1..].fill(0);
    Some(sequence)
}

#[cfg(test)]
mod tests {
    use aibridge_core::keypool::Failover;

    use super::*;
    use crate::laws::ALL;

    #[test]
    fn sequences_are_counted_through() {
        let mut seen = vec![vec![0, 0]];
        while let Some(next) = successor(seen[seen.len() - 1].clone(), 2, 6) {
            seen.push(next);
        }
        assert_eq!(seen.len(), 36);
        assert!(seen.is_sorted());
    }

    #[test]
    fn refused_connections_are_in_every_place_of_a_sequence() {
        let outcomes = [None, Some(Blip::Refuse)];
        let report = check_sequences(Failover::default(), 1, 3, &outcomes, &ALL);
        let report = report.unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(report.worlds, 8);
    }

    #[test]
    fn what_is_never_called_for_is_skipped() {
        assert_eq!(successor(vec![3, 0, 0], 1, 6), Some(vec![4, 0, 0]));
        assert_eq!(successor(vec![1, 5, 0], 2, 6), Some(vec![2, 0, 0]));
        assert_eq!(successor(vec![5, 5], 2, 6), None);
    }
}
