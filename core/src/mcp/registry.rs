//! What is known of all servers, in one place.
//!
//! Keepers' news and calls' renewals come in; a catalog to offer and terms to call on go out, both
//! as values that stay valid for whoever took them. A server that is down keeps its tools and its
//! terms: they are what it will most likely have when it is back, a prompt that stays the same
//! stays in the provider's cache, and a call says best what is wrong.

use std::sync::Arc;

use super::{
    catalog::{Catalog, Clash, NameError, check_names},
    failure::Failure,
    list::{Refused, Tool},
    news::News,
    server::Server,
    terms::Terms,
};
use crate::time::Instant;

/// All configured servers, and what has been found out of them.
///
/// ```
/// use std::sync::Arc;
/// use aibridge_core::{Target, mcp::{News, Registry, Server, ServerState, Terms, Tool, Version}};
/// use bytes::Bytes;
///
/// let target = Target { host: "127.0.0.1".into(), port: 3001, tls: false };
/// let mut registry = Registry::new([Arc::new(Server::new("coder", target, "/mcp"))])?;
/// assert!(!registry.is_ready());
///
/// let tool = Tool::new("list", "Lists.", Bytes::from_static(b"{}"));
/// registry.update("coder", News::Tools { tools: Arc::new([Arc::new(tool)]), refused: vec![] });
/// registry.update("coder", News::Up(Terms { version: Version::V20260728, session: None }));
/// assert!(registry.is_ready());
///
/// let catalog = registry.catalog();
/// let entry = catalog.find("bmcp_coder_list").unwrap();
/// assert_eq!(registry.terms(&entry.server.name).unwrap().version, Version::V20260728);
/// # Ok::<(), aibridge_core::mcp::NameError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    servers: Vec<KnownServer>,
    catalog: Arc<Catalog>,
}

/// One server, and what has been found out of it.
#[derive(Clone, Debug)]
pub struct KnownServer {
    /// The server.
    pub server: Arc<Server>,
    /// Whether it can be used.
    pub state: ServerState,
    /// The terms it was last up on.
    pub terms: Option<Terms>,
    /// The tools it last listed, whether offered or not.
    pub tools: Arc<[Arc<Tool>]>,
    /// What it listed that cannot be offered.
    pub refused: Vec<Refused>,
}

/// Whether a server can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It has not answered yet, nor failed to.
    Connecting,
    /// It cannot be.
    Down {
        /// Why.
        why: Failure,
        /// When it is tried again.
        retry_at: Instant,
    },
    /// It can be.
    Up,
}

impl ServerState {
    /// As in metrics and where an administrator sees it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Down { .. } => "down",
            Self::Up => "up",
        }
    }
}

impl Registry {
    /// Servers of which nothing is known yet; their order is that of the tools.
    ///
    /// # Errors
    /// Their tools could not be told apart by name.
    pub fn new(servers: impl IntoIterator<Item = Arc<Server>>) -> Result<Self, NameError> {
        Self::default().renewed(servers)
    }

