//! One client connection: a session, its sockets, and the loop between them.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, ready},
};

use aibridge_core::{
    ConnId, Fault, Session,
    record::Record,
    session::{Action, Event},
    trace::{Opening, Watched},
};
use tracing::error;

use crate::{
    connection::Connection,
    runtime::Runtime,
    sessions::{Phase, Running},
    shared::Shared,
    timer::Timer,
};

/// How many events a session handles before others have their turn, however many are waiting.
const TURN: usize = 256;

/// A session and what it stands on.
pub(crate) struct Driver<R: Runtime> {
    shared: Arc<Shared<R>>,
    session: Watched,
    /// Few: the client's first, and one per call to upstream.
    connections: Vec<Connection<R>>,
    timer: Timer<R::Sleep>,
    running: Running,
    phase: Phase,
    /// Whether sessions that are ready have their turn before this one sends what it has.
    yields: bool,
    /// Where the sink must have come to before anything is sent.
    uncommitted: Option<u64>,
    done: bool,
}

/// What a session waits for.
enum Wake {
    Connection(Event),
    Timer,
}

impl<R: Runtime> Driver<R> {
    /// A session for a client that has just connected.
    pub(crate) fn new(shared: Arc<Shared<R>>, running: Running, client: Connection<R>) -> Self {
        let now = shared.clock.now();
        let session = shared.with_bridge(|bridge| bridge.connected(now));
        let tracer = shared.tracer.as_ref();
        let observer = tracer.and_then(|tracer| tracer.begin(Opening::of(now, &session)));
        let session = Watched::new(session, observer);
        let mut driver = Self::of(shared, running, session);
        driver.connections.push(client);
        driver
    }

    /// A session without a client.
    pub(crate) const fn without_client(
        shared: Arc<Shared<R>>,
        running: Running,
        session: Session,
    ) -> Self {
        Self::of(shared, running, Watched::new(session, None))
    }

    const fn of(shared: Arc<Shared<R>>, running: Running, session: Watched) -> Self {
        Self {
            shared,
            session,
            connections: Vec::new(),
            timer: Timer::new(),
            running,
            phase: Phase::Serving,
            yields: false,
            uncommitted: None,
            done: false,
        }
    }

