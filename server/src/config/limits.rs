//! How much there may be and how long things may take, for all clients together and for each.

use aibridge_core::{
    config::{Breaker, Capacity, Timeouts},
    http1::Limits,
};
use toml::Spanned;

use super::{raw, resolve::Check, units};

impl Check<'_, '_> {
    /// Bytes of a client's request body.
    pub(super) fn max_body(&mut self, raw: &mut raw::Server) -> u64 {
        self.quantity("server: max_body", raw.max_body.take(), units::size)
            .unwrap_or_else(|| Limits::default().body)
    }

    pub(super) fn capacity(&mut self, raw: &mut raw::Server, max_body: u64) -> Capacity {
        let default = Capacity::default();
        let span = raw.max_buffered.as_ref().map_or(0..0, Spanned::span);
        let connections = self.count("server: max_connections", raw.max_connections.take());
        let buffered = self.quantity("server: max_buffered", raw.max_buffered.take(), units::size);
        let buffered = buffered.unwrap_or(default.buffered);
        if buffered < max_body {
            let [held, body] = [buffered, max_body].map(units::show_size);
            self.problems.add(
                span,
                format_args!(
                    "server: max_buffered {held} is less than max_body {body}, so the largest requests could never be served; change one"
                ),
            );
        }
        Capacity {
            connections: connections.map_or(default.connections, |count| count as usize),
            buffered,
        }
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
            ("drain_timeout", &mut raw.drain_timeout, &mut timeouts.drain),
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
