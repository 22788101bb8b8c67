//! The thread that takes records where they are kept.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use tracing::error;

use super::journal::Journal;

/// The one thread of a store, which its journal wakes. It ends when it is told to, having done what
/// is left.
#[derive(Debug)]
pub(super) struct WriterThread {
    ends: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WriterThread {
    /// Begins to run `write`, which returns soon once the flag is set.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(
        journal: &Arc<Journal>,
        write: impl FnOnce(Arc<Journal>, Arc<AtomicBool>) + Send + 'static,
    ) -> io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let (writes, stops) = (Arc::clone(journal), Arc::clone(&ends));
        let thread = thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || write(writes, stops))?;
        journal.set_importer(thread.thread().clone());
        Ok(Self {
            ends,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Tells it to end, and waits until it has.
    pub(super) fn end(&self) {
        self.ends.store(true, Relaxed);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = thread.take() else {
            return;
        };
        thread.thread().unpark();
        if thread.join().is_err() {
            error!("the thread that keeps records has panicked");
        }
    }
}
