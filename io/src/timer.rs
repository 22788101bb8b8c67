//! A session's one timer.

use std::task::{Context, Poll, ready};

use aibridge_core::Instant;

use crate::{clock::Clock, runtime::Runtime};

/// Waits for a deadline that mostly moves away.
///
/// A deadline that moved away is left armed where it was, and looked at when it fires: a stream puts its deadlines off with every
/// event, and the runtime's timers would be told each time.
#[derive(Debug)]
pub(crate) struct Timer<S> {
    sleep: Option<S>,
    armed: Instant,
}

impl<S> Timer<S> {
    pub(crate) const fn new() -> Self {
        Self {
            sleep: None,
            armed: Instant::FAR_FUTURE,
        }
    }

    /// Ready once the deadline has come; never where there is none.
    pub(crate) fn poll<R: Runtime<Sleep = S>>(
        &mut self,
        context: &mut Context<'_>,
        runtime: &R,
        clock: &Clock,
        deadline: Option<Instant>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if deadline < self.armed {
            self.arm(runtime, clock, deadline);
        }
        while let Some(sleep) = &mut self.sleep {
            ready!(R::poll_sleep(sleep, context));
            if clock.now() >= deadline {
                self.armed = Instant::FAR_FUTURE;
                return Poll::Ready(());
            }
            self.arm(runtime, clock, deadline);
        }
        Poll::Pending
    }

    fn arm<R: Runtime<Sleep = S>>(&mut self, runtime: &R, clock: &Clock, deadline: Instant) {
        self.armed = deadline;
        let at = clock.at(deadline);
        match &mut self.sleep {
            Some(sleep) => R::reset_sleep(sleep, at),
            None => self.sleep = Some(runtime.sleep_until(at)),
        }
    }
}
