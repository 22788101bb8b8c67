//! From an origin to an open connection.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    time::Instant,
};

use aibridge_core::{
    Fault, Target,
    codec::Step,
    proxy::{Proxies, Proxy, Tunnel},
};
use bytes::{Buf, Bytes};
use rustls::{ClientConfig, pki_types::ServerName};
use tracing::warn;

use crate::{arena, race, runtime::Runtime, stream::Stream, tls::Tls};

/// A connection that is coming up.
pub(crate) type Connecting<R> = Pin<Box<dyn Future<Output = Result<Stream<R>, Fault>> + Send>>;

/// Opens connections to upstreams.
pub(crate) struct Connector<R> {
    runtime: Arc<R>,
    tls: Arc<ClientConfig>,
    proxies: Proxies,
}

impl<R: Runtime> Connector<R> {
    pub(crate) const fn new(runtime: Arc<R>, tls: Arc<ClientConfig>, proxies: Proxies) -> Self {
        Self {
            runtime,
            tls,
            proxies,
        }
    }

    /// Connects. How long that may take is the caller's business: dropping it gives it up.
    pub(crate) fn connect(self: &Arc<Self>, target: Target) -> Connecting<R> {
        let connector = Arc::clone(self);
        Box::pin(async move {
            connector.open(&target).await.map_err(|failure| {
                let Failure(fault, error) = failure;
                warn!(upstream = %target, %fault, %error, "cannot connect");
                fault
            })
        })
    }

    async fn open(&self, target: &Target) -> Result<Stream<R>, Failure> {
        let stream = match self.proxies.between(target) {
            Some(proxy) => self.tunnel(proxy, target).await?,
            None => self.dial(target).await?,
        };
        if !target.tls {
            return Ok(Stream::Plain(stream));
        }
        let name = ServerName::try_from(target.host.to_string())
            .map_err(|error| Failure(Fault::Tls, io::Error::other(error)))?;
        let failed = |error: io::Error| Failure(tls_fault(&error), error);
        let mut tls = Tls::client(stream, Arc::clone(&self.tls), name).map_err(failed)?;
        tls.shake_hands().await.map_err(failed)?;
        Ok(Stream::Tls(Box::new(tls)))
    }

    /// Connects to the first address that answers.
    async fn dial(&self, target: &Target) -> Result<R::Stream, Failure> {
        let runtime = &*self.runtime;
        let addresses = runtime.resolve(&target.host, target.port).await;
        let addresses = addresses.map_err(|error| Failure(Fault::Dns, error))?;
        if addresses.is_empty() {
            let error = io::Error::other("the name has no address");
            return Err(Failure(Fault::Dns, error));
        }
        let connect = |address| async move {
            let stream = runtime.connect(address).await?;
            R::set_nodelay(&stream)?;
            Ok(stream)
        };
        let pause = || {
            let mut sleep = runtime.sleep_until(Instant::now() + race::DELAY);
            poll_fn(move |context| R::poll_sleep(&mut sleep, context))
        };
        let stream = race::first(addresses, connect, pause).await;
        stream.map_err(|error| Failure(fault(&error), error))
    }

    /// Opens a way through a proxy.
    async fn tunnel(&self, proxy: &Proxy, target: &Target) -> Result<R::Stream, Failure> {
        let through = |error| Failure(Fault::Proxy, error);
        let mut stream = self
            .dial(&proxy.target)
            .await
            .map_err(|Failure(_, error)| through(error))?;
        let request = Tunnel::request(proxy, target);
        write_all::<R>(&mut stream, request)
            .await
            .map_err(through)?;
        let mut tunnel = Tunnel::new();
        loop {
            let read = poll_fn(|context| arena::poll_read::<R>(&mut stream, context)).await;
            let bytes = read.map_err(through)?;
            if bytes.is_empty() {
                return Err(through(io::ErrorKind::UnexpectedEof.into()));
            }
            match tunnel.push(bytes) {
                Ok(Step::Item(())) => return Ok(stream),
                Ok(_) => {}
                Err(fault) => {
                    let error =
                        io::Error::other("the proxy refuses, or does not speak its protocol");
                    return Err(Failure(fault, error));
                }
            }
        }
    }
}

/// The class for clients and records, the error for the log.
struct Failure(Fault, io::Error);

async fn write_all<R: Runtime>(stream: &mut R::Stream, mut bytes: Bytes) -> io::Result<()> {
    while bytes.has_remaining() {
        let written =
            poll_fn(|context| R::poll_write(stream, context, &[IoSlice::new(&bytes)])).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes.advance(written);
    }
    Ok(())
}

/// What went wrong in a handshake.
fn tls_fault(error: &io::Error) -> Fault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Fault::UntrustedCertificate,
        _ => Fault::Tls,
    }
}

/// What went wrong with a connection.
pub(crate) fn fault(error: &io::Error) -> Fault {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut,
        UnexpectedEof,
    };
    /// `ENFILE` and `EMFILE`: no descriptors left.
    const NO_DESCRIPTORS: [Option<i32>; 2] = [Some(23), Some(24)];
    match error.kind() {
        _ if NO_DESCRIPTORS.contains(&error.raw_os_error()) => Fault::Local,
        AddrNotAvailable => Fault::Local,
        ConnectionRefused => Fault::Refused,
        HostUnreachable | NetworkUnreachable => Fault::Unreachable,
        TimedOut => Fault::TimedOut,
        // TLS ends with a message of its own. Without it somebody may have cut the rest off.
        UnexpectedEof => Fault::Closed,
        _ => Fault::Reset,
    }
}
