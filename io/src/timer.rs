//! A session's one timer.

use std::{
    task::{Context, Poll, ready},
    time,
};

use aibridge_core::Instant;

use crate::{clock::Clock, runtime::Runtime};

/// Waits for a deadline that mostly moves away.
///
/// A deadline that moved away is left armed where it was, and looked at when it fires: a stream
/// puts its deadlines off with every event, and the runtime's timers would be told each time.
#[derive(Debug)]
pub(crate) struct Timer<S> {
    sleep: Option<S>,
    /// In the runtime's time: the bridge's may catch up meanwhile.
    armed: Option<time::Instant>,
}

impl<S> Timer<S> {
    pub(crate) const fn new() -> Self {
        Self {
            sleep: None,
            armed: None,
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
        let at = clock.at(deadline);
        if self.armed.is_none_or(|armed| at < armed) {
            self.arm(runtime, at);
        }
        while let Some(sleep) = &mut self.sleep {
            ready!(R::poll_sleep(sleep, context));
            if clock.now() >= deadline {
                self.armed = None;
                return Poll::Ready(());
            }
            self.arm(runtime, clock.at(deadline));
        }
        Poll::Pending
    }

    fn arm<R: Runtime<Sleep = S>>(&mut self, runtime: &R, at: time::Instant) {
        self.armed = Some(at);
        match &mut self.sleep {
            Some(sleep) => R::reset_sleep(sleep, at),
            None => self.sleep = Some(runtime.sleep_until(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, pending},
        io::{self, IoSlice},
        net::SocketAddr,
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
        task::Waker,
        time::Duration,
    };

    use bytes::BytesMut;

    use super::*;

    /// A runtime with one wait, which is over when the test says so and notes until when it was to
    /// last.
    #[derive(Clone, Default)]
    struct OneWait {
        over: Arc<AtomicBool>,
        armed: Arc<Mutex<Vec<time::Instant>>>,
    }

    impl OneWait {
        fn arm(&self, at: time::Instant) {
            self.over.store(false, Relaxed);
            self.armed.lock().unwrap().push(at);
        }
    }

    impl Runtime for OneWait {
        type Listener = ();
        type Sleep = Self;
        type Stream = ();

        fn sleep_until(&self, at: time::Instant) -> Self {
            self.arm(at);
            self.clone()
        }

        fn poll_sleep(sleep: &mut Self, _: &mut Context<'_>) -> Poll<()> {
            if sleep.over.load(Relaxed) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }

        fn reset_sleep(sleep: &mut Self, at: time::Instant) {
            sleep.arm(at);
        }

        fn poll_accept(&self, (): &(), _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn connect(&self, _: SocketAddr) -> impl Future<Output = io::Result<()>> + Send {
            pending()
        }

        fn resolve(
            &self,
            _: &str,
            _: u16,
        ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
            pending()
        }

        fn spawn(&self, _: impl Future<Output = ()> + Send + 'static) {}

        fn set_nodelay((): &()) -> io::Result<()> {
            Ok(())
        }

        fn set_reset((): &()) -> io::Result<()> {
            Ok(())
        }

        fn poll_read(
            (): &mut (),
            _: &mut Context<'_>,
            _: &mut BytesMut,
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_write(
            (): &mut (),
            _: &mut Context<'_>,
            _: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_finish((): &mut (), _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[test]
    fn fires_at_the_deadline_wherever_it_moved() {
        let (runtime, clock, mut timer) = (OneWait::default(), Clock::new(), Timer::new());
        let now = clock.now();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |deadline| timer.poll(&mut context, &runtime, &clock, deadline);
        let after = |secs| Some(now + Duration::from_secs(secs));
        let armed = || runtime.armed.lock().unwrap().clone();

        assert!(poll(None).is_pending());
        assert!(armed().is_empty());
        // Moved away: the wait stays as it is, until it is over and found to be too early.
        assert!(poll(after(500)).is_pending());
        assert!(poll(after(900)).is_pending());
        assert_eq!(armed().len(), 1);
        runtime.over.store(true, Relaxed);
        assert!(poll(after(900)).is_pending());
        // Moved nearer: at once.
        assert!(poll(after(200)).is_pending());
        let at = |secs| clock.at(now + Duration::from_secs(secs));
        assert_eq!(armed(), [at(500), at(900), at(200)]);
        // None for a while, and come.
        assert!(poll(None).is_pending());
        assert!(poll(Some(now)).is_pending());
        runtime.over.store(true, Relaxed);
        assert!(poll(Some(now)).is_ready());
        // The next is armed anew.
        assert!(poll(after(300)).is_pending());
        assert_eq!(armed()[3..], [at(0), at(300)]);
    }

    #[test]
    fn a_deadline_stays_where_it_was_set_when_the_clock_catches_up() {
        let (runtime, clock, mut timer) = (OneWait::default(), Clock::new(), Timer::new());
        let now = clock.now();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |deadline| timer.poll(&mut context, &runtime, &clock, Some(deadline));
        let (soon, later) = (
            now + Duration::from_secs(3_600),
            now + Duration::from_secs(3_700),
        );
        assert!(poll(soon).is_pending());
        let before = clock.at(soon);
        // The machine sleeps for an hour, less ten seconds.
        let awake = now + Duration::from_secs(3_592);
        clock.after(Duration::from_secs(2), || awake);
        assert!(poll(later).is_pending());
        let armed = runtime.armed.lock().unwrap().clone();
        assert_eq!(armed, [before, clock.at(later)]);
        assert!(armed[1] < armed[0], "nearer than it was, though later");
    }
}
