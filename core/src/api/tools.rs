//! Tools that the bridge offers to the model beside the client's own, and how they get into a
//! request.
//!
//! A tool is rendered for all three APIs once, when its server has listed it, so that a request
//! costs no more than copying. A tool's schema is passed on as it is, `$defs`,
//! `additionalProperties` and all, but for two things that providers refuse: an empty `required`,
//! and (OpenAI's) an object schema without `properties`.

use std::{collections::BTreeSet, fmt, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    api::{
        Api, Inspected, Vendor,
        edits::{Edits, quoted},
        read,
        request::ToolsSlot,
    },
    json::{self, Kind, Scanner},
};

/// A tool as the model sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Tool(Arc<Rendered>);

#[derive(PartialEq, Eq)]
struct Rendered {
    name: Arc<str>,
    chat_completions: String,
    messages: String,
    responses: String,
}

impl Tool {
    /// A tool of this name. `schema` is MCP's `inputSchema`, as JSON text.
    ///
    /// # Errors
    /// The schema is no JSON object.
    pub fn new(
        name: impl Into<Arc<str>>,
        description: Option<&str>,
        schema: &str,
    ) -> Result<Self, json::Error> {
        let name = name.into();
        let mut head = format!("\"name\":{}", quoted(&name));
        if let Some(description) = description {
            head += ",\"description\":";
            head += &quoted(description);
        }
        let anthropic = schema_for(Vendor::Anthropic, schema)?;
        let open_ai = schema_for(Vendor::OpenAi, schema)?;
        Ok(Self(Arc::new(Rendered {
            name,
            chat_completions: format!(
                "{{\"type\":\"function\",\"function\":{{{head},\"parameters\":{open_ai},\"strict\":false}}}}"
            ),
            messages: format!("{{{head},\"input_schema\":{anthropic},\"type\":\"custom\"}}"),
            responses: format!(
                "{{\"type\":\"function\",{head},\"parameters\":{open_ai},\"strict\":false}}"
            ),
        })))
    }

    /// The name that the model knows it by.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn rendered(&self, api: Api) -> &str {
        match api {
            Api::ChatCompletions => &self.0.chat_completions,
            Api::Messages => &self.0.messages,
            Api::Responses => &self.0.responses,
        }
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tool({:?})", self.name())
    }
}

/// The schema as a vendor takes it.
fn schema_for(vendor: Vendor, schema: &str) -> Result<String, json::Error> {
    let text = schema.as_bytes();
    let mut scan = Scanner::new(text)?;
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut doomed = None;
    let mut has_properties = false;
    let mut is_object = false;
    scan.object()?;
    let first = scan.position();
    loop {
        let before = scan.position();
        let Some(name) = scan.key()? else { break };
        match &*name.decode() {
            "required" if scan.kind()? == Kind::Array => {
                scan.array()?;
                let mut is_empty = true;
                while scan.element()? {
                    is_empty = false;
                    scan.skip()?;
                }
                doomed = is_empty.then_some(spans.len());
            }
            "properties" => {
                has_properties = true;
                scan.skip()?;
            }
            "type" => is_object = scan.string_or_skip()?.is_some_and(|kind| kind.is("object")),
            _ => read::skip(&mut scan)?,
        }
        spans.push(before..scan.position());
    }
    scan.end()?;
    let mut edits = Edits::default();
    if vendor == Vendor::OpenAi && is_object && !has_properties {
        edits.insert(first, "\"properties\":{},");
    }
    edits.cut(text, &spans, |nth| Some(nth) != doomed);
    let text = edits.apply(text);
    // Cut from a string at the borders of its members.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A request with tools in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The body to send upstream.
    pub body: Bytes,
    /// Names of the tools that were put in, in order; empty where none could be.
    pub names: Vec<Arc<str>>,
    /// Names of those that were not, because the client has tools of these names. They are the
    /// client's.
    pub shadowed: Vec<Arc<str>>,
}

/// Puts tools into a request beside the client's own, and asks for one call at a time; and does
/// what [`prepare`](super::prepare) does. All other bytes stay. `inspected` is what
/// [`inspect`](super::inspect) said of this body.
///
/// Nothing is put in where there is no tool to put in, where `tools` is no array, or where more
/// than one choice is asked for: choices cannot be continued one by one. The body is then what
/// `prepare` makes of it.
///
/// ```
/// use aibridge_core::api::{self, Api, Tool};
/// use bytes::Bytes;
///
/// let body = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
/// let inspected = api::inspect(Api::Messages, &body).unwrap();
/// let tool = Tool::new("bmcp_clock_now", Some("Tells the time."), r#"{"type":"object"}"#).unwrap();
/// let injected = api::inject(Api::Messages, body, &inspected, &[tool]);
/// assert_eq!(
///     injected.body,
///     concat!(
///         r#"{"tools":[{"name":"bmcp_clock_now","description":"Tells the time.","#,
///         r#""input_schema":{"type":"object"},"type":"custom"}],"#,
///         r#""tool_choice":{"type":"auto","disable_parallel_tool_use":true},"model":"m","messages":[]}"#,
///     )
/// );
/// ```
pub fn inject(api: Api, body: Bytes, inspected: &Inspected, tools: &[Tool]) -> Injected {
    let own = shadowed(&body, inspected, tools);
    let (shadowed, offered): (Vec<_>, Vec<_>) =
        tools.iter().partition(|tool| own.contains(&**tool.name()));
    let slots = &inspected.slots;
    let is_possible = slots.tools != ToolsSlot::Odd && !slots.many_choices;
    let names_of = |tools: &[&Tool]| tools.iter().map(|tool| tool.name().clone()).collect();
    let shadowed = names_of(&shadowed);
    if offered.is_empty() || !is_possible {
        return Injected {
            body: inspected.apply(body),
            names: Vec::new(),
            shadowed,
        };
    }
    let mut edits = Edits::default();
    put_tools(api, inspected, &offered, &mut edits);
    match api {
        Api::Messages => disable_parallel_tool_use(&body, inspected, &mut edits),
        Api::ChatCompletions | Api::Responses => match &slots.parallel_tool_calls {
            Some(range) => edits.replace(range.clone(), "false"),
            None => edits.insert(slots.first_member, "\"parallel_tool_calls\":false,"),
        },
    }
    if let Some((range, text)) = &inspected.edit {
        edits.replace(range.clone(), *text);
    }
    Injected {
        body: edits.apply(&body),
        names: names_of(&offered),
        shadowed,
    }
}

