//! From an origin to an open connection.

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

use aibridge_core::{
    Fault, Target,
    codec::Step,
    proxy::{Proxies, Proxy, Tunnel},
};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tracing::warn;

use crate::{stream::Stream, tls};

/// A connection that is coming up.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = Result<Stream, Fault>> + Send>>;

/// Opens connections to upstreams.
pub(crate) struct Connector {
    tls: TlsConnector,
    proxies: Proxies,
}

impl Connector {
    pub(crate) const fn new(tls: TlsConnector, proxies: Proxies) -> Self {
        Self { tls, proxies }
    }

    /// Connects. How long that may take is the caller's business: dropping it gives it up.
    pub(crate) fn connect(self: &Arc<Self>, target: Target) -> Connecting {
        let connector = Arc::clone(self);
        Box::pin(async move {
            connector.open(&target).await.map_err(|failure| {
                let Failure(fault, error) = failure;
                warn!(upstream = %target, %fault, %error, "cannot connect");
                fault
            })
        })
    }

    async fn open(&self, target: &Target) -> Result<Stream, Failure> {
        let stream = match self.proxies.between(target) {
            Some(proxy) => tunnel(proxy, target).await?,
            None => dial(target).await?,
        };
        if !target.tls {
            return Ok(Stream::Plain(stream));
        }
        let name = ServerName::try_from(target.host.to_string())
            .map_err(|error| Failure(Fault::Tls, io::Error::other(error)))?;
        match self.tls.connect(name, stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream.into()))),
            Err(error) => Err(Failure(tls::fault(&error), error)),
        }
    }
}

/// The class for clients and records, the error for the log.
struct Failure(Fault, io::Error);

/// Connects to the first address that answers.
async fn dial(target: &Target) -> Result<TcpStream, Failure> {
    let addresses = lookup_host((&*target.host, target.port))
        .await
        .map_err(|error| Failure(Fault::Dns, error))?;
    let mut last = Failure(Fault::Dns, io::Error::other("the name has no address"));
    for address in addresses {
        match dial_address(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Failure(fault(&error), error),
        }
    }
    Err(last)
}

async fn dial_address(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a way through a proxy.
async fn tunnel(proxy: &Proxy, target: &Target) -> Result<TcpStream, Failure> {
    let through = |error| Failure(Fault::Proxy, error);
    let mut stream = dial(&proxy.target)
        .await
        .map_err(|Failure(_, error)| through(error))?;
    let request = Tunnel::request(proxy, target);
    stream.write_all(&request).await.map_err(through)?;
    let mut tunnel = Tunnel::new();
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        let count = stream.read_buf(&mut buffer).await.map_err(through)?;
        if count == 0 {
            return Err(through(io::ErrorKind::UnexpectedEof.into()));
        }
        match tunnel.push(buffer.split().freeze()) {
            Ok(Step::Item(())) => return Ok(stream),
            Ok(_) => buffer.reserve(1024),
            Err(fault) => {
                let error = io::Error::other("the proxy refuses, or does not speak its protocol");
                return Err(Failure(fault, error));
            }
        }
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
