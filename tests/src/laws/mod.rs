//! The laws of failover, for any [`Policy`](aibridge_core::keypool::Policy): what must hold in
//! every world, whatever a policy decides.
//!
//! Each law is a function of a [`History`]. [`check_policy`] tries all of them on thousands of
//! random worlds, takes the first one in which a law breaks, makes it as small as it can, and shows
//! it as a timeline:
//!
//! ```
//! use aibridge_core::keypool::{Attempt, Policy, Verdict};
//! use aibridge_testkit::laws::{Checks, check_policy};
//!
//! /// Relays whatever comes, also a 429: the key is used again inside its cooldown.
//! #[derive(Debug)]
//! struct Careless;
//!
//! impl Policy for Careless {
//!     fn judge(&self, _: &Attempt<'_>) -> Verdict {
//!         Verdict::RELAY
//!     }
//! }
//!
//! let found = check_policy(Careless, &Checks::default().cases(500)).unwrap_err();
//! assert_eq!(found.law, "cooling_keys_rest");
//! println!("{found}"); // the timeline, and how to see it again
//! ```
//!
//! [`Checks`] say how many worlds, how large, and which laws: a policy that ignores `Retry-After`
//! on purpose leaves one out, and one that means to try every key takes the [optional](OPTIONAL)
//! ones in. [`exhaustive`] tries every sequence of outcomes instead of a sample, for small pools.

mod check;
mod context;
pub mod exhaustive;
mod keys;
mod replies;
#[cfg(test)]
mod tests;

pub use check::{Checks, Counterexample, Report, check_policy};
pub use keys::{
    attempts_within_keys, cooling_keys_rest, exhausted_only_when_so, limits_are_not_final,
    no_key_twice, own_keys_stay_apart, rejections_are_not_final, retired_keys_rest,
    retry_after_is_honest,
};
pub use replies::{ends_once, no_secret_leaves, relays_exactly};

use crate::history::History;

/// A law.
#[derive(Clone, Copy, Debug)]
pub struct Law {
    /// Its name: that of its function.
    pub name: &'static str,
    /// Says whether it holds.
    pub holds: fn(&History) -> Result<(), Breach>,
}

/// Where a law breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// At which entry of the history.
    pub entry: usize,
    /// In words.
    pub why: String,
}

impl Breach {
    fn new(entry: usize, why: String) -> Self {
        Self { entry, why }
    }
}

macro_rules! laws {
    ($($name:ident),*) => { [$(Law { name: stringify!($name), holds: $name }),*] };
}

/// All laws that must hold whatever a policy decides.
pub const ALL: [Law; 10] = laws![
    no_secret_leaves,
    no_key_twice,
    attempts_within_keys,
    retired_keys_rest,
    cooling_keys_rest,
    ends_once,
    relays_exactly,
    own_keys_stay_apart,
    exhausted_only_when_so,
    retry_after_is_honest
];

/// Laws for policies that mean to fail over, as the default one does. A policy that relays a 403 on
/// purpose, say, does not keep them, so they are taken in by [`Checks::with`].
pub const OPTIONAL: [Law; 2] = laws![limits_are_not_final, rejections_are_not_final];

/// The first law that breaks, and where.
pub fn broken<'a>(laws: &'a [Law], history: &History) -> Option<(&'a Law, Breach)> {
    laws.iter()
        .find_map(|law| Some((law, (law.holds)(history).err()?)))
}
