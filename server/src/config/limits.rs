//! How much there may be and how long things may take, for all clients together and for each.

use aibridge_core::{
    Duration,
    config::{Breaker, Capacity, Timeouts, ToolLimits},
    http1::Limits,
};
use toml::Spanned;

use super::{DRAIN_TIMEOUT, error::span_of, raw, resolve::Check, units};

impl Check<'_, '_> {
    /// Bytes of a client's request body, and how much the bridge takes on at a time.
    pub(super) fn capacity(&mut self, raw: &mut raw::Server) -> (u64, Capacity) {
        let default = Capacity::default();
        let spans = [
            span_of(raw.max_buffered.as_ref()),
            span_of(raw.max_body.as_ref()),
        ];
        let max_body = self.quantity("server: max_body", raw.max_body.take(), units::size);
        let max_body = max_body.unwrap_or_else(|| Limits::default().body);
        let connections = self.count("server: max_connections", raw.max_connections.take());
        let buffered = self.quantity("server: max_buffered", raw.max_buffered.take(), units::size);
        let buffered = buffered.unwrap_or(default.buffered);
        if buffered < max_body {
            let [held, body] = [buffered, max_body].map(units::show_size);
            self.problems.add_together(
                &spans,
                format_args!(
                    "server: max_buffered {held} is less than max_body {body}, so the largest requests could never be served; change one"
                ),
            );
        }
        let capacity = Capacity {
            connections: connections.map_or(default.connections, |count| count as usize),
            buffered,
        };
        (max_body, capacity)
    }

    pub(super) fn timeouts(&mut self, raw: &mut raw::Server) -> Timeouts {
        let mut timeouts = Timeouts::default();
        for (key, written, timeout) in [
            (
                "header_timeout",
                &mut raw.header_timeout,
                &mut timeouts.header,
            ),
            ("idle_timeout", &mut raw.idle_timeout, &mut timeouts.idle),
            (
                "client_header_timeout",
                &mut raw.client_header_timeout,
                &mut timeouts.client_header,
            ),
            (
                "client_body_timeout",
                &mut raw.client_body_timeout,
                &mut timeouts.client_body,
            ),
            (
                "client_idle_timeout",
                &mut raw.client_idle_timeout,
                &mut timeouts.client_idle,
            ),
        ] {
            let read = self.quantity(&format!("server: {key}"), written.take(), units::duration);
            if let Some(value) = read {
                *timeout = value;
            }
        }
        timeouts
    }

    /// How long running interceptions have at a shutdown.
    pub(super) fn drain_timeout(&mut self, raw: &mut raw::Server) -> Duration {
        let written = raw.drain_timeout.take();
        self.quantity("server: drain_timeout", written, units::duration)
            .unwrap_or(DRAIN_TIMEOUT)
    }

    /// `[tools]`: how far the loop of turns and tools goes.
    pub(super) fn tool_limits(&mut self, written: raw::Tools) -> ToolLimits {
        let default = ToolLimits::default();
        let turns = self.count("tools: max_turns", written.max_turns);
        let call = self.quantity("tools: call_timeout", written.call_timeout, units::duration);
        let whole = self.quantity("tools: loop_timeout", written.loop_timeout, units::duration);
        let result = self.quantity("tools: max_result", written.max_result, units::size);
        let result = result.and_then(|bytes| usize::try_from(bytes).ok());
        ToolLimits {
            turns: turns.unwrap_or(default.turns),
            call: call.unwrap_or(default.call),
            whole: whole.unwrap_or(default.whole),
            result: result.unwrap_or(default.result),
        }
    }

    /// A whole number above zero.
    pub(super) fn count(&mut self, key: &str, written: Option<Spanned<i64>>) -> Option<u32> {
        let written = written?;
        let count = u32::try_from(*written.get_ref())
            .ok()
            .filter(|count| *count > 0);
        if count.is_none() {
            self.problems.add(
                written.span(),
                format_args!("{key}: must be a whole number from 1; remove it for the default"),
            );
        }
        count
    }

    /// `[provider.circuit]`: on by being there.
    pub(super) fn breaker(&mut self, written: raw::Circuit, what: &str) -> Breaker {
        let default = Breaker::default();
        let failures = self.count(&format!("{what}: failures"), written.failures);
        let half_open = self.count(&format!("{what}: half_open"), written.half_open);
        let open = self.quantity(&format!("{what}: open"), written.open, units::duration);
        Breaker {
            failures: failures.unwrap_or(default.failures),
            open: open.unwrap_or(default.open),
            half_open: half_open.unwrap_or(default.half_open),
        }
    }
}
