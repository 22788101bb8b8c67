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
    /// What servers list and what is not offered, each with why, that has not been told yet.
    left_out: BTreeMap<Arc<str>, Vec<String>>,
    /// Servers that have no keeper yet.
    unkept: Vec<Arc<Server>>,
    /// Servers that a reload took out and that requests from before it may still call.
    departed: Vec<Departed>,
}

/// A server that is not configured any more.
#[derive(Debug)]
struct Departed {
    /// The last configuration that had it.
    epoch: u64,
    server: Arc<Server>,
    terms: Option<Terms>,
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
            left_out: BTreeMap::new(),
            unkept: servers.to_vec(),
            departed: Vec::new(),
        })
    }

    /// What comes after this when other servers are configured: the registry, to be put in force
    /// with [`adopt`](Self::adopt).
    pub(super) fn renewed(&self, servers: &[Arc<Server>]) -> Result<Registry, NameError> {
        self.registry.renewed(servers.iter().cloned())
    }

    /// From now on these servers. `epoch` is the configuration that ends.
    pub(super) fn adopt(&mut self, registry: Registry, epoch: u64) {
        let before = std::mem::replace(&mut self.registry, registry);
        for known in before.servers() {
            if self.is_configured(&known.server) {
                continue;
            }
            self.words.remove(&known.server.name);
            self.left_out.remove(&known.server.name);
            self.unkept
                .retain(|server| !Arc::ptr_eq(server, &known.server));
            self.departed.push(Departed {
                epoch,
                server: Arc::clone(&known.server),
                terms: known.terms.clone(),
            });
        }
        let had = |server: &Arc<Server>| {
            let mut known = before.servers().iter();
            known.any(|known| Arc::ptr_eq(&known.server, server))
        };
        let new = self.registry.servers().iter().map(|known| &known.server);
        self.unkept.extend(new.filter(|new| !had(new)).cloned());
        self.toolbox = Arc::new(Toolbox::new(self.registry.catalog()));
    }

    /// No request from before the configuration `oldest` runs any more: what only those could call
    /// may go.
    pub(super) fn forget_before(&mut self, oldest: u64) {
        self.departed.retain(|departed| departed.epoch >= oldest);
    }

    /// Servers that have no keeper yet. Now they are the caller's to keep.
    pub(super) fn take_unkept(&mut self) -> Vec<Arc<Server>> {
        std::mem::take(&mut self.unkept)
    }

    /// Whether this very server is configured, not just one of its name.
    fn is_configured(&self, server: &Arc<Server>) -> bool {
        let mut known = self.registry.servers().iter();
        known.any(|known| Arc::ptr_eq(&known.server, server))
    }

    fn departed(&mut self, server: &Arc<Server>) -> Option<&mut Departed> {
        let mut departed = self.departed.iter_mut();
        departed.find(|departed| Arc::ptr_eq(&departed.server, server))
    }

    pub(super) const fn toolbox(&self) -> &Arc<Toolbox> {
        &self.toolbox
    }

    /// On which terms a server is spoken to; none if it has never been up.
    pub(super) fn terms(&mut self, server: &Arc<Server>) -> Option<Terms> {
        if self.is_configured(server) {
            return self.registry.terms(&server.name).ok();
        }
        self.departed(server)?.terms.clone()
    }

    /// Takes what a keeper found out; gives what there is to record.
    pub(super) fn news(
        &mut self,
        now: Instant,
        server: &Arc<Server>,
        news: News,
    ) -> Option<ToolServer> {
        if !self.is_configured(server) {
            if let (Some(departed), News::Up(terms)) = (self.departed(server), news) {
                departed.terms = Some(terms);
            }
            return None;
        }
        let server = &server.name;
        let state = |registry: &Registry| {
            let mut servers = registry.servers().iter();
            let known = servers.find(|known| known.server.name == *server);
            known.map(|known| known.state.clone())
        };
        let before = state(&self.registry);
        if matches!(news, News::Tools { .. }) {
            self.list(server, news);
        } else {
            self.registry.update(server, news);
        }
        let down = match (before?, state(&self.registry)?) {
            // Each further attempt to reach it is no news. Of the first list it is told when the
            // server is up.
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
            left_out: self.left_out.remove(server).unwrap_or_default(),
            at: now,
        })
    }

    /// Takes a server's list, and notes what of it is newly left out: it would be lost without a
    /// word.
    fn list(&mut self, server: &Arc<str>, news: News) {
        let refused = |registry: &Registry| {
            let mut servers = registry.servers().iter();
            let known = servers.find(|known| known.server.name == *server);
            known.map_or_else(Vec::new, |known| known.refused.clone())
        };
        let (refused_before, catalog) = (refused(&self.registry), self.registry.catalog());
        let clashes = self.registry.update(server, news).unwrap_or_default();
        let new = clashes.iter().filter(|it| !catalog.clashes().contains(it));
        let mut left_out: Vec<_> = new.map(ToString::to_string).collect();
        let refused = refused(&self.registry);
        let new = refused.iter().filter(|it| !refused_before.contains(it));
        left_out.extend(new.map(ToString::to_string));
        if !left_out.is_empty() {
            let untold = self.left_out.entry(Arc::clone(server)).or_default();
            untold.extend(left_out);
        }
        self.toolbox = Arc::new(Toolbox::new(self.registry.catalog()));
    }

    /// Leaves word for a keeper. What calls must know at once, they know.
    pub(super) fn tell(&mut self, server: Arc<str>, word: KeeperEvent) {
        if let KeeperEvent::Renewed { stale, fresh } = &word {
            self.registry.renew(&server, stale, fresh.clone());
            let mut departed = self.departed.iter_mut();
            let same =
                |d: &&mut Departed| d.server.name == server && d.terms.as_ref() == Some(stale);
            if let Some(departed) = departed.find(same) {
                departed.terms = Some(fresh.clone());
            }
        }
        let mut known = self.registry.servers().iter();
        if !known.any(|known| known.server.name == server) {
            return;
        }
        let words = self.words.entry(server).or_default();
        let is_recheck = |word: &KeeperEvent| matches!(word, KeeperEvent::Recheck);
        if is_recheck(&word) && words.iter().any(is_recheck) {
            return; // however many calls fail, it looks once
        }
        if words.len() < MAX_WORDS {
            words.push(word);
        }
    }

    /// What a keeper has not been told yet. The keeper of a server that nobody can call any more is
    /// told to take leave.
    pub(super) fn words(&mut self, server: &Arc<Server>) -> Vec<KeeperEvent> {
        if self.is_configured(server) {
            return self.words.remove(&server.name).unwrap_or_default();
        }
        match self.departed(server) {
            Some(_) => Vec::new(),
            None => vec![KeeperEvent::Shutdown],
        }
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
