//! One iteration's walk over a pool.

use crate::keypool::KeyId;

/// Which keys this iteration has been given. A value, not a handle: it travels in queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walker {
    tried: Vec<KeyId>,
    last: Option<usize>,
}

impl Walker {
    /// A walk that begins.
    pub fn new() -> Self {
        Self::default()
    }
    /// How many keys it has been given.
    pub fn attempts(&self) -> usize {
        self.tried.len()
    }
}
