//! What is known of the MCP servers, and the tools they offer together.

use std::sync::Arc;

use crate::{
    interception::Toolbox,
    mcp::{Catalog, Failure, KeeperEvent, News, Refused, Server, Terms, Tool},
    record::ToolServer,
    time::Instant,
};

/// Words for a keeper beyond this many are dropped: it looks at everything anew every few minutes.
const MAX_WORDS: usize = 64;

/// All servers, in configured order.
#[derive(Debug, Default)]
pub(super) struct Tools {
    servers: Vec<Kept>,
    toolbox: Arc<Toolbox>,
}

#[derive(Debug)]
struct Kept {
    server: Arc<Server>,
    status: ServerStatus,
    terms: Option<Terms>,
    tools: Arc<[Arc<Tool>]>,
    refused: Vec<Refused>,
    /// What its keeper has not been told yet.
    words: Vec<KeeperEvent>,
}

/// Whether an MCP server can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// Nothing has been heard of it yet.
    Connecting,
    /// It cannot.
    Down {
        /// Why.
        why: Failure,
        /// When it is tried again.
        retry_at: Instant,
    },
    /// It can.
    Up,
}

/// An MCP server as an administrator sees it.
#[derive(Clone, Debug)]
pub struct ServerTools {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it can be used.
    pub status: ServerStatus,
    /// Its tools that are offered: the name that models see, and the one on the server.
    pub offered: Vec<(Arc<str>, Arc<str>)>,
    /// Tools that it listed and that are not offered, and why.
    pub refused: Vec<Refused>,
    /// Names that several tools would have, so that none of them is offered.
    pub clashes: Vec<String>,
}

impl Tools {
    pub(super) fn new(servers: &[Arc<Server>]) -> Self {
        let kept = |server: &Arc<Server>| Kept {
            server: Arc::clone(server),
            status: ServerStatus::Connecting,
            terms: None,
            tools: Arc::default(),
            refused: Vec::new(),
            words: Vec::new(),
        };
        Self {
            servers: servers.iter().map(kept).collect(),
            toolbox: Arc::default(),
        }
    }

    pub(super) const fn toolbox(&self) -> &Arc<Toolbox> {
        &self.toolbox
    }

    /// The terms of a server that can be used.
    pub(super) fn terms(&self, server: &str) -> Option<Terms> {
        let kept = self
            .servers
            .iter()
            .find(|kept| *kept.server.name == *server)?;
        kept.terms.clone()
    }

    /// Takes what a keeper found out; gives what there is to record.
    pub(super) fn news(&mut self, now: Instant, server: &str, news: News) -> Option<ToolServer> {
        let kept = self.kept(server)?;
        let mut down = None;
        match news {
            News::Down { why, retry_at } => {
                down = Some(why.to_string());
                let was_down = matches!(kept.status, ServerStatus::Down { .. });
                kept.terms = None;
                kept.status = ServerStatus::Down { why, retry_at };
                if was_down {
                    return None; // each further attempt is no news
                }
            }
            News::Tools { tools, refused } => {
                kept.tools = tools;
                kept.refused = refused;
                self.collect();
                return None; // `Up` follows, or has been there before
            }
            News::Up(terms) => {
                kept.terms = Some(terms);
                kept.status = ServerStatus::Up;
            }
        }
        let entries = self.toolbox.catalog().entries().iter();
        Some(ToolServer {
            name: server.into(),
            tools: entries
                .filter(|entry| *entry.server.name == *server)
                .count(),
            down,
            at: now,
        })
    }

    /// Leaves word for a keeper. What calls must know at once, they know.
    pub(super) fn tell(&mut self, server: &str, word: KeeperEvent) {
        let Some(kept) = self.kept(server) else {
            return;
        };
        if let KeeperEvent::Renewed { stale, fresh } = &word
            && kept.terms.as_ref() == Some(stale)
        {
            kept.terms = Some(fresh.clone());
        }
        if kept.words.len() < MAX_WORDS {
            kept.words.push(word);
        }
    }

    /// What a keeper has not been told yet.
    pub(super) fn words(&mut self, server: &str) -> Vec<KeeperEvent> {
        self.kept(server)
            .map(|kept| std::mem::take(&mut kept.words))
            .unwrap_or_default()
    }

    pub(super) fn statuses(&self) -> Vec<ServerTools> {
        let catalog = self.toolbox.catalog();
        let status = |kept: &Kept| {
            let name = &kept.server.name;
            let offered = catalog
                .entries()
                .iter()
                .filter(|entry| entry.server.name == *name);
            let offered =
                offered.map(|entry| (Arc::clone(&entry.name), Arc::clone(&entry.tool.name)));
            let clashes = catalog.clashes().iter();
            let clashes =
                clashes.filter(|clash| clash.tools.iter().any(|(server, _)| server == name));
            ServerTools {
                name: Arc::clone(name),
                status: kept.status.clone(),
                offered: offered.collect(),
                refused: kept.refused.clone(),
                clashes: clashes.map(|clash| clash.name.clone()).collect(),
            }
        };
        self.servers.iter().map(status).collect()
    }

    fn kept(&mut self, server: &str) -> Option<&mut Kept> {
        self.servers
            .iter_mut()
            .find(|kept| *kept.server.name == *server)
    }

    /// Makes the toolbox anew.
    fn collect(&mut self) {
        let lists = self
            .servers
            .iter()
            .map(|kept| (&kept.server, &kept.tools[..]));
        self.toolbox = Arc::new(Toolbox::new(Catalog::new(lists)));
    }
}
