//! `upstream_ca`: certificates that providers' own may be signed by.

use std::{fs, path::PathBuf};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use toml::Spanned;

use super::resolve::Check;

/// Certificates that upstreams may be signed by, besides the platform's.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) path: PathBuf,
    pub(crate) pem: Vec<u8>,
}

impl Check<'_, '_> {
    pub(super) fn authority(&mut self, written: &Spanned<String>) -> Option<Authority> {
        let path = self.sources.folder.join(written.get_ref());
        let read = fs::read(&path)
            .map_err(|error| format!("cannot be read ({error}); check the path"))
            .and_then(|pem| check(&pem).map(|()| pem));
        match read {
            Ok(pem) => Some(Authority { path, pem }),
            Err(what) => {
                let shown = path.display();
                self.problems.add(
                    written.span(),
                    format_args!("server: upstream_ca: {shown} {what}"),
                );
                None
            }
        }
    }
}

/// Whether all certificates in this text can be trusted: what is wrong with it, and the fix.
fn check(pem: &[u8]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let broken = |error: &dyn std::fmt::Display| {
            format!(
                "has a certificate in it that cannot be used (number {}: {error}); export it again, as PEM",
                index + 1
            )
        };
        let certificate = certificate.map_err(|error| broken(&error))?;
        store.add(certificate).map_err(|error| broken(&error))?;
    }
    if store.is_empty() {
        return Err("has no certificate in it; give a PEM file".to_owned());
    }
    Ok(())
}
