//! One client connection: a session, its sockets, and the loop between them.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use aibridge_core::{
    ConnId, Fault, Session,
    session::{Action, Event},
    trace::{Opening, Watched},
};
use tokio::sync::watch;

use tracing::error;

use crate::{server::Phase, shared::Shared, socket::Socket, timer::Timer};

/// A session and what it stands on.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    session: Watched,
    /// Few: the client's, and one per call to upstream.
    sockets: Vec<Socket>,
    timer: Timer,
    done: bool,
}

/// What a session waits for.
enum Wake {
    Socket(Event),
    Timer,
}

impl Driver {
    /// A session for a client that has just connected.
    pub(crate) fn new(shared: Arc<Shared>, client: Socket) -> Self {
        let now = shared.clock.now();
        let session = shared.with_bridge(|bridge| bridge.connected(now));
        let tracer = shared.tracer.as_ref();
        let observer = tracer.and_then(|tracer| tracer.begin(Opening::of(now, &session)));
        Self {
            shared,
            session: Watched::new(session, observer),
            sockets: vec![client],
            timer: Timer::new(),
            done: false,
        }
    }

    /// A session without a client.
    pub(crate) fn without_client(shared: Arc<Shared>, session: Session) -> Self {
        Self {
            shared,
            session: Watched::new(session, None),
            sockets: Vec::new(),
            timer: Timer::new(),
            done: false,
        }
    }

    /// Runs the session to its end, which is soon once the server stops.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        let mut known = Phase::Serving;
        loop {
            let current = *phase.borrow_and_update();
            if current != known {
                known = current;
                self.enter(current);
            }
            tokio::select! {
                () = self.drive() => return,
                // The server is never dropped before its sessions: each has a sender's worth of it in `phase`.
                _ = phase.changed() => {}
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        let event = match phase {
            Phase::Serving => return,
            Phase::Draining => Event::Drain,
            // Given up: what there is to record of it comes out.
            Phase::Stopping => Event::Failed(ConnId::CLIENT, Fault::Closed),
        };
        self.session.handle(self.shared.clock.now(), event);
    }

    /// The contract of [`Session`]. May be dropped and called again.
    async fn drive(&mut self) {
        loop {
            self.settle();
            if self.done {
                return;
            }
            let wake = poll_fn(|context| self.poll_wake(context)).await;
            let now = self.shared.clock.now();
            match wake {
                Wake::Socket(event) => {
                    if let Event::Failed(conn, _) = event {
                        self.take(conn);
                    }
                    self.session.handle(now, event);
                }
                Wake::Timer => self.session.handle_timeout(now),
            }
        }
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
            Action::Emit(record) => self.shared.sink.keep(*record),
            Action::Finish(conn) => {
                if let Some(socket) = self.socket(conn) {
                    socket.finish();
                }
            }
            Action::Open(conn, target) => {
                let connecting = self.shared.connector.connect(target);
                self.sockets.push(Socket::connecting(conn, connecting));
            }
            Action::Park(conn, target) => {
                if let Some(stream) = self.take(conn).and_then(Socket::into_stream) {
                    let now = self.shared.clock.now();
                    self.shared.park(now, conn, target, stream);
                }
            }
            Action::Send(conn, frame) => {
                if let Some(socket) = self.socket(conn) {
                    socket.send(frame);
                }
            }
            Action::Unpark(conn) => self.unpark(conn),
        }
    }

    fn unpark(&mut self, conn: ConnId) {
        if let Some(mut stream) = self.shared.unpark(conn)
            && stream.is_idle()
        {
            return self.sockets.push(Socket::open(conn, stream));
        }
        let now = self.shared.clock.now();
        self.session.handle(now, Event::Failed(conn, Fault::Closed));
    }

    fn poll_wake(&mut self, context: &mut Context<'_>) -> Poll<Wake> {
        for socket in &mut self.sockets {
            let wants_read = self.session.wants_read(socket.id);
            if let Poll::Ready(event) = socket.poll(context, wants_read) {
                return Poll::Ready(Wake::Socket(event));
            }
        }
        let deadline = self.session.poll_timeout();
        self.timer
            .poll(context, &self.shared.clock, deadline)
            .map(|()| Wake::Timer)
    }

    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.sockets.iter_mut().find(|socket| socket.id == conn)
    }

    fn take(&mut self, conn: ConnId) -> Option<Socket> {
        let at = self.sockets.iter().position(|socket| socket.id == conn)?;
        Some(self.sockets.remove(at))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if thread::panicking() {
            self.panicked();
        }
        let Self {
            shared, session, ..
        } = self;
        shared.with_bridge(|bridge| bridge.disconnected(session.session()));
    }
}

impl Driver {
    /// A mistake of ours, or of a policy's or a sink's: this connection is lost, and no other. What it was about is recorded as given up.
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
