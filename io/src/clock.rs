//! The core's time: the monotonic clock, and never far behind the time of day.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{self, Duration, SystemTime},
};

use aibridge_core::Instant;
use tracing::info;

/// How often the time of day is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How far the time of day may be ahead. It is set by less than this now and then.
const TOLERANCE: Duration = Duration::from_secs(2);

/// Counts nanoseconds since the Unix epoch, and never back.
///
/// The monotonic clock may stand still while the machine sleeps, and does not know of it when the
/// time of day is set. What is recorded would be too old then, so this one catches up: deadlines
/// come sooner by as much, which a session that waits finds out when it is woken. Where the time of
/// day is set back, this one goes on as before.
#[derive(Debug)]
pub(crate) struct Clock {
    start: time::Instant,
    /// What the start is called, in nanoseconds. Later, once it has caught up.
    origin: AtomicU64,
    /// When the time of day was looked at last, in nanoseconds.
    looked: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self::starting(time_of_day())
    }

    fn starting(at: Instant) -> Self {
        Self {
            start: time::Instant::now(),
            origin: AtomicU64::new(at.as_nanos()),
            looked: AtomicU64::new(at.as_nanos()),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.after(self.start.elapsed(), time_of_day)
    }

    /// The time this long after the start.
    pub(crate) fn after(&self, elapsed: Duration, time_of_day: impl Fn() -> Instant) -> Instant {
        let origin = self.origin();
        let now = origin + elapsed;
        if now.since(Instant::from_nanos(self.looked.load(Relaxed))) < LOOK {
            return now;
        }
        self.looked.store(now.as_nanos(), Relaxed);
        let ahead = time_of_day().since(now);
        if ahead <= TOLERANCE {
            return now;
        }
        // Others may look at the same time: the latest counts, for all of them.
        let caught_up = (origin + ahead).as_nanos();
        if self.origin.fetch_max(caught_up, Relaxed) < caught_up {
            let seconds = ahead.as_secs();
            info!(
                seconds,
                "the time of day has moved on, or the machine slept"
            );
        }
        self.origin() + elapsed
    }

    /// The system's own name for an instant, for now. One too far away for it is about as far as it
    /// can say.
    pub(crate) fn at(&self, at: Instant) -> time::Instant {
        const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        self.start + at.since(self.origin()).min(FAR)
    }

    fn origin(&self) -> Instant {
        Instant::from_nanos(self.origin.load(Relaxed))
    }
}

fn time_of_day() -> Instant {
    // A clock before 1970 is wrong anyway.
    Instant::EPOCH + SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_catches_up_with_the_time_of_day_and_never_goes_back() {
        let clock = Clock::starting(Instant::from_secs(1_000));
        let mut told = Instant::EPOCH;
        // Seconds after the start, the time of day, and what the bridge is told.
        for (elapsed, day, expected) in [
            (0, 1_000, 1_000),
            // Set by a little, as it is now and then.
            (10, 1_012, 1_010),
            // Slept for an hour.
            (11, 4_611, 4_611),
            (12, 4_612, 4_612),
            // Set back, and right again.
            (20, 1_020, 4_620),
            (30, 4_630, 4_630),
            // And once more.
            (40, 9_000, 9_000),
            (41, 9_001, 9_001),
        ] {
            let elapsed = Duration::from_secs(elapsed);
            let now = clock.after(elapsed, || Instant::from_secs(day));
            assert_eq!(now, Instant::from_secs(expected), "{elapsed:?}");
            assert!(now >= told);
            told = now;
            assert_eq!(clock.at(now), clock.start + elapsed);
        }
    }

    #[test]
    fn it_looks_at_the_time_of_day_now_and_then() {
        let clock = Clock::starting(Instant::from_secs(1_000));
        let now = clock.after(LOOK / 2, || panic!("too soon"));
        assert_eq!(now, Instant::from_millis(1_000_500));
        assert_eq!(clock.after(LOOK, || now), Instant::from_secs(1_001));
        clock.after(LOOK * 3 / 2, || panic!("it has just looked"));
    }

    #[test]
    fn a_deadline_is_as_far_away_after_years_as_on_the_first_day() {
        let clock = Clock::starting(Instant::from_secs(1_000));
        let years = Duration::from_secs(3 * 365 * 24 * 3600);
        let now = clock.after(years, || Instant::EPOCH);
        let minute = Duration::from_secs(60);
        assert_eq!(clock.at(now + minute), clock.start + years + minute);
        let never = clock.at(Instant::FAR_FUTURE);
        assert!(never > clock.start + years * 10);
    }
}
