//! `[trace]`: what clients' sessions were told and did, a file for each connection, to be
//! [replayed](crate::replay).
//!
//! A session's task hands over what happens and goes on; one thread makes lines of it, without
//! secrets, and writes them. What is on its way is bounded: a session that would exceed that is
//! written no further, and its trace says so. Nothing that happens to traces happens to sessions.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread::{self, JoinHandle},
};

use aibridge_core::{
    Instant,
    session::{Action, Event},
    trace::{Observer, Opening, Recorder, Step, Tracer},
};
use bytes::{Buf, Bytes};
use jiff::Timestamp;
use tracing::{error, warn};

/// Bytes on their way to the thread above which traces are given up.
const MAX_PENDING: usize = 64 << 20;
/// What a step weighs besides the bytes in it.
const STEP: usize = 256;
/// Shorter pieces are copied, lest they hold a whole read buffer.
const SHORT: usize = 4 << 10;

/// Writes traces.
#[derive(Debug)]
pub(crate) struct Traces {
    shared: Arc<Shared>,
    tell: Mutex<Sender<Told>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many sessions have begun.
    sessions: AtomicU64,
    pending: AtomicUsize,
    lost: AtomicU64,
}

/// What the thread is told.
enum Told {
    Begin(u64, Opening),
    Step(u64, Step, usize),
    End(u64),
    /// It is not recorded any further.
    Lost(u64),
    Stop,
}

/// One session's end of the line.
struct Teller {
    number: u64,
    shared: Arc<Shared>,
    tell: Sender<Told>,
    is_lost: bool,
}

impl Traces {
    /// Begins to write to this folder, made if it is not there.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        // What people asked is nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let probe = folder.join(".probe");
        File::create(&probe)?;
        fs::remove_file(probe)?;
        let shared = Arc::new(Shared::default());
        let (tell, told) = channel();
        let writer = Writer {
            folder: folder.to_owned(),
            shared: Arc::clone(&shared),
            files: BTreeMap::new(),
        };
        let thread = thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || writer.run(&told))?;
        Ok(Self {
            shared,
            tell: Mutex::new(tell),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// How many traces have not been written to their end.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// Writes what is on its way. May take a while; nothing is written from then on.
    pub(crate) fn close(&self) {
        let _ = self.sender().send(Told::Stop);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that writes traces has panicked");
        }
    }

    fn sender(&self) -> Sender<Told> {
        self.tell
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Tracer for Traces {
    fn begin(&self, opening: Opening) -> Option<Box<dyn Observer>> {
        let number = self.shared.sessions.fetch_add(1, Relaxed) + 1;
        let tell = self.sender();
        tell.send(Told::Begin(number, opening)).ok()?;
        Some(Box::new(Teller {
            number,
            shared: Arc::clone(&self.shared),
            tell,
            is_lost: false,
        }))
    }
}

impl Observer for Teller {
    fn observe(&mut self, mut step: Step) {
        if self.is_lost {
            return;
        }
        let weight = STEP + unshare(&mut step);
        let pending = &self.shared.pending;
        if pending.fetch_add(weight, Relaxed) + weight > MAX_PENDING {
            pending.fetch_sub(weight, Relaxed);
            self.is_lost = true;
            let _ = self.tell.send(Told::Lost(self.number));
            return;
        }
        self.is_lost = self
            .tell
            .send(Told::Step(self.number, step, weight))
            .is_err();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if !self.is_lost {
            let _ = self.tell.send(Told::End(self.number));
        }
    }
}

/// Copies short pieces out of the buffers that they share. How many bytes there are.
fn unshare(step: &mut Step) -> usize {
    match step {
        Step::Event(_, Event::Received(_, bytes)) => {
            if bytes.len() <= SHORT {
                *bytes = Bytes::copy_from_slice(bytes);
            }
            bytes.len()
        }
        Step::Action(Action::Send(_, frame)) => {
            frame.unshare();
            frame.remaining()
        }
        // Its texts are a part of what came.
        Step::Action(Action::Emit(_)) => 4 * STEP,
        _ => 0,
    }
}

/// The thread's part.
struct Writer {
    folder: PathBuf,
    shared: Arc<Shared>,
    files: BTreeMap<u64, Trace>,
}

/// A trace that is being written.
struct Trace {
    recorder: Recorder,
    began: Instant,
    /// Made when the client says something: not all who connect do.
    file: Option<BufWriter<File>>,
    is_touched: bool,
}

impl Writer {
    fn run(mut self, told: &Receiver<Told>) {
        loop {
            let next = match told.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.flush();
                    told.recv().ok()
                }
                next => next.ok(),
            };
            match next {
                Some(Told::Begin(number, opening)) => {
                    let began = opening.at();
                    let by = concat!("aibridge ", env!("CARGO_PKG_VERSION"));
                    let trace = Trace {
                        recorder: Recorder::new(opening, by),
                        began,
                        file: None,
                        is_touched: false,
                    };
                    self.files.insert(number, trace);
                }
                Some(Told::Step(number, step, weight)) => {
                    self.record(number, step);
                    self.shared.pending.fetch_sub(weight, Relaxed);
                }
                Some(Told::End(number)) => self.end(number, None),
                Some(Told::Lost(number)) => {
                    let why = "there was more to write than could be written";
                    self.end(number, Some(why));
                    self.lose(number, &why);
                }
                Some(Told::Stop) | None => break,
            }
        }
        while let Some((number, _)) = self.files.first_key_value() {
            self.end(*number, Some("the bridge has stopped"));
        }
    }

    fn record(&mut self, number: u64, step: Step) {
        let Some(trace) = self.files.get_mut(&number) else {
            return;
        };
        trace.is_touched = true;
        let is_first = trace.file.is_none() && matches!(&step, Step::Event(_, Event::Received(..)));
        trace.recorder.record(step);
        let written = if is_first {
            trace.create(&self.folder, number)
        } else {
            trace.write()
        };
        self.check(number, written);
    }

    /// `why` it ends, if its session does not.
    fn end(&mut self, number: u64, why: Option<&str>) {
        let Some(mut trace) = self.files.remove(&number) else {
            return;
        };
        if let Some(why) = why {
            trace.recorder.give_up(why);
        }
        let Some(mut file) = trace.file else {
            return; // nothing was said
        };
        let lines = trace.recorder.finish();
        let written = file.write_all(&lines).and_then(|()| file.flush());
        self.check(number, written);
    }

    /// Nothing is waiting: what was written gets where others see it.
    fn flush(&mut self) {
        let touched = self.files.iter_mut().filter(|(_, trace)| trace.is_touched);
        let flushed: Vec<_> = touched
            .map(|(number, trace)| {
                trace.is_touched = false;
                let flushed = trace.file.as_mut().map_or(Ok(()), Write::flush);
                (*number, flushed)
            })
            .collect();
        for (number, flushed) in flushed {
            self.check(number, flushed);
        }
    }

    /// A trace that cannot be written is not written any further.
    fn check(&mut self, number: u64, written: io::Result<()>) {
        let Err(error) = written else {
            return;
        };
        self.files.remove(&number);
        self.lose(number, &error);
    }

    fn lose(&mut self, number: u64, why: &dyn std::fmt::Display) {
        let lost = self.shared.lost.fetch_add(1, Relaxed) + 1;
        // Once: a full disk has the same to say of every connection.
        if lost == 1 {
            warn!(
                number,
                folder = %self.folder.display(),
                %why,
                "a trace is not complete; others are only counted"
            );
        }
    }
}

