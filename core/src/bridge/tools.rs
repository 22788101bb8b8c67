//! What calls and keepers tell each other of the MCP servers, and the tools these offer together.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    interception::Toolbox,
    mcp::{KeeperEvent, NameError, News, Refused, Registry, Server, ServerState, Terms},
    record::ToolServer,
    time::Instant,
};

/// Words for a keeper beyond this many are dropped: it looks at everything anew every few minutes.
const MAX_WORDS: usize = 64;

/// All servers, in configured order.
#[derive(Debug)]
pub(super) struct Tools {
    registry: Registry,
    toolbox: Arc<Toolbox>,
    /// What keepers have not been told yet, by server.
    words: BTreeMap<Arc<str>, Vec<KeeperEvent>>,
}

/// An MCP server as an administrator sees it.
#[derive(Clone, Debug)]
pub struct ServerTools {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it can be used.
    pub state: ServerState,
    /// Its tools that are offered: the name that models see, and the one on the server.
    pub offered: Vec<(Arc<str>, Arc<str>)>,
    /// Tools that it listed and that are not offered, and why.
    pub refused: Vec<Refused>,
    /// Names that several tools would have, so that none of them is offered.
    pub clashes: Vec<String>,
}

impl Tools {
    pub(super) fn new(servers: &[Arc<Server>]) -> Result<Self, NameError> {
        Ok(Self {
            registry: Registry::new(servers.iter().cloned())?,
            toolbox: Arc::default(),
            words: BTreeMap::new(),
        })
    }

    pub(super) const fn toolbox(&self) -> &Arc<Toolbox> {
        &self.toolbox
    }

    /// On which terms a server is spoken to; none if it has never been up.
    pub(super) fn terms(&self, server: &str) -> Option<Terms> {
        self.registry.terms(server).ok()
    }

    /// Takes what a keeper found out; gives what there is to record.
    pub(super) fn news(
        &mut self,
        now: Instant,
        server: &Arc<str>,
        news: News,
    ) -> Option<ToolServer> {
        let state = |registry: &Registry| {
            let mut servers = registry.servers().iter();
            let known = servers.find(|known| known.server.name == *server);
            known.map(|known| known.state.clone())
        };
        let before = state(&self.registry);
        let is_list = matches!(news, News::Tools { .. });
        self.registry.update(server, news);
        if is_list {
            self.toolbox = Arc::new(Toolbox::new(self.registry.catalog()));
        }
        let down = match (before?, state(&self.registry)?) {
            // Each further attempt to reach it is no news. Of the first list it is told when the server is up.
            (ServerState::Down { .. }, ServerState::Down { .. }) | (_, ServerState::Connecting) => {
                return None;
            }
            (_, ServerState::Down { why, .. }) => Some(why.to_string()),
            (_, ServerState::Up) => None,
        };
        Some(ToolServer {
            name: Arc::clone(server),
            tools: self.offered(server).count(),
            down,
            at: now,
        })
    }

    /// Leaves word for a keeper. What calls must know at once, they know.
    pub(super) fn tell(&mut self, server: Arc<str>, word: KeeperEvent) {
        if let KeeperEvent::Renewed { stale, fresh } = &word {
            self.registry.renew(&server, stale, fresh.clone());
        }
        let words = self.words.entry(server).or_default();
        if words.len() < MAX_WORDS {
            words.push(word);
        }
    }

    /// What a keeper has not been told yet.
    pub(super) fn words(&mut self, server: &str) -> Vec<KeeperEvent> {
        self.words.remove(server).unwrap_or_default()
    }

    pub(super) fn statuses(&self) -> Vec<ServerTools> {
        let clashes = self.toolbox.catalog().clashes();
        let known = self.registry.servers().iter();
        let status = known.map(|known| {
            let name = &known.server.name;
            let clashes = clashes
                .iter()
                .filter(|clash| clash.tools.iter().any(|(server, _)| server == name));
            ServerTools {
                name: Arc::clone(name),
                state: known.state.clone(),
                offered: self.offered(name).collect(),
                refused: known.refused.clone(),
                clashes: clashes.map(|clash| clash.name.clone()).collect(),
            }
        });
        status.collect()
    }

    /// The tools of a server that are offered: the name that models see, and the one on the server.
    fn offered(&self, server: &str) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
        let entries = self.toolbox.catalog().entries().iter();
        entries
            .filter(move |entry| *entry.server.name == *server)
            .map(|entry| (Arc::clone(&entry.name), Arc::clone(&entry.tool.name)))
    }
}
