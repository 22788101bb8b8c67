//! Time as a value.
//!
//! The core never reads a clock. An adapter reads the wall clock once at start, counts on from
//! there with a monotonic clock, and hands the sum in as [`Instant`]. So one number serves timers,
//! HTTP dates and records; it can be written down in a trace and made up in a test.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
};

pub use std::time::Duration;

/// A point in time: nanoseconds since the Unix epoch.
///
/// Covers the years 1970 to 2554. Arithmetic saturates: a timeout of "for ever" is
/// [`Instant::FAR_FUTURE`], not an overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The Unix epoch, where tests like to begin.
    pub const EPOCH: Self = Self(0);
    /// Later than any other instant.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant this many nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant this many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The instant this many seconds after the Unix epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// As [`Instant::since`].
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

/// The end of a wait that begins now; none where the timeout is zero, which means that there is no
/// limit.
pub(crate) fn after(now: Instant, timeout: Duration) -> Option<Instant> {
    (!timeout.is_zero()).then(|| now + timeout)
}

/// As `Retry-After` says it: rounded up, so that nobody comes back too early, and at least one.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    let part = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(part).max(1)
}

/// The earlier of two deadlines, where either may be absent.
pub(crate) fn earliest<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(
            Instant::FAR_FUTURE + Duration::from_secs(1),
            Instant::FAR_FUTURE
        );
        assert_eq!(Instant::EPOCH - Duration::from_secs(1), Instant::EPOCH);
        assert_eq!(Instant::EPOCH - Instant::from_secs(5), Duration::ZERO);
        assert_eq!(Instant::EPOCH + Duration::MAX, Instant::FAR_FUTURE);
    }

    #[test]
    fn no_timeout_is_no_deadline() {
        let now = Instant::from_secs(5);
        assert_eq!(after(now, Duration::ZERO), None);
        assert_eq!(
            after(now, Duration::from_nanos(1)),
            Some(Instant::from_nanos(5_000_000_001))
        );
    }

    #[test]
    fn seconds_to_wait_are_rounded_up() {
        for (nanos, seconds) in [
            (0, 1),
            (1, 1),
            (1_000_000_000, 1),
            (1_000_000_001, 2),
            (2_999_999_999, 3),
        ] {
            assert_eq!(whole_seconds(Duration::from_nanos(nanos)), seconds);
        }
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn earliest_takes_whichever_is_there() {
        assert_eq!(earliest(Some(3), Some(2)), Some(2));
        assert_eq!(earliest(None, Some(2)), Some(2));
        assert_eq!(earliest::<u8>(None, None), None);
    }
}