impl Trace {
    fn create(&mut self, folder: &Path, number: u64) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(name(self.began, number)))?;
        self.file = Some(BufWriter::new(file));
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(&self.recorder.take()),
            None => Ok(()),
        }
    }
}

/// `2026-03-04T05-06-07.008Z-1.jsonl`: the time without what file names should not have, and the
/// session's number.
fn name(began: Instant, number: u64) -> String {
    let millis = i64::try_from(began.as_millis()).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(millis).unwrap_or_default();
    format!("{}-{number}.jsonl", at.strftime("%Y-%m-%dT%H-%M-%S%.3fZ"))
}

#[cfg(test)]
mod tests {
    use std::env;

    use aibridge_core::{Bridge, ConnId, config::Config, trace};

    use super::*;

    #[test]
    fn what_cannot_be_kept_up_with_is_given_up_and_the_trace_says_so() {
        let folder = env::temp_dir().join(format!("aibridge-traces-{}", std::process::id()));
        let traces = Traces::open(&folder).unwrap();
        let now = Instant::from_secs(1);
        let session = Bridge::new(Arc::new(Config::default()), 1)
            .unwrap()
            .connected(now);
        let mut observer = traces.begin(Opening::of(now, &session)).unwrap();
        let received = |len| Event::Received(ConnId::CLIENT, vec![b'a'; len].into());
        observer.observe(Step::Event(now, received(100)));
        observer.observe(Step::Event(now, received(MAX_PENDING)));
        observer.observe(Step::Event(now, received(100)));
        drop(observer);
        traces.close();

        assert_eq!(traces.lost(), 1);
        assert_eq!(traces.shared.pending.load(Relaxed), 0);
        let text = fs::read(folder.join(name(now, 1))).unwrap();
        fs::remove_dir_all(folder).unwrap();
        let ending = trace::replay(&text).unwrap().ending;
        let expected = "there was more to write than could be written";
        assert_eq!(ending, trace::Ending::Early(expected.to_owned()));
    }

    #[test]
    fn a_traces_name_sorts_by_time() {
        let at = Instant::from_millis(1_700_000_000_007);
        assert_eq!(name(at, 12), "2023-11-14T22-13-20.007Z-12.jsonl");
    }
}
