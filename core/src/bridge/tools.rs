//! What calls and keepers tell each other of the MCP servers, and the tools these offer together.

use std::{collections::BTreeMap, mem, sync::Arc};

use crate::{
    interception::Toolbox,
    mcp::{KeeperEvent, NameError, News, Refused, Registry, Server, ServerState, Terms},
    record::ToolServer,
    time::Instant,
};

/// Words for one keeper beyond this many are dropped: it looks at everything anew every few
/// minutes.
const MAX_WORDS: usize = 64;

/// All servers, in configured order.
#[derive(Debug)]
pub(super) struct Tools {
    registry: Registry,
    toolbox: Arc<Toolbox>,
    /// What keepers have not been told yet. A word is for the keeper of this very server: what it
    /// says of a session is to reach no other of the same name.
    words: Vec<(Arc<Server>, KeeperEvent)>,
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
            words: Vec::new(),
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
        let before = mem::replace(&mut self.registry, registry);
        for known in before.servers() {
            if self.is_configured(&known.server) {
                continue;
            }
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
        mem::take(&mut self.unkept)
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

    /// Whether nobody can call this very server any more.
    fn is_gone(&mut self, server: &Arc<Server>) -> bool {
        !self.is_configured(server) && self.departed(server).is_none()
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
    pub(super) fn tell(&mut self, server: &Arc<Server>, word: KeeperEvent) {
        if self.is_gone(server) {
            return;
        }
        if let KeeperEvent::Renewed { stale, fresh } = &word {
            self.renew(server, stale, fresh);
        }
        let untold = self.words.iter().filter(|(of, _)| Arc::ptr_eq(of, server));
        let is_recheck = |word: &KeeperEvent| matches!(word, KeeperEvent::Recheck);
        if is_recheck(&word) && untold.clone().any(|(_, word)| is_recheck(word)) {
            return; // however many calls fail, it looks once
        }
        if untold.count() < MAX_WORDS {
            self.words.push((Arc::clone(server), word));
        }
    }

    fn renew(&mut self, server: &Arc<Server>, stale: &Terms, fresh: &Terms) {
        if self.is_configured(server) {
            return self.registry.renew(&server.name, stale, fresh.clone());
        }
        let departed = self.departed(server);
        if let Some(departed) = departed.filter(|it| it.terms.as_ref() == Some(stale)) {
            departed.terms = Some(fresh.clone());
        }
    }

    /// What a keeper has not been told yet. The keeper of a server that nobody can call any more is
    /// told to take leave.
    pub(super) fn words(&mut self, server: &Arc<Server>) -> Vec<KeeperEvent> {
        let (told, left): (Vec<_>, _) = mem::take(&mut self.words)
            .into_iter()
            .partition(|(of, _)| Arc::ptr_eq(of, server));
        self.words = left;
        let farewell = self.is_gone(server).then_some(KeeperEvent::Shutdown);
        let told = told.into_iter().map(|(_, word)| word);
        told.chain(farewell).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mcp::Version, target::Target};

    fn server(host: &str) -> Arc<Server> {
        let target = Target {
            host: host.into(),
            port: 80,
            tls: false,
        };
        Arc::new(Server::new("desk", target, "/mcp"))
    }

    fn terms(session: &str) -> Terms {
        Terms {
            version: Version::V20251125,
            session: Some(session.parse().unwrap()),
        }
    }

    /// A session lets in whoever has it.
    #[test]
    fn the_keeper_of_another_server_of_the_same_name_hears_nothing_of_a_session() {
        let (old, new) = (server("old.test"), server("new.test"));
        let mut tools = Tools::new(std::slice::from_ref(&old)).unwrap();
        let now = Instant::from_secs(1);
        tools.news(now, &old, News::Up(terms("s1")));
        let registry = tools.renewed(std::slice::from_ref(&new)).unwrap();
        tools.adopt(registry, 1);
        tools.news(now, &new, News::Up(terms("s1")));

        let renewed = || KeeperEvent::Renewed {
            stale: terms("s1"),
            fresh: terms("s2"),
        };
        tools.tell(&old, renewed());
        assert_eq!(tools.terms(&old), Some(terms("s2")));
        assert_eq!(tools.terms(&new), Some(terms("s1")));
        assert!(tools.words(&new).is_empty());
        let told = tools.words(&old);
        assert!(
            matches!(told[..], [KeeperEvent::Renewed { .. }]),
            "{told:?}"
        );
        assert!(tools.words(&old).is_empty());

        // What is left to be told when the last call is over comes before the farewell.
        tools.tell(&old, renewed());
        tools.forget_before(2);
        let told = tools.words(&old);
        assert!(matches!(
            told[..],
            [KeeperEvent::Renewed { .. }, KeeperEvent::Shutdown]
        ));
        tools.tell(&old, renewed());
        assert!(matches!(tools.words(&old)[..], [KeeperEvent::Shutdown]));
    }

    #[test]
    fn a_keeper_is_told_once_to_look_again_and_not_everything_for_ever() {
        let server = server("desk.test");
        let mut tools = Tools::new(std::slice::from_ref(&server)).unwrap();
        for _ in 0..100 {
            tools.tell(&server, KeeperEvent::Recheck);
        }
        assert_eq!(tools.words(&server).len(), 1);
        for _ in 0..100 {
            let (stale, fresh) = (terms("s1"), terms("s2"));
            tools.tell(&server, KeeperEvent::Renewed { stale, fresh });
        }
        assert_eq!(tools.words(&server).len(), MAX_WORDS);
    }
}
