//! All servers' tools, under the names that models see.
//!
//! A tool is offered as `bmcp_{server}_{tool}`, every character that providers do not allow in a
//! name replaced by an underscore, and cut to 64 bytes. So two tools may come to one name. None of
//! them is then offered: which one a model meant could not be told, and which one wins would depend
//! on who answered first.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{list::Tool, server::Server};

/// Longest name that all providers accept, in bytes.
const MAX_NAME: usize = 64;

/// A tool as it is offered.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name that models see.
    pub name: Arc<str>,
    /// Who runs it.
    pub server: Arc<Server>,
    /// The tool on its server.
    pub tool: Arc<Tool>,
}

/// Tools that come to one name, so that none of them is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The name.
    pub name: String,
    /// Server and tool, in order.
    pub tools: Vec<(Arc<str>, Arc<str>)>,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tools = self.tools.iter();
        let tools: Vec<_> = tools
            .map(|(server, tool)| format!("{tool:?} of {server}"))
            .collect();
        let Self { name, .. } = self;
        write!(f, "{} would all be {name}", tools.join(", "))
    }
}

/// What is offered: a snapshot, shared by whoever began with it.
///
/// In the order of the servers, within one by name: the order in which a server lists its tools may
/// change from one time to the next, and a prompt that changes is not found in a provider's cache.
///
/// ```
/// use std::sync::Arc;
/// use aibridge_core::{Target, mcp::{Catalog, Server, Tool}};
/// use bytes::Bytes;
///
/// let target = Target { host: "127.0.0.1".into(), port: 3001, tls: false };
/// let server = Arc::new(Server::new("coder", target, "/mcp"));
/// let tools = ["list.all", "create"].map(|name| {
///     Arc::new(Tool::new(name, "", Bytes::from_static(b"{}")))
/// });
/// let catalog = Catalog::new([(&server, &tools[..])]);
/// let names: Vec<&str> = catalog.entries().iter().map(|entry| &*entry.name).collect();
/// assert_eq!(names, ["bmcp_coder_create", "bmcp_coder_list_all"]);
/// assert_eq!(&*catalog.find("bmcp_coder_list_all").unwrap().tool.name, "list.all");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    by_name: BTreeMap<Arc<str>, usize>,
    clashes: Vec<Clash>,
}

impl Catalog {
    /// What these servers, with the tools they list, have to offer.
    pub fn new<'a>(lists: impl IntoIterator<Item = (&'a Arc<Server>, &'a [Arc<Tool>])>) -> Self {
        let mut entries = Vec::new();
        for (server, tools) in lists {
            let start = entries.len();
            let offered = tools.iter().filter(|tool| server.offers(&tool.name));
            entries.extend(offered.map(|tool| Entry {
                name: model_name(&server.name, &tool.name).into(),
                server: Arc::clone(server),
                tool: Arc::clone(tool),
            }));
            entries[start..].sort_by(|a, b| (&a.name, &a.tool.name).cmp(&(&b.name, &b.tool.name)));
        }
        let mut sharing = BTreeMap::new();
        for Entry { name, server, tool } in &entries {
            let tools: &mut Vec<_> = sharing.entry(Arc::clone(name)).or_default();
            tools.push((Arc::clone(&server.name), Arc::clone(&tool.name)));
        }
        sharing.retain(|_, tools| tools.len() > 1);
        entries.retain(|entry| !sharing.contains_key(&entry.name));
        let named = |(at, entry): (usize, &Entry)| (Arc::clone(&entry.name), at);
        let by_name = entries.iter().enumerate().map(named).collect();
        let clash = |(name, tools): (Arc<str>, _)| Clash {
            name: name.as_ref().to_owned(),
            tools,
        };
        Self {
            entries,
            by_name,
            clashes: sharing.into_iter().map(clash).collect(),
        }
    }

    /// What is offered, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tool of this name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).map(|at| &self.entries[*at])
    }

    /// What is not offered because it cannot be told apart, by name.
    pub fn clashes(&self) -> &[Clash] {
        &self.clashes
    }
}

/// The name of a server's tool for models.
fn model_name(server: &str, tool: &str) -> String {
    let mut name = format!("bmcp_{}_{}", sanitized(server), sanitized(tool));
    name.truncate(MAX_NAME); // all of it is ASCII
    name
}

