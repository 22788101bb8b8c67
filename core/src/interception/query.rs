//! What an interception asks of what it shares with others, and what it is told.

use std::sync::Arc;

use super::toolbox::Toolbox;
use crate::{
    config::Provider,
    keypool::{Exhausted, KeyId, Lease, Transition, Verdict, Walker},
};

/// A question to the [`Bridge`](crate::Bridge), answered at once.
#[derive(Clone, Debug)]
pub enum Query {
    /// A key for the next attempt.
    Lease {
        /// The provider, as the request began with it: its keys go nowhere else.
        provider: Arc<Provider>,
        /// What this iteration has had.
        walker: Walker,
        /// The model asked for.
        model: Option<Arc<str>>,
        /// The client's session.
        session: Option<Arc<str>>,
    },
    /// What became of a key.
    Report {
        /// The provider's name.
        provider: Arc<str>,
        /// The key.
        key: KeyId,
        /// The judgement.
        verdict: Verdict,
        /// The model asked for.
        model: Option<Arc<str>>,
    },
    /// Which tools there are. Asked once, and only where servers are configured.
    Tools,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// A key, or none; and the walker moved on.
    Lease(Result<Lease, Exhausted>, Walker),
    /// The key's state changed, or not.
    Reported(Option<Transition>),
    /// The tools on offer.
    Tools(Arc<Toolbox>),
}
