//! Recording the sessions of a simulated world's clients.

use std::sync::{Arc, Mutex, PoisonError};

use aibridge_core::trace::{Observer, Opening, Recorder, Step};

/// One trace for each session, in the order in which clients connected.
#[derive(Debug, Default)]
pub(super) struct Traces(Vec<Arc<Mutex<Option<Recorder>>>>);

impl Traces {
    /// Begins one.
    pub(super) fn begin(&mut self, opening: Opening) -> Box<dyn Observer> {
        let recorder = Arc::new(Mutex::new(Some(Recorder::new(opening, "aibridge-testkit"))));
        self.0.push(Arc::clone(&recorder));
        Box::new(move |step: Step| {
            let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(recorder) = &mut *recorder {
                recorder.record(step);
            }
        })
    }

    /// All of them, as far as they are.
    pub(super) fn finish(self) -> Vec<Vec<u8>> {
        let finish = |recorder: Arc<Mutex<Option<Recorder>>>| {
            let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
            recorder.take().map(Recorder::finish)
        };
        self.0.into_iter().filter_map(finish).collect()
    }
}
