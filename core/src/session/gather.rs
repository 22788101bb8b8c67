//! Small pieces of a body, joined.
//!
//! Upstream sends an event of some hundred bytes as a chunk of its own, and a read brings many of
//! them. Relayed one by one, each would cost a chunk's framing and three entries of the vectored
//! write; a copy of so few bytes costs less.

use bytes::Bytes;

/// Pieces above this many bytes are passed on as they are.
const SMALL: usize = 1 << 10;
/// Pieces are joined to about so many bytes.
const FULL: usize = 32 << 10;

/// What has been relayed since the last event, not yet framed.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// The only piece so far, not copied.
    first: Bytes,
    /// Or several.
    joined: Vec<u8>,
}

impl Gather {
    /// Takes a piece; gives what has to go out before.
    pub(super) fn push(&mut self, piece: Bytes) -> Option<Bytes> {
        if piece.len() > SMALL || self.first.len() > SMALL || self.joined.len() > FULL {
            let before = self.take();
            self.first = piece;
            return before;
        }
        if !self.joined.is_empty() {
            self.joined.extend_from_slice(&piece);
        } else if self.first.is_empty() {
            self.first = piece;
        } else {
            let first = std::mem::take(&mut self.first);
            self.joined = Vec::with_capacity(4 * SMALL);
            self.joined.extend_from_slice(&first);
            self.joined.extend_from_slice(&piece);
        }
        None
    }

    /// Gives what there is.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let all = if self.joined.is_empty() {
            std::mem::take(&mut self.first)
        } else {
            std::mem::take(&mut self.joined).into()
        };
        (!all.is_empty()).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_piece_is_not_copied() {
        let mut gather = Gather::default();
        let piece = Bytes::from(vec![b'x'; 10]);
        assert_eq!(gather.push(piece.clone()), None);
        assert_eq!(gather.take().unwrap().as_ptr(), piece.as_ptr());
        assert_eq!(gather.take(), None);
    }

    proptest! {
        #[test]
        fn pieces_come_out_as_they_went_in(lens in prop::collection::vec(
            prop_oneof![0..300_usize, SMALL - 1..SMALL + 2, 0..70_000_usize], 0..50
        )) {
            let mut gather = Gather::default();
            let (mut went_in, mut came_out) = (Vec::new(), Vec::new());
            for (number, len) in lens.into_iter().enumerate() {
                let piece = vec![u8::try_from(number).unwrap(); len];
                went_in.extend_from_slice(&piece);
                came_out.extend(gather.push(piece.into()).into_iter().flatten());
                prop_assert!(gather.joined.len() <= FULL + SMALL);
            }
            came_out.extend(gather.take().into_iter().flatten());
            prop_assert_eq!(came_out, went_in);
        }
    }
}
