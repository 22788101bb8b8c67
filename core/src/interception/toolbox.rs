//! The tools on offer, as an interception is told of them.

use std::sync::Arc;

use crate::{api, mcp::Catalog};

/// A snapshot of all servers' tools, and each of them as it is put into requests. Shared: made when
/// a server's list changes, not when a request comes.
#[derive(Debug, Default)]
pub struct Toolbox {
    catalog: Arc<Catalog>,
    tools: Vec<api::Tool>,
}

impl Toolbox {
    /// The tools of this catalog. One whose schema cannot be put into a request is left out.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        let tools = catalog.entries().iter().filter_map(|entry| {
            let tool = &entry.tool;
            let description = Some(&*tool.description).filter(|text| !text.is_empty());
            let schema = str::from_utf8(&tool.schema).ok()?;
            api::Tool::new(entry.name.clone(), description, schema).ok()
        });
        let tools = tools.collect();
        Self { catalog, tools }
    }

    /// Who runs what.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The tools in the stable order in which they are offered.
    pub fn tools(&self) -> &[api::Tool] {
        &self.tools
    }
}