    /// Runs the session to its end, which is soon once the server stops.
    pub(crate) async fn run(mut self) {
        poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| self.poll(context)));
            polled.unwrap_or_else(|_| {
                self.panicked();
                Poll::Ready(())
            })
        })
        .await;
    }

    /// The contract of [`Session`].
    ///
    /// A session that has a request for upstream, or the end of a reply, yields before it sends it.
    /// Under load, the sessions that are ready all read first and then all send, which is cheaper
    /// by a quarter for small requests: whoever listens at the other end is woken once for several,
    /// and the sink commits so many ends of replies at once. The events of a stream do not wait.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(phase) = self.running.poll_phase(context, self.phase) {
            self.enter(phase);
        }
        // What is given up has no end that a client could see.
        if let Some(mark) = self.uncommitted.filter(|_| self.phase != Phase::Stopping) {
            ready!(self.shared.sink.poll_commit(context, mark));
            self.uncommitted = None;
        }
        // Where a connection always has more to say, the timer is never asked, or, by a runtime
        // that makes tasks pause, never answers.
        let now = self.shared.clock.now();
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        for _ in 0..TURN {
            self.settle();
            if std::mem::take(&mut self.yields) {
                break;
            }
            if self.done {
                return Poll::Ready(());
            }
            let wake = ready!(self.poll_wake(context));
            let now = self.shared.clock.now();
            match wake {
                Wake::Connection(event) => {
                    if let Event::Failed(conn, _) = event {
                        self.take(conn);
                    }
                    self.session.handle(now, event);
                }
                Wake::Timer => self.session.handle_timeout(now),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let event = match phase {
            Phase::Serving => return,
            Phase::Draining => Event::Drain,
            // Given up: what there is to record of it comes out.
            Phase::Stopping => Event::Failed(ConnId::CLIENT, Fault::Closed),
        };
        self.session.handle(self.shared.clock.now(), event);
    }

    /// Does what the session wants done and answers what it asks, until it waits.
    fn settle(&mut self) {
        loop {
            while let Some(action) = self.session.poll_action() {
                self.act(action);
            }
            let Some(query) = self.session.poll_query() else {
                return;
            };
            let now = self.shared.clock.now();
            let answer = self.shared.with_bridge(|bridge| bridge.answer(now, query));
            self.session.handle_answer(now, answer);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Close(conn) => drop(self.take(conn)),
            Action::Done => self.done = true,
            Action::Emit(record) => {
                let ends = matches!(*record, Record::Ended(..));
                self.shared.sink.keep(*record);
                if ends {
                    self.uncommitted = Some(self.shared.sink.mark());
                    self.yields = true;
                }
            }
            Action::Finish(conn) => {
                if let Some(connection) = self.connection(conn) {
                    connection.finish();
                }
            }
            Action::Open(conn, target) => {
                let connecting = self.shared.connector.connect(target);
                self.connections
                    .push(Connection::connecting(conn, connecting));
            }
            Action::Park(conn, target) => {
                if let Some(stream) = self.take(conn).and_then(Connection::into_stream) {
                    let now = self.shared.clock.now();
                    self.shared.park(now, conn, target, stream);
                }
            }
            Action::Reset(conn) => {
                if let Some(connection) = self.take(conn) {
                    connection.reset();
                }
            }
            Action::Send(conn, frame) => {
                self.yields |= conn != ConnId::CLIENT;
                if let Some(connection) = self.connection(conn) {
                    connection.send(frame);
                }
            }
            Action::Unpark(conn) => self.unpark(conn),
        }
    }

    fn unpark(&mut self, conn: ConnId) {
        if let Some(mut stream) = self.shared.unpark(conn)
            && stream.is_idle()
        {
            return self.connections.push(Connection::open(conn, stream));
        }
        let now = self.shared.clock.now();
        self.session.handle(now, Event::Failed(conn, Fault::Closed));
    }

    fn poll_wake(&mut self, context: &mut Context<'_>) -> Poll<Wake> {
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            let wants_read = self.session.wants_read(connection.id);
            if let Poll::Ready(event) = connection.poll(context, wants_read) {
                // The client comes first, always. Of the others, who has had its turn comes last:
                // one that always has more to say holds up none of them.
                if !connection.id.is_client() {
                    self.connections[at..].rotate_left(1);
                }
                return Poll::Ready(Wake::Connection(event));
            }
        }
        let deadline = self.session.poll_timeout();
        let Shared { runtime, clock, .. } = &*self.shared;
        self.timer
            .poll(context, &**runtime, clock, deadline)
            .map(|()| Wake::Timer)
    }

    fn connection(&mut self, conn: ConnId) -> Option<&mut Connection<R>> {
        self.connections.iter_mut().find(|it| it.id == conn)
    }

    fn take(&mut self, conn: ConnId) -> Option<Connection<R>> {
        let at = self.connections.iter().position(|it| it.id == conn)?;
        Some(self.connections.remove(at))
    }

    /// A mistake of ours, or of a policy's or a sink's: this connection is lost, and no other. What
    /// it was about is recorded as given up.
    fn panicked(&mut self) {
        self.shared.count_panic();
        error!("a session panicked: its connection is closed, the others go on");
        // It may be in any state, so it may panic again.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let now = self.shared.clock.now();
            self.session
                .handle(now, Event::Failed(ConnId::CLIENT, Fault::Closed));
            self.settle();
        }));
    }
}

/// However the session ends, what it held is free.
impl<R: Runtime> Drop for Driver<R> {
    fn drop(&mut self) {
        let Self {
            shared, session, ..
        } = self;
        shared.with_bridge(|bridge| bridge.disconnected(session.session()));
    }
}
