//! Strings, 64 bytes at a time: one bit for each byte, so that escapes cost no branch.
//!
//! The bodies of agents are full of source code, with an escape every few bytes. A loop that stops
//! at each of them spends its time on mispredicted branches; here they are found and paired by
//! arithmetic, as is the way of simdjson (Langdale and Lemire, "Parsing gigabytes of JSON per
//! second", 2019, §3.1.1).

use wide::u8x16;

/// Bytes in a block.
pub(super) const LEN: usize = 64;

/// What a block says of the string it is in. It begins between two escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The string ends at this offset.
    Ends(usize, Escapes),
    /// The string goes on, and this many bytes of it have been read: all, or all but a backslash at
    /// the end.
    GoesOn(usize, Escapes),
    /// There is a control character, or an escape that is wrong or of more than one character: read
    /// it byte by byte.
    Odd,
}

/// Whether there are escapes among the bytes read.
pub(super) type Escapes = bool;

/// Reads a block.
#[inline]
pub(super) fn read(block: &[u8; LEN]) -> Block {
    let backslash = equal(block, b'\\');
    let quote = equal(block, b'"');
    let (escaped, unpaired) = if backslash == 0 {
        (0, false)
    } else {
        escaped(backslash)
    };
    let end = quote & !escaped;
    // The bits below the lowest one; all of them where there is none.
    let within = end.wrapping_sub(1) & !end;
    if below_space(block) & within != 0 {
        return Block::Odd;
    }
    let has_escapes = backslash & within != 0;
    if has_escapes && escaped & within & !escapable(block, quote | backslash) != 0 {
        return Block::Odd;
    }
    if end != 0 {
        return Block::Ends(end.trailing_zeros() as usize, has_escapes);
    }
    Block::GoesOn(LEN - usize::from(unpaired), has_escapes)
}

/// Which bytes are escaped by the backslash before them, and whether the last one is a backslash
/// that escapes what comes after the block.
#[inline]
const fn escaped(backslash: u64) -> (u64, bool) {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let follows = backslash << 1;
    // Runs of backslashes that start at an odd place; adding carries through each to the byte after
    // it.
    let odd_starts = backslash & !EVEN & !follows;
    let (carried, unpaired) = odd_starts.overflowing_add(backslash);
    ((EVEN ^ (carried << 1)) & follows, unpaired)
}

/// The characters that may stand after a backslash alone; `known` are those found already.
#[inline]
fn escapable(block: &[u8; LEN], known: u64) -> u64 {
    let any = |lane: u8x16, bytes: &[u8]| {
        let found = bytes.iter().map(|byte| lane.simd_eq(u8x16::splat(*byte)));
        found.fold(u8x16::ZERO, |any, one| any | one)
    };
    let found = mask(block, |lane| any(lane, b"/bfnrt"));
    known | found
}

/// A bit for each byte that is this one.
#[inline]
fn equal(block: &[u8; LEN], byte: u8) -> u64 {
    let byte = u8x16::splat(byte);
    mask(block, |lane| lane.simd_eq(byte))
}

/// A bit for each control character.
#[inline]
fn below_space(block: &[u8; LEN]) -> u64 {
    let last = u8x16::splat(0x1F);
    mask(block, |lane| lane.max(last).simd_eq(last))
}

#[inline]
fn mask(block: &[u8; LEN], test: impl Fn(u8x16) -> u8x16) -> u64 {
    let (lanes, _) = block.as_chunks();
    let bits = |lane: &[u8; 16]| u64::from(test(u8x16::new(*lane)).to_bitmask());
    bits(&lanes[0]) | bits(&lanes[1]) << 16 | bits(&lanes[2]) << 32 | bits(&lanes[3]) << 48
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_byte_has_its_bit() {
        for byte in 0..=u8::MAX {
            for place in 0..LEN {
                let mut block = [byte.wrapping_add(1); LEN];
                block[place] = byte;
                assert_eq!(equal(&block, byte), 1 << place);
            }
            let control = if byte < 0x20 { u64::MAX } else { 0 };
            assert_eq!(below_space(&[byte; LEN]), control);
        }
    }

    /// The same, byte by byte.
    fn slow(block: &[u8; LEN]) -> Block {
        let mut at = 0;
        let mut escapes = false;
        while at < LEN {
            match (block[at], block.get(at + 1)) {
                (b'"', _) => return Block::Ends(at, escapes),
                (b'\\', None) => return Block::GoesOn(at, true),
                (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => {
                    (at, escapes) = (at + 2, true);
                }
                (b'\\', Some(_)) | (..0x20, _) => break,
                _ => at += 1,
            }
        }
        if at < LEN {
            return Block::Odd;
        }
        Block::GoesOn(at, escapes)
    }

    proptest! {
        #[test]
        fn reads_as_one_byte_after_another(block in prop::collection::vec(
            prop_oneof![4 => Just(b'\\'), 1 => Just(b'"'), 3 => Just(b'n'), 3 => Just(b'a'), 1 => any::<u8>()], LEN
        )) {
            let block = <[u8; LEN]>::try_from(block).unwrap();
            prop_assert_eq!(read(&block), slow(&block));
        }

        #[test]
        fn reads_long_strings(block in prop::collection::vec(
            prop_oneof![1 => Just(b'\\'), 30 => Just(b'n')], LEN
        )) {
            let block = <[u8; LEN]>::try_from(block).unwrap();
            prop_assert_eq!(read(&block), slow(&block));
        }
    }
}
