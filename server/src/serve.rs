//! `aibridge serve`: listeners up, signals heeded, nothing running cut short.

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    Failure,
    admin::{Admin, Phase},
    bridge::{Identity, Links, Running},
    cli::ServeArgs,
    clients,
    config::{self, OnFull, Overrides, Place, Records, Settings},
    records::Recorder,
    reload::Reloader,
    system,
    trace::Traces,
};

/// How long records and traces may take to be written at the end.
const CLOSING: Duration = Duration::from_secs(15);
/// When a client that is turned away because nothing can be recorded is to come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Runs the bridge until it is told to stop.
///
/// # Errors
/// The configuration is wrong, or an address cannot be listened on.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    system::prepare();
    let overrides = Overrides {
        listen: args.listen,
        admin: args.admin,
    };
    let settings = Settings::load(args.config.as_deref(), overrides)?;
    if args.config.is_none() && Path::new("aibridge.toml").exists() {
        warn!("aibridge.toml is here but not read; name it with --config to use it");
    }
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    match &settings.records.place {
        Place::Jsonl(file) => info!(jsonl = %file.display(), "records"),
        Place::Memory => info!("records are kept in memory only, and lost when the bridge ends"),
        Place::Sqlite(file) => info!(sqlite = %file.display(), "records"),
    }
    let workers = args
        .workers
        .or_else(|| thread::available_parallelism().ok());
    let path = args.config.clone();
    let runtime = runtime(workers.map_or(1, NonZeroUsize::get))?;
    let outcome = runtime.block_on(serve(settings, path, overrides));
    // Dropped, it would wait for what blocks: a store that is being closed, a name that is looked
    // up, a file that hangs.
    runtime.shutdown_background();
    outcome
}

/// A runtime with this many threads. One needs no other to hand work to, which saves it the
/// synchronisation.
pub(crate) fn runtime(workers: usize) -> io::Result<Runtime> {
    if workers == 1 {
        return Builder::new_current_thread().enable_all().build();
    }
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
}

async fn serve(
    settings: Settings,
    path: Option<PathBuf>,
    overrides: Overrides,
) -> Result<(), Failure> {
    // Signals first: from here on none of them kills us.
    let mut signals = Signals::new()?;
    let Some(recorder) = open_records(&settings.records, &mut signals.stop).await? else {
        return Ok(());
    };
    tokio::spawn(recorder.usher());
    let traces = open_traces(&settings)?;
    let admin_listener = bind(settings.admin, "--admin").await?;
    let listener = bind(settings.listen, "--listen").await?;
    let (admin_address, address) = (admin_listener.local_addr()?, listener.local_addr()?);

    let sink = Arc::clone(&recorder) as _;
    let links = Links {
        authority: settings.upstream_ca.as_ref(),
        identity: settings.tls.as_ref().map(|tls| tls.identity.clone()),
        proxies: settings.proxies.clone(),
        traces: traces.clone(),
    };
    let running = Arc::new(Running::start(settings.core(), listener, sink, links)?);
    if settings.records.on_full == OnFull::Refuse
        && let Some(full) = recorder.full()
    {
        tokio::spawn(refuse_while(full, Arc::clone(&running)));
    }
    if let Err(error) = clients::print(&mut io::stdout().lock(), &settings, address, admin_address)
    {
        warn!(%error, "stdout cannot be written to");
    }
    let admin_identity = settings.admin_tls.as_ref().map(|tls| tls.identity.clone());
    let reloader = Arc::new(Reloader::new(
        path,
        overrides,
        Arc::clone(&running),
        Arc::clone(&recorder),
        settings,
    ));
    let admin = start_admin(
        &reloader,
        &running,
        &recorder,
        admin_listener,
        admin_identity,
    );
    info!(%address, admin = %admin_address, "ready");

    signals.stopped(&reloader).await;
    admin.set_phase(Phase::Draining);
    let limit = reloader.drain_timeout();
    info!(
        limit_s = limit.as_secs_f64(),
        "stopping: running interceptions may finish"
    );
    let shut_down = async {
        running.drain(limit).await;
        close(recorder, traces).await;
    };
    unless_stopped(signals.stopped(&reloader), shut_down).await?;
    info!("stopped");
    Ok(())
}

