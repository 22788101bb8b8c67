//! The bridge, running: the one place that knows the adapter.

use std::{fmt, io, sync::Arc};

use aibridge_core::{
    Instant, bridge::ProviderKeys, config::Config, keypool::KeyStatus, record::Record,
};
use tokio::net::TcpListener;

use crate::{admin, records::Recorder};

pub(crate) trait Sink: Send + Sync + fmt::Debug {
    fn keep(&self, record: Record);
}

impl Sink for Recorder {
    fn keep(&self, record: Record) {
        Self::keep(self, record);
    }
}

pub(crate) struct Running {}

impl Running {
    pub(crate) fn start(
        config: Config,
        listener: TcpListener,
        sink: Arc<dyn Sink>,
        upstream_ca: Option<&[u8]>,
    ) -> io::Result<Self> {
        todo!("{config:?} {listener:?} {sink:?} {upstream_ca:?}")
    }

    pub(crate) async fn drain(&self) {
        todo!()
    }
}

impl admin::Keys for Running {
    fn now(&self) -> Instant {
        todo!()
    }

    fn keys(&self, now: Instant) -> Vec<ProviderKeys> {
        todo!("{now:?}")
    }

    fn reset(&self, now: Instant, provider: &str, index: usize) -> Option<KeyStatus> {
        todo!("{now:?} {provider} {index}")
    }
}
