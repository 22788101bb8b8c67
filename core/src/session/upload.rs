//! From a request's head to its body: admission, whose request it is, and how much of it may be
//! held.
//!
//! ```text
//!             admitted, no limit to it                 body complete
//!  Admitting ────────────────────────▶ Body ─────────────────────────▶ Running
//!      │                                ▲ │ ▲
//!      └─── limited ──▶ Entering ───────┘ └─┘ may more be held?
//! ```
//!
//! Whatever a request is refused for, it is refused in its API's shape, and before its body is
//! read: a body that nobody reads ends the connection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Asked, Session, flow::Flow, running::ReplyTo};
use crate::{
    api::ApiError,
    bridge::{Endpoint, Query, Refused, Ticket},
    config::Config,
    http1::{BodyLength, RequestHead, server::Encoder},
    interception::{Intake, Refusal, Route},
    time::Instant,
};

/// What is reserved for a body before any of it is here, in bytes at most: a declared length costs
/// the client nothing.
pub(super) const FIRST_RESERVE: u64 = 64 << 10;

/// A request whose body is on its way.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) intake: Result<Intake, Refusal>,
    pub(super) config: Arc<Config>,
    pub(super) reply: ReplyTo,
    /// The body's length as far as the client has said it, in bytes. Within the limit.
    declared: u64,
    pub(super) body: BytesMut,
    /// The client waits to be told to send the body.
    expects: bool,
    /// The bridge has been asked whether more of the body may be held.
    pub(super) asked: bool,
    /// How much of the body was there when its clock was last set.
    pub(super) clocked: Option<usize>,
}

impl Upload {
    /// As the question to the bridge, where there is a limit for this client or this provider.
    fn question(&self, ticket: Ticket) -> Option<Query> {
        let intake = self.intake.as_ref().ok()?;
        let mut clients = self.config.clients.iter();
        let is_limited = clients.any(|c| c.is_limited() && c.name == *intake.actor());
        let provider = intake.provider();
        let endpoint = match intake.route() {
            Route::Bridged(api) => Endpoint::Api(api),
            Route::Passthrough => Endpoint::Passthrough,
        };
        let circuit = provider.breaker.map(|_| (Arc::clone(provider), endpoint));
        if !is_limited && circuit.is_none() {
            return None;
        }
        Some(Query::Enter {
            ticket,
            client: is_limited.then(|| Arc::clone(intake.actor())),
            circuit,
        })
    }
}

impl Session {
    /// The bridge has said whether the request may begin.
    pub(super) fn admitted(
        &mut self,
        now: Instant,
        admitted: Result<(Arc<Config>, Ticket), Refused>,
    ) {
        let refused = match admitted {
            Ok((config, ticket)) => {
                self.client.adopt(&config);
                self.config = config;
                self.ticket = Some(ticket);
                None
            }
            Err(refused) => Some(refused),
        };
        if !matches!(self.flow, Flow::Admitting(_)) {
            return self.leave(); // the client has left meanwhile
        }
        let Flow::Admitting(head) = std::mem::replace(&mut self.flow, Flow::Head) else {
            return;
        };
        let RequestHead {
            method,
            target,
            version,
            headers,
            length,
            keep_alive,
            expect_continue,
        } = *head;
        let mut reply = ReplyTo {
            method: method.clone(),
            version,
            keep_alive,
        };
        let config = Arc::clone(&self.config);
        let mut intake = Intake::new(&config, method, &target, headers);
        if let Some(refused) = refused {
            reply.keep_alive &= !self.crowded && !matches!(refused, Refused::Draining(_));
            let refusal = Refusal::new(None, error_of(&refused));
            intake = Err(match &intake {
                Ok(intake) => refusal.by(Some(intake.provider())),
                Err(earlier) => refusal.like(earlier),
            });
        }
        let declared = declared(length);
        if declared > config.limits.body
            && let Ok(accepted) = &intake
        {
            let error = ApiError::too_large(config.limits.body);
            intake = Err(Refusal::new(None, error).by(Some(accepted.provider())));
        }
        let upload = Box::new(Upload {
            intake,
            config,
            reply,
            declared,
            body: BytesMut::new(),
            expects: expect_continue,
            asked: false,
            clocked: None,
        });
        if let Some(query) = self.ticket.and_then(|ticket| upload.question(ticket)) {
            self.flow = Flow::Entering(upload);
            return self.ask(Asked::Enter, query);
        }
        self.receive(now, upload);
    }

