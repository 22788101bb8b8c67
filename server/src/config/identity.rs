//! `tls` and `admin_tls`: the certificates that our own listeners show.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toml::Spanned;

use super::{raw, resolve::Check};
use crate::bridge::{Identity, InvalidIdentity};

/// A listener's certificate and key.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) identity: Identity,
}

impl Check<'_, '_> {
    pub(super) fn tls(&mut self, name: &str, written: Option<Spanned<raw::Tls>>) -> Option<Tls> {
        let written = written?.into_inner();
        let cert = self.sources.folder.join(written.cert.get_ref());
        let key = self.sources.folder.join(written.key.get_ref());
        let cert_pem = self.pem(name, "cert", &written.cert, &cert);
        let key_pem = self.pem(name, "key", &written.key, &key);
        let (cert_pem, key_pem) = (cert_pem?, key_pem?);
        let wrong = match Identity::from_pem(&cert_pem, &key_pem) {
            Ok(identity) => {
                return Some(Tls {
                    cert,
                    key,
                    identity,
                });
            }
            Err(wrong) => wrong,
        };
        let (cert, key) = (cert.display(), key.display());
        let (span, what) = match wrong {
            InvalidIdentity::Certificate => (
                written.cert.span(),
                format!(
                    "cert: {cert} has no valid certificate in it; give a PEM file, our own certificate first"
                ),
            ),
            InvalidIdentity::Key => (
                written.key.span(),
                format!(
                    "key: {key} has no valid private key in it; give a PEM file without a password"
                ),
            ),
            InvalidIdentity::Mismatch => (
                written.key.span(),
                format!("key: {key} is not the key of {cert}; give the one it was made with"),
            ),
            other => (
                written.cert.span(),
                format!("cert: {cert} cannot be used ({other}); give another certificate"),
            ),
        };
        self.problems
            .add(span, format_args!("server: {name}: {what}"));
        None
    }

    fn pem(
        &mut self,
        name: &str,
        key: &str,
        written: &Spanned<String>,
        path: &Path,
    ) -> Option<Vec<u8>> {
        fs::read(path)
            .map_err(|error| {
                let shown = path.display();
                let fix = match error.kind() {
                    io::ErrorKind::PermissionDenied => "let the bridge's user read it",
                    _ => "check the path",
                };
                self.problems.add(
                    written.span(),
                    format_args!("server: {name}: {key}: {shown} cannot be read ({error}); {fix}"),
                );
            })
            .ok()
    }
}
