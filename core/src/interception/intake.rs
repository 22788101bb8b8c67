//! What is settled about a request by its head alone: where it goes, who sent it, whose key it
//! uses.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{ALLOW, CONTENT_TYPE, HOST, RETRY_AFTER, UPGRADE},
};

use super::{
    Reply,
    caller::{self, Caller},
    headers,
    route::{self, Found, Route},
};
use crate::{
    api::{ApiError, Vendor},
    config::{Config, Provider},
    id::InterceptionId,
    record::{Reason, Record, TurnedAway},
    time::{Instant, whole_seconds},
};

/// A request whose head has been accepted. [`Session`](crate::Session) makes one before it reads
/// the body, so that nobody uploads 30 MiB to be told 401.
#[derive(Debug)]
pub struct Intake {
    pub(super) provider: Arc<Provider>,
    pub(super) route: Route,
    pub(super) method: Method,
    pub(super) path: Arc<str>,
    pub(super) headers: HeaderMap,
    pub(super) caller: Caller,
}

impl Intake {
    /// Looks at a request's head.
    ///
    /// # Errors
    /// No such route, or the caller may not use it.
    pub fn new(
        config: &Config,
        method: Method,
        target: &Uri,
        headers: HeaderMap,
    ) -> Result<Self, Refusal> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let upgrade = headers
            .get(UPGRADE)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let Found {
            provider,
            route,
            path,
        } = route::find(config, &method, target, host, upgrade).map_err(|refusal| {
            let named = route::named(config, target);
            // A stranger is not told which routes there are.
            let stranger = named
                .and_then(|provider| caller::authenticate(config, provider.vendor, &headers).err());
            let refusal = stranger.map_or(refusal, |error| Refusal::new(None, error));
            refusal.by(named)
        })?;
        let caller = caller::identify(config, &provider, &headers)
            .map_err(|error| Refusal::new(None, error).by(Some(&provider)))?;
        Ok(Self {
            provider,
            route,
            method,
            path,
            headers,
            caller,
        })
    }

    /// Whose error shape the request's client understands.
    pub fn vendor(&self) -> Vendor {
        self.provider.vendor
    }

    /// The provider that is asked.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// What is asked of it.
    pub fn route(&self) -> Route {
        self.route
    }

    /// Who asks: a client's name, or `local`.
    pub fn actor(&self) -> &Arc<str> {
        &self.caller.actor
    }
}

/// A request that is answered with an error before anything is done for it.
#[derive(Debug)]
pub struct Refusal {
    pub(super) vendor: Option<Vendor>,
    /// The provider that was asked, as far as that is known.
    provider: Option<Arc<str>>,
    pub(super) error: ApiError,
    /// The methods that would have been right.
    allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal in this vendor's error shape, or in the general one.
    pub const fn new(vendor: Option<Vendor>, error: ApiError) -> Self {
        Self {
            vendor,
            provider: None,
            error,
            allow: None,
        }
    }

    /// The route is there, but only for these methods.
    pub(super) fn wrong_method(vendor: Vendor, allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(Some(vendor), ApiError::method_not_allowed())
        }
    }

    /// The same, of a request to this provider: the error comes in the shape of its vendor.
    #[must_use]
    pub fn by(self, provider: Option<&Provider>) -> Self {
        match provider {
            None => self,
            Some(provider) => Self {
                vendor: Some(provider.vendor),
                provider: Some(Arc::clone(&provider.name)),
                ..self
            },
        }
    }

    /// The same, to who was refused already for another reason.
    #[must_use]
    pub(crate) fn like(self, other: &Self) -> Self {
        Self {
            vendor: other.vendor,
            provider: other.provider.clone(),
            ..self
        }
    }

    /// What there is to record of it; `id` is the one that the reply gets.
    pub fn record(&self, now: Instant, id: InterceptionId) -> Record {
        let turned_away = TurnedAway {
            provider: self.provider.clone(),
            status: self.error.status.as_u16(),
            reason: reason(self.error.status),
            message: self.error.message.clone(),
            at: now,
        };
        Record::TurnedAway(id, Box::new(turned_away))
    }

    /// The answer: its head, and its whole body.
    pub fn into_reply(self, id: InterceptionId) -> (Reply, Bytes) {
        let body = self.error.body(self.vendor.unwrap_or(Vendor::OpenAi), id);
        let mut fields = HeaderMap::with_capacity(4);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.error.retry_after {
            fields.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(allow) = self.allow {
            fields.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.error.status == StatusCode::UPGRADE_REQUIRED {
            fields.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        }
        headers::tag(&mut fields, id);
        let length = Some(body.len() as u64);
        (
            Reply {
                status: self.error.status,
                headers: fields,
                length,
            },
            body,
        )
    }
}

/// Why a request was turned away that is answered with this status.
const fn reason(status: StatusCode) -> Reason {
    match status.as_u16() {
        401 => Reason::Unauthenticated,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::Method,
        408 => Reason::TooSlow,
        413 | 414 | 431 => Reason::TooLarge,
        426 => Reason::Upgrade,
        429 | 503 => Reason::Limit,
        501 | 505 => Reason::Unsupported,
        _ => Reason::Malformed,
    }
}