    /// The bridge has said whether there is room for the request.
    pub(super) fn entered(&mut self, now: Instant, granted: Result<(), Refused>) {
        if !matches!(self.flow, Flow::Entering(_)) {
            return; // the client has left meanwhile
        }
        let Flow::Entering(mut upload) = std::mem::replace(&mut self.flow, Flow::Head) else {
            return;
        };
        if let (Err(refused), Ok(intake)) = (granted, &upload.intake) {
            let refusal = Refusal::new(None, error_of(&refused));
            upload.intake = Err(refusal.by(Some(intake.provider())));
        }
        self.receive(now, upload);
    }

    /// Reads the body of a request, if it is worth it.
    fn receive(&mut self, now: Instant, mut upload: Box<Upload>) {
        if upload.declared > 0 {
            upload.intake = match upload.intake {
                // Nobody reads that body, so the connection cannot go on after it.
                Err(refusal) => return self.refuse(now, refusal, &upload.reply.last()),
                intake => intake,
            };
        }
        if upload.expects {
            self.client.send(now, Encoder::proceed(), &mut self.out);
        }
        let reserve = usize::try_from(upload.declared.min(FIRST_RESERVE)).unwrap_or(0);
        upload.body.reserve(reserve);
        self.flow = Flow::Body(upload);
        self.read_client(now);
    }

    /// Some of the body. Copied out of the read buffer, which would else be held for as long as
    /// upstream thinks.
    pub(super) fn collect(&mut self, now: Instant, bytes: &Bytes) {
        let Flow::Body(upload) = &mut self.flow else {
            return;
        };
        let limit = upload.config.limits.body;
        let len = upload.body.len() + bytes.len();
        if len as u64 > limit {
            return self.turn_away(now, ApiError::too_large(limit));
        }
        let grows = len > upload.body.capacity();
        if grows {
            // It has sent as much as it was trusted with, so it means what it declared.
            let rest = upload.declared.saturating_sub(upload.body.len() as u64);
            upload
                .body
                .reserve(usize::try_from(rest).unwrap_or(0).max(bytes.len()));
        }
        upload.body.extend_from_slice(bytes);
        if let Some(ticket) = self.ticket.filter(|_| grows) {
            upload.asked = true;
            let bytes = upload.body.capacity() as u64;
            self.ask(Asked::Hold, Query::Hold { ticket, bytes });
        }
    }

    /// The bridge has said whether so many bytes may be held.
    pub(super) fn held(&mut self, now: Instant, granted: Result<(), Refused>) {
        let Flow::Body(upload) = &mut self.flow else {
            return; // the client has left
        };
        upload.asked = false;
        match granted {
            Ok(()) => self.read_client(now),
            Err(refused) => self.turn_away(now, error_of(&refused)),
        }
    }

    /// The request is over, for the bridge too.
    pub(super) fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.ask(Asked::Told, Query::Release(ticket));
        }
    }
}

/// The body's length as far as the head says it, in bytes.
pub(super) const fn declared(length: BodyLength) -> u64 {
    match length {
        BodyLength::Known(declared) => declared,
        BodyLength::Chunked | BodyLength::UntilClose => 1,
    }
}

fn error_of(refused: &Refused) -> ApiError {
    match *refused {
        Refused::Busy(wait) => ApiError::busy(wait),
        Refused::ClientBusy { limit, retry_after } => ApiError::client_busy(limit, retry_after),
        Refused::ClientTooFast { limit, retry_after } => {
            ApiError::client_too_fast(limit, retry_after)
        }
        Refused::Draining(wait) => ApiError::draining(wait),
        Refused::Failing(wait) => ApiError::provider_failing(wait),
        Refused::Unrecorded(wait) => ApiError::unrecorded(wait),
    }
}
