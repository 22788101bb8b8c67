//! Randomness as a value: a small seeded generator, forked for each thing that needs one.
//!
//! It serves identifiers and jitter, never keys or nonces. The generator is `SplitMix64` (Steele,
//! Lea and Flood, 2014). All seeds walk one cycle of 2⁶⁴ states, from places that are as good as
//! random. Whoever has seen one identifier can tell the next: they are names, not secrets.

/// A deterministic random generator. Not for cryptography.
///
/// ```
/// use aibridge_core::Rng;
///
/// let (mut a, mut b) = (Rng::new(7), Rng::new(7));
/// assert_eq!(a.next_u64(), b.next_u64());
/// ```
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose whole sequence is fixed by `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// What [`new`](Self::new) makes the same generator of, as it is now.
    pub(crate) const fn state(&self) -> u64 {
        self.0
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A generator of its own for a child, so that what one child draws does not change another's.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_draws_its_own_sequence() {
        let mut parent = Rng::new(1);
        let mut child = parent.fork();
        let drawn = child.next_u64();
        assert_ne!(drawn, parent.next_u64());

        let mut again = Rng::new(1);
        assert_eq!(again.fork().next_u64(), drawn);
    }
}
