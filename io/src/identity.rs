//! Who a listener says it is to clients that come with TLS.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    task::Poll,
    time::{Duration, Instant},
};

use aibridge_core::{Fault, session};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tracing::debug;

use crate::{connect::Connecting, runtime::Runtime, stream::Stream, tls::Tls};

/// How long a client may take over its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A certificate and its key, for a listener with TLS.
///
/// Clones are one identity: what [`renew`](Self::renew) does to one it does to all, so that a
/// certificate can be replaced while connections are open.
#[derive(Clone)]
pub struct Identity(Arc<RwLock<Arc<ServerConfig>>>);

impl Identity {
    /// The certificates of a PEM text, our own first, and the private key of another: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// There is none in it, or they do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, InvalidIdentity> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| InvalidIdentity::Certificate)?;
        if chain.is_empty() {
            return Err(InvalidIdentity::Certificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidIdentity::Key)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(InvalidIdentity::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => InvalidIdentity::Mismatch,
            error => InvalidIdentity::Unusable(error),
        })?;
        config.alpn_protocols = vec![session::ALPN.to_vec()];
        Ok(Self(Arc::new(RwLock::new(Arc::new(config)))))
    }

    /// Puts another in its place. Connections that are open go on with what they began with.
    pub fn renew(&self, other: &Self) {
        let renewed = other.config();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = renewed;
    }

    /// What is in force, for a listener of another kind.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A client's connection, which is there once both have shaken hands, or in ten seconds at
    /// most.
    pub(crate) fn accepting<R: Runtime>(&self, runtime: &R, stream: R::Stream) -> Connecting<R> {
        let config = self.config();
        let mut patience = runtime.sleep_until(Instant::now() + HANDSHAKE);
        Box::pin(async move {
            let mut shaking = pin!(shake_hands(stream, config));
            let shaken = poll_fn(|context| match shaking.as_mut().poll(context) {
                Poll::Pending => R::poll_sleep(&mut patience, context)
                    .map(|()| Err(io::ErrorKind::TimedOut.into())),
                ready @ Poll::Ready(_) => ready,
            });
            shaken.await.map_err(|error| {
                debug!(%error, "a client's TLS handshake failed");
                Fault::Tls
            })
        })
    }
}

async fn shake_hands<R: Runtime>(
    stream: R::Stream,
    config: Arc<ServerConfig>,
) -> io::Result<Stream<R>> {
    let mut tls = Tls::server(stream, config)?;
    tls.shake_hands().await?;
    Ok(Stream::Tls(Box::new(tls)))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// Why PEM texts make no [`Identity`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum InvalidIdentity {
    /// There is no certificate, or a broken one.
    Certificate,
    /// There is no private key, or a broken one, or one under a password.
    Key,
    /// The key is that of another certificate.
    Mismatch,
    /// TLS cannot be set up with them.
    Unusable(rustls::Error),
}

impl fmt::Display for InvalidIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate => f.write_str("no valid certificate in PEM form"),
            Self::Key => f.write_str("no valid private key in PEM form"),
            Self::Mismatch => f.write_str("the key is not that of the certificate"),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InvalidIdentity {}
