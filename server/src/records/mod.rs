//! What becomes of the core's records: kept in memory for the admin endpoint, and a line in the log.
//!
//! Neither keeps a prompt, a thought or a tool's arguments: nothing here shows them.

mod ring;
#[cfg(test)]
mod tests;
mod view;

use std::sync::{Mutex, MutexGuard, PoisonError};

use aibridge_core::{
    keypool::{KeyState, Transition},
    record::{Passthrough, Record, ToolServer},
};
use tracing::{debug, info, warn};

use ring::Ring;
pub(crate) use view::Interception;
#[cfg(test)]
pub(crate) use view::{Attempt, Tool, Usage};

/// Keeps the latest interceptions, and logs.
#[derive(Debug)]
pub(crate) struct Recorder {
    ring: Mutex<Ring>,
}

impl Recorder {
    /// With room for this many ended interceptions.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            ring: Mutex::new(Ring::new(capacity)),
        }
    }

    /// Takes a record.
    pub(crate) fn keep(&self, record: Record) {
        match record {
            Record::KeyChanged {
                provider,
                transition,
                ..
            } => log_transition(&provider, &transition),
            Record::Passthrough(passthrough) => log_passthrough(&passthrough),
            Record::ToolServer(server) => log_tool_server(&server),
            Record::Warning(id, what) => warn!(id = %id, "{what}"),
            record => {
                let logged = tracing::enabled!(tracing::Level::INFO);
                // The lock is not held while the log is written: that may take its time.
                let ended = self
                    .ring()
                    .keep(record)
                    .filter(|_| logged)
                    .map(Interception::new);
                if let Some(ended) = ended {
                    log_ended(&ended);
                }
            }
        }
    }

    /// The newest interceptions first, running ones included.
    pub(crate) fn newest(&self, limit: usize) -> Vec<Interception> {
        self.ring()
            .newest()
            .take(limit)
            .map(Interception::new)
            .collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic while it was held leaves at worst one interception incomplete.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_ended(ended: &Interception) {
    info!(
        id = ended.id,
        provider = &*ended.provider,
        api = ended.api,
        model = &*ended.model,
        streaming = ended.streaming,
        actor = &*ended.actor,
        client = ended.client,
        status = ended.status,
        outcome = ended.outcome,
        error = ended.error,
        key = ended.credential_hint,
        attempts = ended.attempts.len(),
        input_tokens = ended.usage.input_tokens,
        output_tokens = ended.usage.output_tokens,
        first_byte_ms = ended.first_byte_ms,
        total_ms = ended.total_ms,
        "interception"
    );
}

fn log_transition(provider: &str, transition: &Transition) {
    let Transition {
        index, hint, to, ..
    } = transition;
    match to {
        KeyState::Valid => info!(provider, index, key = hint, "key is valid again"),
        KeyState::Temporary(until, reason) => warn!(
            provider,
            index,
            key = hint,
            reason = reason.as_str(),
            until = view::rfc3339(*until),
            "key cools down"
        ),
        KeyState::Permanent(reason) => {
            warn!(
                provider,
                index,
                key = hint,
                reason = reason.as_str(),
                "key is out of use until reset"
            );
        }
    }
}

fn log_tool_server(server: &ToolServer) {
    let ToolServer {
        name, tools, down, ..
    } = server;
    match down {
        None => info!(server = &**name, tools, "MCP server is up"),
        Some(why) => warn!(server = &**name, why, "MCP server cannot be used"),
    }
}

fn log_passthrough(passthrough: &Passthrough) {
    debug!(
        provider = &*passthrough.provider,
        status = passthrough.status,
        outcome = passthrough.outcome.as_str(),
        total_ms = view::millis(passthrough.total),
        "passthrough"
    );
}
