//! Sessions that begin and end together.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::runtime::Runtime;

/// How far sessions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Serving,
    /// What runs may finish.
    Draining,
    /// What runs is given up.
    Stopping,
}

/// A set of sessions, and how far they are.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
    /// Counts what changed of the state, so that a look at one that did not takes no lock.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    running: usize,
    /// Whom to wake when that changes.
    watchers: HashMap<u64, Waker>,
    next: u64,
}

impl Sessions {
    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    pub(crate) fn running(&self) -> usize {
        self.state().running
    }

    /// Looks on.
    pub(crate) fn watch(self: &Arc<Self>) -> Watcher {
        let mut state = self.state();
        state.next += 1;
        Watcher {
            id: state.next,
            sessions: Arc::clone(self),
            seen: None,
        }
    }

    /// A session that runs until this is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.state().running += 1;
        Running(self.watch())
    }

    /// Lets them finish for so long, and gives up those that have not.
    pub(crate) async fn finish<R: Runtime>(self: &Arc<Self>, runtime: &R, limit: Duration) {
        self.enter(Phase::Draining);
        let mut watcher = self.watch();
        let mut patience = runtime.sleep_until(Instant::now() + limit);
        let in_time = poll_fn(|context| {
            if watcher.poll_ended(context).is_ready() {
                return Poll::Ready(true);
            }
            R::poll_sleep(&mut patience, context).map(|()| false)
        });
        if in_time.await {
            return;
        }
        self.enter(Phase::Stopping);
        poll_fn(|context| watcher.poll_ended(context)).await;
    }

    fn enter(&self, phase: Phase) {
        self.change(|state| state.phase = phase);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.version.fetch_add(1, Ordering::Release);
        let watchers = std::mem::take(&mut state.watchers);
        drop(state); // a waker may run anything
        for waker in watchers.into_values() {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks on, for one task.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: u64,
    sessions: Arc<Sessions>,
    /// What was seen last, and by whom: as long as both stay, there is nothing to look at.
    seen: Option<(u64, Waker)>,
}

impl Watcher {
    /// Ready in another phase than this.
    pub(crate) fn poll_phase(&mut self, context: &mut Context<'_>, known: Phase) -> Poll<Phase> {
        self.poll(context, |state| {
            (state.phase != known).then_some(state.phase)
        })
    }

    /// Ready once no session runs.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll(context, |state| (state.running == 0).then_some(()))
    }

    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        look: impl FnOnce(&State) -> Option<T>,
    ) -> Poll<T> {
        let version = self.sessions.version.load(Ordering::Acquire);
        if let Some((seen, waker)) = &self.seen
            && *seen == version
            && waker.will_wake(context.waker())
        {
            return Poll::Pending;
        }
        let mut state = self.sessions.state();
        if let Some(found) = look(&state) {
            self.seen = None;
            return Poll::Ready(found);
        }
        // The lock is held: nothing has changed since that would not wake it.
        let version = self.sessions.version.load(Ordering::Acquire);
        state.watchers.insert(self.id, context.waker().clone());
        self.seen = Some((version, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.sessions.state().watchers.remove(&self.id);
    }
}

/// A session that runs.
#[derive(Debug)]
pub(crate) struct Running(Watcher);

impl Running {
    /// Ready in another phase than this.
    pub(crate) fn poll_phase(&mut self, context: &mut Context<'_>, known: Phase) -> Poll<Phase> {
        self.0.poll_phase(context, known)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let sessions = &self.0.sessions;
        let mut state = sessions.state();
        state.running -= 1;
        let last = state.running == 0;
        drop(state);
        if last {
            sessions.change(|_| {});
        }
    }
}
