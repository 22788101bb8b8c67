//! What the codecs share.

/// What a decoder has to say next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The next item.
    Item(T),
    /// Nothing until more bytes are pushed, or the end is told.
    More,
    /// Nothing until the caller moves on to the next message; bytes after this one are held.
    Pause,
}
