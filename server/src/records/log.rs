//! What the log is told of records: a line per interception, and one per change of a key or an MCP
//! server.
//!
//! A line has names, numbers and words of fixed sets. It never has a prompt, a thought, a tool's
//! arguments or an upstream's error message, which may quote any of them; for that there is the
//! store, and a line has the id to find it by.

use aibridge_core::{
    InterceptionId,
    keypool::{KeyState, Transition},
    record::{Passthrough, Reason, ToolServer, TurnedAway},
};
use tracing::{debug, info, warn};

use super::view::{self, Interception};

pub(super) fn ended(ended: &Interception) {
    info!(
        id = ended.id,
        provider = &*ended.provider,
        api = &*ended.api,
        model = &*ended.model,
        streaming = ended.streaming,
        actor = &*ended.actor,
        client = &*ended.client,
        status = ended.status,
        outcome = ended.outcome.as_deref(),
        key = ended.credential_hint,
        attempts = ended.attempts.len(),
        turns = ended.turns,
        input_tokens = ended.usage.input_tokens,
        output_tokens = ended.usage.output_tokens,
        cache_read_tokens = ended.usage.cache_read_tokens,
        cache_write_tokens = ended.usage.cache_write_tokens,
        first_byte_ms = ended.first_byte_ms,
        total_ms = ended.total_ms,
        "interception"
    );
}

pub(super) fn transition(provider: &str, transition: &Transition) {
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

pub(super) fn tool_server(server: &ToolServer) {
    let ToolServer {
        name,
        tools,
        down,
        left_out,
        ..
    } = server;
    match down {
        None => info!(server = &**name, tools, "MCP server is up"),
        Some(why) => warn!(server = &**name, why, "MCP server cannot be used"),
    }
    for what in left_out {
        warn!(server = &**name, what, "MCP tools are not offered");
    }
}

/// Who is not let in is for an operator to see: it may be somebody who guesses.
pub(super) fn turned_away(id: InterceptionId, turned_away: &TurnedAway) {
    let TurnedAway {
        provider,
        status,
        reason,
        message: why,
        ..
    } = turned_away;
    let (provider, reason_shown) = (provider.as_deref(), reason.as_str());
    match reason {
        Reason::Forbidden | Reason::Unauthenticated => {
            info!(%id, provider, status, reason = reason_shown, why, "request refused");
        }
        _ => debug!(%id, provider, status, reason = reason_shown, why, "request refused"),
    }
}

pub(super) fn passthrough(passthrough: &Passthrough) {
    debug!(
        id = %passthrough.id,
        provider = &*passthrough.provider,
        status = passthrough.status,
        outcome = passthrough.outcome.as_str(),
        total_ms = view::millis(passthrough.total),
        "passthrough"
    );
}
