//! A failover policy of one's own, and how it is tested: in less time than it takes to read.
//!
//! ```console
//! $ cargo run -p aibridge-testkit --example own_policy    # what the laws find in a wrong one
//! $ cargo test -p aibridge-testkit --example own_policy   # the property test below
//! ```

use aibridge_core::keypool::{Attempt, Failover, Offer, Policy, Verdict};
use aibridge_testkit::laws::{Checks, check_policy};

/// Keeps each session of a client on one key, so that it finds its prompt in the provider's cache,
/// and spreads sessions over the keys. Where a key is out of use, its sessions move to another one
/// each, and come back afterwards.
#[derive(Debug, Default)]
struct Sticky(Failover);

impl Policy for Sticky {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        self.0.judge(attempt)
    }

    fn pick(&self, offer: &Offer<'_>) -> Option<usize> {
        let Some(session) = offer.session else {
            return self.0.pick(offer);
        };
        // Rendezvous hashing: every session has an order of its own over all keys.
        (0..offer.candidates.len()).max_by_key(|at| weight(session, offer.candidates[*at].index))
    }
}

/// The same, but loyal to a fault: a session that has lost its key does not try another one.
#[derive(Debug, Default)]
struct TooSticky(Sticky);

impl Policy for TooSticky {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        self.0.judge(attempt)
    }

    fn pick(&self, offer: &Offer<'_>) -> Option<usize> {
        match offer.last {
            Some(_) => None,
            None => self.0.pick(offer),
        }
    }
}

/// FNV-1a over a session's name and a key's place.
fn weight(session: &str, key: usize) -> u64 {
    let bytes = session.bytes().chain(key.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn main() {
    let checks = Checks::default().from_env();
    match check_policy(Sticky::default(), &checks) {
        Ok(report) => println!("Sticky keeps every law: {report:?}\n"),
        Err(found) => println!("Sticky: {found}\n"),
    }
    if let Err(found) = check_policy(TooSticky::default(), &checks) {
        println!("TooSticky breaks {found}");
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use aibridge_testkit::{World, plan::*, strategies};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sticky_keeps_every_law() {
        let report = check_policy(Sticky::default(), &Checks::default().from_env());
        report.unwrap_or_else(|found| panic!("{found}"));
    }

    #[test]
    fn too_sticky_is_found_out() {
        let found = check_policy(TooSticky::default(), &Checks::default()).unwrap_err();
        assert_eq!(found.law, "exhausted_only_when_so");
        assert!(found.breach.why.ends_with("is valid, and was not tried"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// As long as no key goes out of use, a session has one key, whatever it asks.
        #[test]
        fn a_session_stays_with_its_key(requests in strategies::conversation(5, 1)) {
            let client = ClientPlan { has_session: true, ..ClientPlan::new(requests) };
            let plan = Plan::new(ProviderPlan::new(vec![KeyPlan::default(); 4]), [client]);
            let history = World::new(&plan, Arc::new(Sticky::default())).run();
            let keys: BTreeSet<_> = history.leases().map(|leased| leased.lease.ok()).collect();
            prop_assert!(keys.len() <= 1, "{history}");
        }
    }
}
