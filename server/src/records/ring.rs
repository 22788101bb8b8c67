//! The latest interceptions, in memory: those that run, and a bounded number of those that ended.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use aibridge_core::{
    InterceptionId,
    api::Usage,
    record::{Attempt, Ended, Record, Started, TokenUsage, ToolUsage},
};

use crate::metrics::{Metrics, Series};

/// The longest text kept of what a client or a provider chose: a model may be called anything, at
/// any length.
const LONGEST_TEXT: usize = 256;
/// The most attempts, and the most tool calls, kept of one interception.
const MOST_PARTS: usize = 256;

/// One interception as far as it is known.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: InterceptionId,
    pub(super) started: Box<Started>,
    /// Where it is counted.
    series: Arc<Series>,
    pub(super) attempts: Vec<Attempt>,
    /// Summed over the turns.
    pub(super) usage: Usage,
    pub(super) tools: Vec<ToolUsage>,
    /// `None` while it runs.
    pub(super) ended: Option<Box<Ended>>,
}

/// Entries under ever growing numbers, in the order of their starts.
#[derive(Debug)]
pub(super) struct Ring {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    running: HashMap<InterceptionId, u64>,
    /// The numbers of those that ended, in the order of their ends.
    ended: VecDeque<u64>,
    /// How many of those are kept.
    capacity: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            next: 0,
            running: HashMap::new(),
            ended: VecDeque::new(),
            capacity,
        }
    }

    /// Takes a record, and has it counted. Returns the interception if this was its last.
    pub(super) fn keep(&mut self, record: Record, metrics: &Metrics) -> Option<&Entry> {
        match record {
            Record::Prompt(..) => metrics.prompt(),
            Record::Started(id, started) => self.start(id, started, metrics),
            Record::Attempt(id, attempt) => {
                let attempts = &mut self.running(id)?.attempts;
                if attempts.len() < MOST_PARTS {
                    attempts.push(attempt);
                }
            }
            Record::TokenUsage(id, TokenUsage { usage, .. }) => {
                let entry = self.running(id)?;
                entry.series.tokens(&entry.started.model, &usage);
                entry.usage.add(&usage);
                // Nobody is shown these, and a provider may report any number of them.
                entry.usage.extras.clear();
            }
            Record::ToolUsage(id, mut tool) => {
                let entry = self.running(id)?;
                entry.series.tool(&tool, metrics);
                let tools = &mut entry.tools;
                if tools.len() < MOST_PARTS {
                    tool.call.arguments = String::new();
                    shorten(&mut tool.call.id);
                    shorten(&mut tool.call.name);
                    tool.error.as_mut().map(shorten);
                    tools.push(tool);
                }
            }
            Record::Ended(id, ended) => return self.end(id, ended),
            // Thoughts are not kept; the others belong to no interception.
            _ => {}
        }
        None
    }

    /// All entries, the one that started last first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().rev()
    }

    /// Whether there are interceptions that it had and has no more.
    pub(super) fn has_forgotten(&self) -> bool {
        self.next > self.entries.len() as u64
    }

    fn start(&mut self, id: InterceptionId, mut started: Box<Started>, metrics: &Metrics) {
        let series = metrics.begin(&started.provider, started.api);
        started.session_id.as_mut().map(shorten);
        started.user_agent.as_mut().map(shorten);
        started.correlating_tool_call_id = None;
        if started.model.len() > LONGEST_TEXT {
            let mut model = started.model.to_string();
            shorten(&mut model);
            started.model = model.into();
        }
        let number = self.next;
        self.next += 1;
        self.running.insert(id, number);
        let entry = Entry {
            id,
            started,
            series,
            attempts: Vec::new(),
            usage: Usage::default(),
            tools: Vec::new(),
            ended: None,
        };
        self.entries.insert(number, entry);
    }

    fn running(&mut self, id: InterceptionId) -> Option<&mut Entry> {
        self.entries.get_mut(self.running.get(&id)?)
    }

    fn end(&mut self, id: InterceptionId, ended: Box<Ended>) -> Option<&Entry> {
        let number = self.running.remove(&id)?;
        self.ended.push_back(number);
        // The one that has just ended stays at least until the next: it is returned.
        if self.ended.len() > self.capacity.max(1)
            && let Some(oldest) = self.ended.pop_front()
        {
            self.entries.remove(&oldest);
        }
        let entry = self.entries.get_mut(&number)?;
        entry.series.end(&ended, entry.started.credential_kind);
        entry.ended = Some(ended);
        Some(entry)
    }
}

/// Cuts a text to what is kept, at a character's boundary.
fn shorten(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.shrink_to_fit();
    }
}
