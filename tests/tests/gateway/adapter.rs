//! The adapters, as suites run them.

use std::{
    fmt,
    future::Future,
    net::{SocketAddr, TcpListener},
};

use aibridge_io::Runtime;
use aibridge_smol::Smol;
use aibridge_tokio::Tokio;
use smol::Async;
use tokio::{net, runtime};

/// A runtime that an adapter is for, and what it takes to have one in a test.
pub trait Adapter: Runtime + Default + fmt::Debug {
    /// What runs tasks until it is dropped.
    type Host: fmt::Debug;

    /// One that runs.
    fn host() -> Self::Host;

    /// A free port of 127.0.0.1.
    fn listen(host: &Self::Host) -> (Self::Listener, SocketAddr);

    /// Runs a task.
    fn run(host: &Self::Host, task: impl Future<Output = ()> + Send + 'static);

    /// Runs a future to its end.
    fn block_on<T>(host: &Self::Host, future: impl Future<Output = T>) -> T;
}

/// Tokio's runtime, given up without waiting for what it runs.
#[derive(Debug)]
pub struct Workers(Option<runtime::Runtime>);

impl Workers {
    fn runtime(&self) -> &runtime::Runtime {
        self.0.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Adapter for Tokio {
    type Host = Workers;

    fn host() -> Workers {
        Workers(Some(runtime::Runtime::new().expect("a runtime")))
    }

    fn listen(host: &Workers) -> (net::TcpListener, SocketAddr) {
        let bound = host
            .runtime()
            .block_on(net::TcpListener::bind("127.0.0.1:0"));
        let listener = bound.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        (listener, addr)
    }

    fn run(host: &Workers, task: impl Future<Output = ()> + Send + 'static) {
        host.runtime().spawn(task);
    }

    fn block_on<T>(host: &Workers, future: impl Future<Output = T>) -> T {
        host.runtime().block_on(future)
    }
}

/// Smol's reactor and global executor are always there.
#[derive(Debug)]
pub struct Global;

impl Adapter for Smol {
    type Host = Global;

    fn host() -> Global {
        Global
    }

    fn listen(_: &Global) -> (Async<TcpListener>, SocketAddr) {
        let bound = Async::<TcpListener>::bind(([127, 0, 0, 1], 0));
        let listener = bound.expect("a free port");
        let addr = listener.get_ref().local_addr().expect("it is bound");
        (listener, addr)
    }

    fn run(_: &Global, task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    fn block_on<T>(_: &Global, future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}
