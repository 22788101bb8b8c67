//! Keys: their states, the walk over them, and the policy that judges what happened to them.

mod policy;
mod pool;
mod retry_after;
#[cfg(test)]
mod tests;
mod walker;

pub use policy::{
    Attempt, Candidate, Failover, Fate, NextStep, Offer, Outcome, Policy, Reason, Rejected, Scope,
    Verdict,
};
pub use pool::{
    Exhausted, KeyId, KeyState, KeyStatus, Lease, Pool, PoolError, Renewal, Transition,
};
pub use retry_after::retry_after;
pub use walker::Walker;