/// Opens the records, which takes a while where a crash has left much. `None` if a signal came
/// meanwhile; then they were opened to the end nevertheless, and closed in order.
async fn open_records(
    records: &Records,
    stop: &mut Stop,
) -> Result<Option<Arc<Recorder>>, Failure> {
    let records = records.clone();
    let opening = tokio::task::spawn_blocking(move || Recorder::open(&records));
    let mut opening = pin!(async {
        let opened = opening.await.unwrap_or_else(|panic| Err(panic.to_string()));
        let recorder = opened.map_err(|error| Failure::Runtime(format!("records: {error}")))?;
        Ok(Arc::new(recorder))
    });
    tokio::select! {
        opened = &mut opening => return opened.map(Some),
        () = stop.next() => info!("stopping as soon as the records are open"),
    }
    let end = async {
        close(opening.await?, None).await;
        Ok(None)
    };
    unless_stopped(stop.next(), end).await?
}

/// Begins to answer administrators.
fn start_admin(
    reloader: &Arc<Reloader>,
    running: &Arc<Running>,
    recorder: &Arc<Recorder>,
    listener: TcpListener,
    identity: Option<Identity>,
) -> Arc<Admin> {
    let of_admin = Arc::clone(reloader);
    let admin = Arc::new(Admin::new(
        reloader.access(),
        Arc::clone(running) as _,
        Arc::clone(recorder),
        Box::new(move || of_admin.reload()),
    ));
    reloader.tell(&admin);
    tokio::spawn(Arc::clone(&admin).serve(listener, identity));
    admin.set_phase(Phase::Ready);
    admin
}

/// Goes on to the end, unless it is told to stop at once.
pub(crate) async fn unless_stopped<T>(
    stopped: impl Future<Output = ()>,
    goes_on: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::select! {
        done = goes_on => Ok(done),
        () = stopped => Err(Failure::Runtime("stopped at once by a second signal".to_owned())),
    }
}

/// Puts records and traces where they belong.
async fn close(recorder: Arc<Recorder>, traces: Option<Arc<Traces>>) {
    let closed = tokio::task::spawn_blocking(move || {
        recorder.close();
        if let Some(traces) = traces {
            traces.close();
        }
    });
    match timeout(CLOSING, closed).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => warn!("the records were not closed in order"),
        Err(_) => warn!("the disk does not answer: the last records may be lost"),
    }
}

/// Begins to write traces, if they are wanted.
fn open_traces(settings: &Settings) -> Result<Option<Arc<Traces>>, config::Error> {
    let Some(dir) = &settings.trace else {
        return Ok(None);
    };
    let traces = Traces::open(dir).map_err(|error| {
        let shown = dir.display();
        let what = format!(
            "trace: dir: {shown} cannot be written to ({error}); name another folder, or let the bridge's user write there"
        );
        config::Error::new(&settings.origin, what)
    })?;
    warn!(dir = %dir.display(), "traces are written: they hold what clients and models say, though no secrets");
    Ok(Some(Arc::new(traces)))
}

/// Turns new requests away for as long as they could not be recorded.
async fn refuse_while(mut full: watch::Receiver<bool>, running: Arc<Running>) {
    loop {
        let is_full = *full.borrow_and_update();
        running.pause(is_full.then_some(RETRY_AFTER));
        if full.changed().await.is_err() {
            return;
        }
    }
}

async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::Runtime(format!(
            "cannot listen on {address}: {error}; choose another address with {option}"
        ))
    })
}

/// The signals that end a process: the first in order, a second at once.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// From here on none of them kills us.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signals that the bridge heeds.
struct Signals {
    hang_up: Signal,
    stop: Stop,
    /// A reload that is under way. It may hang, on a file of a secret for one, and the other
    /// signals are heeded nevertheless.
    reloading: Option<JoinHandle<()>>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            stop: Stop::new()?,
            reloading: None,
        })
    }

    /// Waits to be told to stop, and reloads when told so: one reload at a time, and one more if it
    /// was told so meanwhile.
    async fn stopped(&mut self, reloader: &Arc<Reloader>) {
        loop {
            tokio::select! {
                () = self.stop.next() => return,
                _ = self.hang_up.recv(), if self.reloading.is_none() => {
                    let reloader = Arc::clone(reloader);
                    let reload = move || {
                        // It says in the log what came of it.
                        let _ = reloader.reload();
                    };
                    self.reloading = Some(tokio::task::spawn_blocking(reload));
                }
                () = over(&mut self.reloading) => {}
            }
        }
    }
}

/// Waits until a task is over, and forgets it; for ever where there is none.
async fn over(task: &mut Option<JoinHandle<()>>) {
    let Some(running) = task else {
        return std::future::pending().await;
    };
    let _ = running.await;
    *task = None;
}