/// Names of tools that the client has given to tools of its own. A tool has its name under `name`,
/// in the Chat Completions API within `function` or `custom`.
fn shadowed<'a>(body: &[u8], inspected: &Inspected, tools: &'a [Tool]) -> BTreeSet<&'a str> {
    let mut shadowed = BTreeSet::new();
    let ToolsSlot::Array(range, true) = &inspected.slots.tools else {
        return shadowed;
    };
    let names: BTreeSet<&str> = tools.iter().map(|tool| &**tool.name()).collect();
    let mut look = |scan: &mut Scanner<'_>| {
        if let Some(own) = scan.string_or_skip()? {
            shadowed.extend(names.get(&*own.decode()));
        }
        Ok(())
    };
    let Some(Ok(mut scan)) = body.get(range.start - 1..range.end).map(Scanner::new) else {
        return shadowed;
    };
    // That it ends before its bracket is the one error there can be: the body was read before.
    let _ = read::array(&mut scan, |scan| {
        read::object(scan, |scan, name| match name {
            "name" => look(scan),
            "function" | "custom" => read::object(scan, |scan, name| match name {
                "name" => look(scan),
                _ => read::skip(scan),
            })
            .map(drop),
            _ => read::skip(scan),
        })
        .map(drop)
    });
    shadowed
}

fn put_tools(api: Api, inspected: &Inspected, tools: &[&Tool], edits: &mut Edits) {
    let len: usize = tools.iter().map(|tool| tool.rendered(api).len() + 1).sum();
    let mut list = Vec::with_capacity(len + "\"tools\":[],".len());
    let render = |list: &mut Vec<u8>| {
        for (nth, tool) in tools.iter().enumerate() {
            if nth > 0 {
                list.push(b',');
            }
            list.extend_from_slice(tool.rendered(api).as_bytes());
        }
    };
    let at = match &inspected.slots.tools {
        ToolsSlot::Absent | ToolsSlot::Odd => {
            list.extend_from_slice(b"\"tools\":[");
            render(&mut list);
            list.extend_from_slice(b"],");
            inspected.slots.first_member..inspected.slots.first_member
        }
        ToolsSlot::Null(range) => {
            list.push(b'[');
            render(&mut list);
            list.push(b']');
            range.clone()
        }
        ToolsSlot::Array(range, false) => {
            render(&mut list);
            range.clone()
        }
        // Prompt caches hold on to the front of a request, and its tools change least.
        ToolsSlot::Array(range, true) if api == Api::Messages => {
            render(&mut list);
            list.push(b',');
            range.start..range.start
        }
        ToolsSlot::Array(range, true) => {
            list.push(b',');
            render(&mut list);
            range.end..range.end
        }
    };
    edits.replace(at, list);
}

/// Anthropic's flag stands in `tool_choice`. Where that is `none`, or of a kind that the provider
/// must judge, it stays as it is.
fn disable_parallel_tool_use(body: &[u8], inspected: &Inspected, edits: &mut Edits) {
    const AUTO: &str = "{\"type\":\"auto\",\"disable_parallel_tool_use\":true}";
    let Some(range) = inspected.slots.tool_choice.clone() else {
        let at = inspected.slots.first_member;
        edits.insert(at, format!("\"tool_choice\":{AUTO},"));
        return;
    };
    let choice = body.get(range.clone()).unwrap_or_default();
    if choice == b"null" {
        edits.replace(range, AUTO);
        return;
    }
    let (mut flag, mut is_none, mut is_empty, mut first) = (None, false, true, 0);
    let is_object = read::document(choice, |scan| {
        if !scan.object_or_skip()? {
            return Ok(false);
        }
        first = scan.position();
        while let Some(name) = scan.key()? {
            is_empty = false;
            match &*name.decode() {
                "disable_parallel_tool_use" => flag = Some(scan.skip()?),
                "type" => is_none = scan.string_or_skip()?.is_some_and(|kind| kind.is("none")),
                _ => read::skip(scan)?,
            }
        }
        Ok(true)
    });
    if is_object != Some(true) || is_none {
        return;
    }
    match flag {
        Some(flag) => edits.replace(range.start + flag.start..range.start + flag.end, "true"),
        None if is_empty => edits.insert(range.start + first, "\"disable_parallel_tool_use\":true"),
        None => edits.insert(range.start + first, "\"disable_parallel_tool_use\":true,"),
    }
}
