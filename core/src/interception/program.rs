//! Which program is calling, and which of its sessions: a guess for the records, never trusted for
//! access.

use http::{HeaderMap, HeaderValue, header::USER_AGENT};

/// A guess at the program, and its session where it tells one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) session: Option<String>,
}

/// How a program is known.
enum Mark {
    /// Its user agent, lower-cased, begins so.
    Agent(&'static str),
    /// This header field begins so (empty: is there at all).
    Field(&'static str, &'static str),
}

use Mark::{Agent, Field};

/// First match wins: marks, name, fields that carry the session.
const PROGRAMS: &[(&[Mark], &str, &[&str])] = &[
    (
        &[Agent("claude")],
        "Claude Code",
        &["x-claude-code-session-id"],
    ),
    (&[Agent("codex")], "Codex", &["session-id", "session_id"]),
    (
        &[Agent("opencode/")],
        "OpenCode",
        &["x-opencode-session", "x-session-affinity"],
    ),
    (
        &[Agent("githubcopilotchat/")],
        "GitHub Copilot (VS Code)",
        &["x-interaction-id"],
    ),
    (
        &[Agent("copilot/")],
        "GitHub Copilot (CLI)",
        &["x-client-session-id"],
    ),
    (
        &[Agent("kilo-code/"), Field("originator", "kilo-code")],
        "Kilo Code",
        &["x-kilocode-taskid"],
    ),
    (
        &[Agent("mux/"), Agent("xum/")],
        "Mux",
        &["x-mux-workspace-id"],
    ),
    (&[Agent("zed/")], "Zed", &[]),
    (
        &[Agent("roo-code/"), Field("originator", "roo-code")],
        "Roo Code",
        &[],
    ),
    (
        &[Agent("charm crush/"), Agent("charm-crush/")],
        "Charm Crush",
        &[],
    ),
    (&[Agent("junie:")], "Junie", &[]),
    (&[Field("x-cursor-client-version", "")], "Cursor", &[]),
];

/// Guesses. `in_body` is the session that the request's body tells.
pub(super) fn guess(headers: &HeaderMap, in_body: Option<String>) -> Program {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    let agent = String::from_utf8_lossy(agent.unwrap_or_default());
    let begins = |text: &str, mark: &str| {
        text.get(..mark.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(mark))
    };
    let known = PROGRAMS.iter().find(|(marks, _, _)| {
        marks.iter().any(|mark| match mark {
            Agent(prefix) => begins(&agent, prefix),
            Field(name, prefix) => field(name).is_some_and(|value| begins(value, prefix)),
        })
    });
    let Some((_, name, sessions)) = known else {
        return Program {
            name: "Unknown",
            session: None,
        };
    };
    let session = sessions
        .iter()
        .find_map(|name| field(name))
        .filter(|id| !id.is_empty());
    // Only Claude Code tells its session in the body.
    let in_body = in_body.filter(|_| *name == "Claude Code");
    Program {
        name,
        session: session.map(str::to_owned).or(in_body),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn programs_are_told_by_their_marks() {
        for (fields, in_body, name, session) in [
            (
                &[("user-agent", "claude-cli/2.0 (external, cli)")][..],
                Some("b"),
                "Claude Code",
                Some("b"),
            ),
            (
                &[
                    ("user-agent", "Claude-cli/2.0"),
                    ("x-claude-code-session-id", "h"),
                ],
                Some("b"),
                "Claude Code",
                Some("h"),
            ),
            (
                &[("user-agent", "codex_cli_rs/0.4"), ("session_id", "s")],
                None,
                "Codex",
                Some("s"),
            ),
            (
                &[("originator", "kilo-code"), ("x-kilocode-taskid", "t")],
                None,
                "Kilo Code",
                Some("t"),
            ),
            (&[("user-agent", "Zed/0.2")], None, "Zed", None),
            (
                &[("user-agent", "x"), ("x-cursor-client-version", "1")],
                None,
                "Cursor",
                None,
            ),
            (&[("user-agent", "curl/8")], Some("b"), "Unknown", None),
            (&[], None, "Unknown", None),
        ] {
            let headers = fields
                .iter()
                .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
                .collect();
            let program = guess(&headers, in_body.map(str::to_owned));
            assert_eq!((program.name, program.session.as_deref()), (name, session));
        }
    }
}
