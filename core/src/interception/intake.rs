//! What is settled about a request by its head alone: where it goes, who sent it, whose key it uses.

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
};

/// A request whose head has been accepted. [`Session`](crate::Session) makes one before it reads the body, so that nobody
/// uploads 30 MiB to be told 401.
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
        } = route::find(config, &method, target, host, upgrade).map_err(|refused| Refusal {
            vendor: refused.vendor,
            error: refused.error,
            allow: refused.allow,
        })?;
        let caller = caller::identify(config, &provider, &headers)
            .map_err(|error| Refusal::new(Some(provider.vendor), error))?;
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
    vendor: Option<Vendor>,
    error: ApiError,
    allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal in this vendor's error shape, or in the general one.
    pub const fn new(vendor: Option<Vendor>, error: ApiError) -> Self {
        Self {
            vendor,
            error,
            allow: None,
        }
    }

    /// Whose error shape the request's client understands; `None` where its route tells nothing of
    /// that.
    pub const fn vendor(&self) -> Option<Vendor> {
        self.vendor
    }

    /// The answer: its head, and its whole body.
    pub fn into_reply(self, id: InterceptionId) -> (Reply, Bytes) {
        let body = self.error.body(self.vendor.unwrap_or(Vendor::OpenAi), id);
        let mut fields = HeaderMap::with_capacity(4);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.error.retry_after {
            // Rounded up: a client that comes back early would be refused again.
            let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            fields.insert(RETRY_AFTER, HeaderValue::from(secs));
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
