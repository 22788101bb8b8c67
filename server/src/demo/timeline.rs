//! What happened, in the order in which it did, told so that a newcomer can follow.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aibridge_core::{
    Secret,
    keypool::{KeyState, Transition},
};
use http::StatusCode;

use super::script::{self, Scene};
use crate::records::Interception;

/// One thing that happened, seen by whoever did it: client, provider, or the bridge's own records.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Happening {
    /// The provider answered.
    Answered {
        status: StatusCode,
        events: Option<usize>,
    },
    /// The client asked.
    Asked,
    /// The bridge called the provider with this key.
    Called { hint: String },
    /// The client has the whole reply.
    Ended { text: String },
    /// The client has the first event of a stream.
    FirstEvent,
    /// The client has the reply's head.
    Head { status: StatusCode },
    /// A key changed state.
    KeyChanged {
        transition: Transition,
        now: aibridge_core::Instant,
    },
    /// The provider sent the last event of a stream.
    LastEventSent,
    /// The MCP server ran its tool.
    ToolRan { arguments: String },
}

/// Happenings with their times, written by several tasks.
#[derive(Debug)]
pub(super) struct Timeline {
    noted: Mutex<(Instant, Vec<(Duration, Happening)>)>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self {
            noted: Mutex::new((Instant::now(), Vec::new())),
        }
    }

    /// Notes what happens now.
    pub(super) fn add(&self, happening: Happening) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let at = noted.0.elapsed();
        noted.1.push((at, happening));
    }

    /// Returns all that was noted, and begins anew at zero.
    pub(super) fn take(&self) -> Vec<(Duration, Happening)> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.0 = Instant::now();
        std::mem::take(&mut noted.1)
    }
}

/// Where the story is told.
pub(super) struct Teller<W> {
    out: W,
    colours: bool,
}

impl Teller<io::StdoutLock<'static>> {
    /// On stdout, in colours where a person looks on and has not asked for none.
    pub(super) fn stdout() -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            out: io::stdout().lock(),
            colours,
        }
    }
}

impl<W: Write> Teller<W> {
    #[cfg(test)]
    pub(super) fn plain(out: W) -> Self {
        Self {
            out,
            colours: false,
        }
    }

    /// A line as it is.
    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// A line of good news.
    pub(super) fn good(&mut self, line: &str) -> io::Result<()> {
        let line = self.paint(GREEN, line);
        self.say(&line)
    }

    /// A line of bad news.
    pub(super) fn bad(&mut self, line: &str) -> io::Result<()> {
        let line = self.paint(RED, line);
        self.say(&line)
    }

    /// A scene's heading.
    pub(super) fn open(&mut self, number: usize, scene: &Scene) -> io::Result<()> {
        let title = self.paint(BOLD, &format!("{number}. {}", scene.title));
        let lesson = self.paint(DIM, scene.lesson);
        self.say(&format!("\n{title}\n   {lesson}\n"))
    }

    /// What happened in it, and what was recorded.
    pub(super) fn tell(
        &mut self,
        scene: &Scene,
        happenings: &[(Duration, Happening)],
        recorded: &Interception,
    ) -> io::Result<()> {
        for (at, happening) in happenings {
            if let Some((who, what)) = self.sentence(scene, happening) {
                self.line(&format!("{:.1} ms", at.as_secs_f64() * 1e3), who, &what)?;
            }
        }
        let Interception {
            outcome,
            attempts,
            usage,
            tools,
            ..
        } = recorded;
        let calls = if attempts.len() == 1 { "call" } else { "calls" };
        let what = format!(
            "{}: {} {calls} to the provider,{} {} tokens in, {} out",
            outcome.as_deref().unwrap_or("running"),
            attempts.len(),
            if tools.is_empty() {
                ""
            } else {
                " 1 of a tool,"
            },
            usage.input_tokens,
            usage.output_tokens
        );
        self.line("", "recorded", &what)
    }

    fn line(&mut self, at: &str, who: &str, what: &str) -> io::Result<()> {
        let at = self.paint(DIM, &format!("{at:>10}"));
        self.say(&format!("{at}  {who:<18}  {what}"))
    }

    /// Who does something to whom, and what. `None` for what a newcomer need not know.
    fn sentence(&self, scene: &Scene, happening: &Happening) -> Option<(&'static str, String)> {
        Some(match happening {
            Happening::Asked => (
                "client → bridge",
                format!("POST {}  \"{}\"", scene.path(), scene.question),
            ),
            Happening::Called { hint } => (
                "bridge → provider",
                format!("with {}", name_key(scene, hint)),
            ),
            Happening::Answered { status, events } => {
                let more = match (*status, events) {
                    (StatusCode::TOO_MANY_REQUESTS, _) => {
                        format!(", retry-after: {}", script::RETRY_AFTER)
                    }
                    (_, Some(events)) => format!(", a stream of {events} events"),
                    (_, None) => String::new(),
                };
                ("provider → bridge", self.paint_status(*status) + &more)
            }
            Happening::KeyChanged { transition, now } => {
                let key = name_key(scene, &transition.hint);
                let what = match transition.to {
                    KeyState::Valid => format!("{key} is valid again"),
                    KeyState::Temporary(until, reason) => {
                        let seconds = until.since(*now).as_secs_f64().ceil();
                        format!("{key} cools down for {seconds} s ({})", reason.as_str())
                    }
                    KeyState::Permanent(reason) => {
                        format!("{key} is out of use until reset ({})", reason.as_str())
                    }
                };
                ("bridge", self.paint(YELLOW, &what))
            }
            Happening::Head { status } => ("bridge → client", self.paint_status(*status)),
            Happening::FirstEvent => (
                "bridge → client",
                "the first event, as soon as it is there".to_owned(),
            ),
            Happening::Ended { text } => ("bridge → client", format!("complete: \"{text}\"")),
            Happening::ToolRan { arguments } => {
                let script::Tool { name, result, .. } = script::TOOL;
                let what = format!("{name} {arguments} gives \"{result}\"");
                ("bridge → almanac", what)
            }
            Happening::LastEventSent => return None,
        })
    }

    fn paint_status(&self, status: StatusCode) -> String {
        let colour = if status.is_success() { GREEN } else { YELLOW };
        self.paint(colour, &status.to_string())
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// `key 2 (sk-d...0002)`
fn name_key(scene: &Scene, hint: &str) -> String {
    let keys = script::keys(scene.api.vendor());
    match keys.iter().position(|key| Secret::new(*key).hint() == hint) {
        Some(index) => format!("key {} ({hint})", index + 1),
        None => format!("an unknown key ({hint})"),
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