    /// The registry that comes after this one, with other servers. Of those that stay exactly as
    /// they were, what is known stays known; of others, nothing is.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn renewed(
        &self,
        servers: impl IntoIterator<Item = Arc<Server>>,
    ) -> Result<Self, NameError> {
        let known = |server| {
            let before = self.servers.iter().find(|known| known.server == server);
            before.cloned().unwrap_or_else(|| KnownServer {
                server,
                state: ServerState::Connecting,
                terms: None,
                tools: Arc::default(),
                refused: Vec::new(),
            })
        };
        let servers: Vec<KnownServer> = servers.into_iter().map(known).collect();
        check_names(servers.iter().map(|known| &known.server.name))?;
        let catalog = Catalog::new(servers.iter().map(|k| (&k.server, &*k.tools)));
        Ok(Self {
            servers,
            catalog: Arc::new(catalog),
        })
    }

    /// A keeper has found out something. Says what cannot be offered, where that is others than
    /// before: an error of the configuration that only a server's list could show.
    pub fn update(&mut self, server: &str, news: News) -> Option<&[Clash]> {
        let known = self.known_mut(server)?;
        match news {
            News::Down { why, retry_at } => known.state = ServerState::Down { why, retry_at },
            News::Up(terms) => {
                known.state = ServerState::Up;
                known.terms = Some(terms);
            }
            News::Tools { tools, refused } => {
                known.tools = tools;
                known.refused = refused;
                let lists = self.servers.iter().map(|k| (&k.server, &*k.tools));
                let before = std::mem::replace(&mut self.catalog, Arc::new(Catalog::new(lists)));
                let clashes = self.catalog.clashes();
                return (clashes != before.clashes()).then_some(clashes);
            }
        }
        None
    }

    /// A call has renewed a session: the next call begins in the new one.
    pub fn renew(&mut self, server: &str, stale: &Terms, fresh: Terms) {
        if let Some(known) = self.known_mut(server)
            && known.terms.as_ref() == Some(stale)
        {
            known.terms = Some(fresh);
        }
    }

    /// What is offered now.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// On which terms a server is called.
    ///
    /// # Errors
    /// [`Failure::Down`], where it has never been up.
    pub fn terms(&self, server: &str) -> Result<Terms, Failure> {
        let known = self.servers.iter().find(|k| *k.server.name == *server);
        known.and_then(|k| k.terms.clone()).ok_or(Failure::Down)
    }

    /// All servers, in the configured order.
    pub fn servers(&self) -> &[KnownServer] {
        &self.servers
    }

    /// Whether each server is up.
    pub fn is_ready(&self) -> bool {
        self.servers.iter().all(|k| k.state == ServerState::Up)
    }

    fn known_mut(&mut self, server: &str) -> Option<&mut KnownServer> {
        self.servers
            .iter_mut()
            .find(|known| *known.server.name == *server)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{fault::Fault, mcp::Version, target::Target};

    fn registry(names: &[&str]) -> Registry {
        let target = Target {
            host: "h".into(),
            port: 1,
            tls: false,
        };
        let server = |name: &&str| Arc::new(Server::new(name, target.clone(), "/mcp"));
        Registry::new(names.iter().map(server)).unwrap()
    }

    fn tools(names: &[&str]) -> News {
        let tool = |name: &&str| Arc::new(Tool::new(name, "", Bytes::from_static(b"{}")));
        News::Tools {
            tools: names.iter().map(tool).collect(),
            refused: Vec::new(),
        }
    }

    fn terms(session: &str) -> Terms {
        Terms {
            version: Version::V20251125,
            session: Some(session.parse().unwrap()),
        }
    }

    #[test]
    fn a_server_that_goes_down_keeps_its_tools_and_terms() {
        let mut registry = registry(&["a"]);
        assert_eq!(registry.terms("a"), Err(Failure::Down));
        registry.update("a", tools(&["x"]));
        registry.update("a", News::Up(terms("s1")));
        let why = Failure::Fault(Fault::Refused);
        let retry_at = Instant::EPOCH;
        registry.update("a", News::Down { why, retry_at });
        assert!(!registry.is_ready());
        assert_eq!(registry.terms("a"), Ok(terms("s1")));
        assert_eq!(registry.catalog().entries().len(), 1);
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut registry = registry(&["a"]);
        registry.update("a", tools(&["x"]));
        let before = registry.catalog();
        registry.update("a", tools(&["y"]));
        assert!(before.find("bmcp_a_x").is_some());
        assert!(registry.catalog().find("bmcp_a_x").is_none());
    }

    #[test]
    fn a_clash_that_a_list_brings_is_told_once() {
        let mut registry = registry(&["a", "a_b"]);
        assert_eq!(registry.update("a", tools(&["b_c", "d"])), None);
        let clashes = registry.update("a_b", tools(&["c"])).unwrap();
        assert_eq!(clashes[0].name, "bmcp_a_b_c");
        assert_eq!(registry.update("a_b", tools(&["c"])), None);
        assert_eq!(registry.update("a_b", tools(&[])), Some(&[][..]));
        assert_eq!(registry.catalog().entries().len(), 2);
    }

    #[test]
    fn only_the_current_session_is_renewed() {
        let mut registry = registry(&["a"]);
        registry.update("a", News::Up(terms("s1")));
        registry.renew("a", &terms("s1"), terms("s2"));
        registry.renew("a", &terms("s1"), terms("s3"));
        assert_eq!(registry.terms("a"), Ok(terms("s2")));
    }
}
