//! Whom we trust.

use std::{fmt, sync::Arc};

use aibridge_core::session;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tracing::warn;

/// The authorities that upstreams' certificates may be signed by.
///
/// By default those of the platform, read when the server is built.
#[derive(Clone, Debug)]
pub struct Roots {
    platform: bool,
    extra: Vec<CertificateDer<'static>>,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            platform: true,
            extra: Vec::new(),
        }
    }
}

impl Roots {
    /// No authority but those added.
    pub const fn none() -> Self {
        Self {
            platform: false,
            extra: Vec::new(),
        }
    }

    /// The same, and the certificates in this PEM text.
    ///
    /// # Errors
    /// There is no certificate in it, or a broken one.
    pub fn with_pem(mut self, pem: &[u8]) -> Result<Self, InvalidPem> {
        let before = self.extra.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.extra.push(certificate.map_err(|_| InvalidPem)?);
        }
        if self.extra.len() == before {
            return Err(InvalidPem);
        }
        Ok(self)
    }

    pub(crate) fn client_config(self) -> Result<ClientConfig, rustls::Error> {
        let mut store = RootCertStore::empty();
        if self.platform {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                warn!(%error, "some of the platform's certificates cannot be read");
            }
            let (_, broken) = store.add_parsable_certificates(found.certs);
            if broken > 0 {
                warn!(broken, "some of the platform's certificates cannot be used");
            }
        }
        for certificate in self.extra {
            store.add(certificate)?;
        }
        if store.is_empty() {
            warn!(
                "no trusted certificates on this machine: upstreams with TLS will not be reached"
            );
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![session::ALPN.to_vec()];
        Ok(config)
    }
}

/// A PEM text without a usable certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPem;

impl fmt::Display for InvalidPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no valid certificate in PEM form")
    }
}

impl std::error::Error for InvalidPem {}
