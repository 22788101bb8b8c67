//! A session's one timer.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use aibridge_core::Instant;
use tokio::time::{self, Sleep};

use crate::clock::Clock;

/// Waits for a deadline that mostly moves away.
///
/// A deadline that moved away is left armed where it was, and looked at when it fires: a stream puts its deadlines off with every
/// event, and the runtime's timers would be told each time.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Instant,
}

impl Timer {
    pub(crate) const fn new() -> Self {
        Self {
            sleep: None,
            armed: Instant::FAR_FUTURE,
        }
    }

    /// Ready once the deadline has come; never where there is none.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        clock: &Clock,
        deadline: Option<Instant>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if deadline < self.armed {
            self.arm(clock, deadline);
        }
        while let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(context));
            if clock.now() >= deadline {
                self.armed = Instant::FAR_FUTURE;
                return Poll::Ready(());
            }
            self.arm(clock, deadline);
        }
        Poll::Pending
    }

    fn arm(&mut self, clock: &Clock, deadline: Instant) {
        self.armed = deadline;
        let at = clock.at(deadline);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(time::sleep_until(at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_deadline_wherever_it_moved() {
        let clock = Clock::new();
        let begin = clock.now();
        let mut timer = Timer::new();
        let after = |secs| Some(begin + Duration::from_secs(secs));
        // Armed for 5, then moved away to 9: one wait, that ends at 9.
        let first = poll_fn(|cx| Poll::Ready(timer.poll(cx, &clock, after(5)))).await;
        assert!(first.is_pending());
        poll_fn(|cx| timer.poll(cx, &clock, after(9))).await;
        assert_eq!(clock.now().since(begin).as_secs(), 9);
        // Moved nearer.
        let first = poll_fn(|cx| Poll::Ready(timer.poll(cx, &clock, after(60)))).await;
        assert!(first.is_pending());
        poll_fn(|cx| timer.poll(cx, &clock, after(20))).await;
        assert_eq!(clock.now().since(begin).as_secs(), 20);
        // Past.
        poll_fn(|cx| timer.poll(cx, &clock, after(1))).await;
        assert_eq!(clock.now().since(begin).as_secs(), 20);
    }
}