fn sanitized(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

/// Why servers cannot be configured together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// A server has no name.
    Empty,
    /// A server's name leaves no room for its tools' names.
    Long(Arc<str>),
    /// The tools of these two could not be told apart.
    Same(Arc<str>, Arc<str>),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an MCP server has no name"),
            Self::Long(name) => {
                write!(f, "MCP server {name:?}: the name is too long for its tools")
            }
            Self::Same(a, b) if a == b => write!(f, "two MCP servers are named {a:?}"),
            Self::Same(a, b) => write!(
                f,
                "MCP servers {a:?} and {b:?}: their tools would have the same names"
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// Checks what is known of names before any server has been asked.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> Result<(), NameError> {
    let mut seen: BTreeMap<String, &Arc<str>> = BTreeMap::new();
    for name in names {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if model_name(name, "").len() == MAX_NAME {
            return Err(NameError::Long(Arc::clone(name)));
        }
        if let Some(other) = seen.insert(sanitized(name), name) {
            return Err(NameError::Same(Arc::clone(other), Arc::clone(name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{mcp::Pattern, target::Target};

    fn server(name: &str) -> Server {
        let target = Target {
            host: "h".into(),
            port: 1,
            tls: false,
        };
        Server::new(name, target, "/mcp")
    }

    fn tools(names: &[&str]) -> Vec<Arc<Tool>> {
        let tool = |name: &&str| Arc::new(Tool::new(name, "", Bytes::from_static(b"{}")));
        names.iter().map(tool).collect()
    }

    fn names(catalog: &Catalog) -> Vec<&str> {
        catalog.entries().iter().map(|e| &*e.name).collect()
    }

    #[test]
    fn names_are_sanitised_and_cut() {
        assert_eq!(model_name("a b", "x.y/z-é"), "bmcp_a_b_x_y_z-_");
        assert_eq!(model_name("s", &"t".repeat(100)).len(), 64);
    }

    #[test]
    fn order_does_not_depend_on_the_server() {
        let (a, b) = (Arc::new(server("b")), Arc::new(server("a")));
        let one = Catalog::new([(&a, &tools(&["z", "y"])[..]), (&b, &tools(&["x"]))]);
        let other = Catalog::new([(&a, &tools(&["y", "z"])[..]), (&b, &tools(&["x"]))]);
        assert_eq!(names(&one), ["bmcp_b_y", "bmcp_b_z", "bmcp_a_x"]);
        assert_eq!(names(&one), names(&other));
    }

    #[test]
    fn defect_21_tools_that_come_to_one_name_are_all_refused_and_named() {
        let (a, ab) = (Arc::new(server("a")), Arc::new(server("a_b")));
        let lists = [
            (&a, &tools(&["b_c", "d.e", "d/e", "ok"])[..]),
            (&ab, &tools(&["c"])[..]),
        ];
        let catalog = Catalog::new(lists);
        assert_eq!(names(&catalog), ["bmcp_a_ok"]);
        assert!(catalog.find("bmcp_a_b_c").is_none());
        let clashes: Vec<_> = catalog
            .clashes()
            .iter()
            .map(|c| (&*c.name, c.tools.len()))
            .collect();
        assert_eq!(clashes, [("bmcp_a_b_c", 2), ("bmcp_a_d_e", 2)]);
        assert_eq!(catalog.clashes()[0].tools[1], ("a_b".into(), "c".into()));
    }

    #[test]
    fn deny_wins_over_allow_and_both_see_the_tools_own_name() {
        let mut server = server("s");
        server.allow = Some(Pattern::new("^get_|^put_").unwrap());
        server.deny = Some(Pattern::new("secret").unwrap());
        let server = Arc::new(server);
        let tools = tools(&["get_a", "get_secret", "list", "put_b", "bmcp_s_get_x"]);
        let catalog = Catalog::new([(&server, &tools[..])]);
        assert_eq!(names(&catalog), ["bmcp_s_get_a", "bmcp_s_put_b"]);
    }

    #[test]
    fn servers_that_cannot_be_told_apart_are_found_at_load() {
        let check = |names: &[&str]| {
            let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
            check_names(&names)
        };
        assert_eq!(check(&["a", "b", "a-b"]), Ok(()));
        assert_eq!(
            check(&["a.b", "c", "a_b"]),
            Err(NameError::Same("a.b".into(), "a_b".into()))
        );
        assert_eq!(
            check(&["a", "a"]).unwrap_err().to_string(),
            r#"two MCP servers are named "a""#
        );
        assert_eq!(check(&[""]), Err(NameError::Empty));
        let long = "x".repeat(58);
        assert_eq!(check(&[&long]), Err(NameError::Long(long.as_str().into())));
        assert_eq!(check(&["x".repeat(57).as_str()]), Ok(()));
    }
}
