//! One iteration's walk over a pool.

use crate::keypool::KeyId;

/// Keys remembered without an allocation; few pools have more.
const INLINE: usize = 8;

/// Which keys this iteration has been given. A value, not a handle: it travels in queries.
///
/// A key is handed out at most once per walk, whatever its state becomes: so an iteration makes at
/// most as many attempts as there are keys, however short their cooldowns are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walker {
    first: [Option<KeyId>; INLINE],
    rest: Vec<KeyId>,
    last: Option<usize>,
}

impl Walker {
    /// A walk that begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys it has been given.
    pub fn attempts(&self) -> usize {
        self.first.iter().flatten().count() + self.rest.len()
    }

    /// Whether this key has been handed out on this walk.
    pub fn has_tried(&self, key: KeyId) -> bool {
        self.first
            .iter()
            .flatten()
            .chain(&self.rest)
            .any(|tried| *tried == key)
    }

    /// Index of the key handed out last.
    pub fn last(&self) -> Option<usize> {
        self.last
    }

    /// The keys handed out, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeyId> {
        self.first.iter().flatten().chain(&self.rest).copied()
    }

    /// A walk that has handed these out, the last of them from this place in the configuration.
    pub(crate) fn resumed(keys: impl IntoIterator<Item = KeyId>, last: Option<usize>) -> Self {
        let mut walker = Self::new();
        for key in keys {
            walker.take(key, 0);
        }
        Self { last, ..walker }
    }

    pub(super) fn take(&mut self, key: KeyId, index: usize) {
        self.last = Some(index);
        match self.first.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(key),
            None => self.rest.push(key),
        }
    }
}
