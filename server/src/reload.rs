//! Another configuration while the bridge runs: SIGHUP and `POST /reload`.
//!
//! All of it or nothing. What cannot change while the bridge runs (where it listens, where it
//! records) must be as it was, and the reason says so if it is not.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use aibridge_core::Duration;
use tracing::{info, warn};

use crate::{
    access::Access,
    admin::Admin,
    bridge::Running,
    config::{Overrides, Settings},
    records::Recorder,
};

/// What it takes to read the configuration again.
pub(crate) struct Reloader {
    path: Option<PathBuf>,
    overrides: Overrides,
    running: Arc<Running>,
    recorder: Arc<Recorder>,
    admin: Mutex<Weak<Admin>>,
    /// What is in force. Held by a reload from its beginning to its end: one at a time.
    settings: Mutex<Settings>,
    /// What of it must be known also while a reload hangs.
    drain_timeout: Mutex<Duration>,
}

impl Reloader {
    pub(crate) fn new(
        path: Option<PathBuf>,
        overrides: Overrides,
        running: Arc<Running>,
        recorder: Arc<Recorder>,
        settings: Settings,
    ) -> Self {
        Self {
            path,
            overrides,
            running,
            recorder,
            admin: Mutex::default(),
            drain_timeout: Mutex::new(settings.drain_timeout),
            settings: Mutex::new(settings),
        }
    }

    /// Who is told of a changed admin token.
    pub(crate) fn tell(&self, admin: &Arc<Admin>) {
        *lock(&self.admin) = Arc::downgrade(admin);
    }

    /// Reads the configuration again, secrets included, and puts it in force. Blocks on files.
    ///
    /// # Errors
    /// Why the one in force stays.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let mut settings = lock(&self.settings);
        let outcome = self.replace(&mut settings);
        self.recorder.metrics().reloaded(outcome.is_ok());
        match &outcome {
            Ok(()) => info!(from = settings.origin, "configuration reloaded"),
            Err(why) => warn!(%why, "reload refused; the configuration in force stays"),
        }
        outcome
    }

    fn replace(&self, settings: &mut Settings) -> Result<(), String> {
        let path = self.path.as_deref();
        let new = Settings::load(path, self.overrides).map_err(|error| error.to_string())?;
        if let Some(fixed) = settings.fixed_against(&new) {
            return Err(format!(
                "{}: {fixed} cannot change while the bridge runs; restart it, or put back what was there",
                new.origin
            ));
        }
        self.running
            .reload(new.core())
            .map_err(|error| format!("{}: {error}", new.origin))?;
        for (old, new) in [
            (&settings.tls, &new.tls),
            (&settings.admin_tls, &new.admin_tls),
        ] {
            if let (Some(old), Some(new)) = (old, new) {
                old.identity.renew(&new.identity);
            }
        }
        if let Some(admin) = lock(&self.admin).upgrade() {
            admin.set_access(access(&new));
        }
        for warning in &new.warnings {
            warn!("{warning}");
        }
        *lock(&self.drain_timeout) = new.drain_timeout;
        settings.replace(new);
        Ok(())
    }

    /// How long running interceptions have at a shutdown.
    pub(crate) fn drain_timeout(&self) -> Duration {
        *lock(&self.drain_timeout)
    }

    /// Who may ask the admin listener.
    pub(crate) fn access(&self) -> Access {
        access(&lock(&self.settings))
    }
}

/// What is behind these locks is put in place whole: a panic leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn access(settings: &Settings) -> Access {
    let token = settings.admin_token.as_ref();
    let token = token.map(|token| token.digest);
    Access::new(token, settings.admin_hosts.clone())
}
