//! Secrets by reference: `"env:NAME"`, `"file:PATH"`, or the value itself.

use std::{env, fs, io, path::PathBuf};

use aibridge_core::{Secret, secret::Digest};
use zeroize::Zeroizing;

/// A secret and where it came from. Shown, it is its hint.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) secret: Secret,
    /// `env:NAME`, `file:PATH` or `literal`; for people.
    pub(crate) origin: String,
}

/// A token: a secret that is only ever compared, so that it need not be kept. Shown, it is its
/// hint.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) digest: Digest,
    pub(crate) hint: String,
    /// As of a [`Credential`].
    pub(crate) origin: String,
    /// It may be guessed.
    pub(crate) is_short: bool,
}

/// Characters of a token below which it is short.
pub(super) const SHORT: usize = 8;

impl From<Credential> for Token {
    fn from(Credential { secret, origin }: Credential) -> Self {
        Self {
            digest: secret.digest(),
            hint: secret.hint(),
            is_short: secret.expose().len() < SHORT,
            origin,
        }
    }
}

/// Where references are looked up. Values rather than the process's own environment, so that tests
/// can make one up.
pub(crate) struct Sources {
    /// An environment variable's value.
    pub(crate) env: Box<Lookup>,
    /// What relative paths are relative to: the configuration file's folder.
    pub(crate) folder: PathBuf,
}

/// Finds an environment variable's value.
type Lookup = dyn Fn(&str) -> Result<String, env::VarError>;

impl Sources {
    /// The process's environment, and this folder.
    pub(crate) fn of_process(folder: PathBuf) -> Self {
        Self {
            env: Box::new(|name| env::var(name)),
            folder,
        }
    }

    /// The secret that `reference` stands for. It is not blank and fits in a header.
    ///
    /// # Errors
    /// What is wrong, and the fix; never with the value.
    pub(super) fn secret(&self, reference: &str, what: &str) -> Result<Credential, String> {
        let (value, origin) = self.value(reference, what)?;
        credential(&value, origin)
    }

    /// The same for a header field's value, which may have spaces in it.
    ///
    /// # Errors
    /// As above.
    pub(super) fn field_value(&self, reference: &str, what: &str) -> Result<Credential, String> {
        let (value, origin) = self.value(reference, what)?;
        let secret = Secret::new(value.trim());
        if !secret.fits_header() {
            return Err(
                "has characters that cannot stand in a header field (control or non-ASCII characters), or none; check the value"
                    .to_owned(),
            );
        }
        Ok(Credential {
            secret,
            origin: origin.to_owned(),
        })
    }

    /// What a reference refers to, and how that is called.
    fn value<'a>(
        &self,
        reference: &'a str,
        what: &str,
    ) -> Result<(Zeroizing<String>, &'a str), String> {
        if let Some(name) = reference.strip_prefix("env:") {
            Ok((self.env_value(name, what)?, reference))
        } else if let Some(path) = reference.strip_prefix("file:") {
            Ok((self.file_value(path, what)?, reference))
        } else {
            Ok((reference.to_owned().into(), "literal"))
        }
    }

    fn env_value(&self, name: &str, what: &str) -> Result<Zeroizing<String>, String> {
        if name.is_empty() {
            return Err(format!(
                "names no environment variable; write \"env:NAME\" or remove {what}"
            ));
        }
        match (self.env)(name).map(Zeroizing::new) {
            Ok(value) if value.trim().is_empty() => Err(format!(
                "environment variable {name} is empty; set it or remove {what}"
            )),
            Ok(value) => Ok(value),
            Err(env::VarError::NotPresent) => Err(format!(
                "environment variable {name} is not set; set it or remove {what}"
            )),
            Err(env::VarError::NotUnicode(_)) => Err(format!(
                "environment variable {name} is not UTF-8 text; set it again"
            )),
        }
    }

    fn file_value(&self, path: &str, what: &str) -> Result<Zeroizing<String>, String> {
        if path.is_empty() {
            return Err(format!(
                "names no file; write \"file:PATH\" or remove {what}"
            ));
        }
        let path = self.folder.join(path);
        let shown = path.display();
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(value) if value.trim().is_empty() => Err(format!(
                "file {shown} is empty; write the secret into it or remove {what}"
            )),
            Ok(value) => Ok(value),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
                "file {shown} does not exist; create it or remove {what}"
            )),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(format!(
                "{shown} is a folder; name the file in it that has the secret"
            )),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(format!(
                "file {shown} is not UTF-8 text; write the secret into it as text"
            )),
            Err(error) => Err(format!(
                "file {shown} cannot be read ({error}); check its permissions"
            )),
        }
    }
}

/// Takes a value into custody, without the white space around it.
///
/// # Errors
/// It is blank or cannot stand in a header.
pub(super) fn credential(value: &str, origin: &str) -> Result<Credential, String> {
    let value = value.trim();
    if value.is_empty() {
        return Err("is empty; give a value, \"env:NAME\" or \"file:PATH\"".to_owned());
    }
    let secret = Secret::new(value);
    // White space within is legal in a header, but no credential has any: two secrets pasted as
    // one.
    if !secret.fits_header() || value.contains(char::is_whitespace) {
        return Err(
            "has characters that cannot stand in a credential (white space, control or non-ASCII characters); check the value"
                .to_owned(),
        );
    }
    Ok(Credential {
        secret,
        origin: origin.to_owned(),
    })
}
