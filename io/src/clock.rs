//! The core's time: the wall clock once, the monotonic clock from there on.

use std::time::{self, SystemTime};

use aibridge_core::Instant;

/// Counts nanoseconds since the Unix epoch, and never back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Instant,
    start: time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        // A clock before 1970 is wrong anyway.
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            wall: Instant::EPOCH + wall,
            start: time::Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.wall + self.start.elapsed()
    }

    /// The system's own name for an instant. One too far away for it is about as far as it can say.
    pub(crate) fn at(&self, at: Instant) -> time::Instant {
        const FAR: time::Duration = time::Duration::from_secs(365 * 24 * 3600);
        self.start + at.since(self.wall).min(FAR)
    }
}
