//! `aibridge demo`: a scripted provider, the bridge in front of it, and a client, over real sockets
//! on this machine.
//!
//! Each scene is one request. Client, provider and records note what they see on one [`Timeline`];
//! it is told, and compared with what the [`script`] says should happen. So the demo is a check of
//! the installation as well.

mod client;
mod provider;
mod replies;
mod script;
#[cfg(test)]
mod tests;
mod timeline;
mod tools;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aibridge_core::{
    Secret, Target,
    api::Vendor,
    config::{Config, Provider},
    mcp,
    record::Record,
};
use aibridge_tokio::Sink;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    Failure,
    access::Access,
    admin::{Admin, Keys, Phase},
    bridge::{Links, Running},
    cli::DemoArgs,
    config::DRAIN_TIMEOUT,
    records::{Interception, Recorder},
    serve::{self, Stop},
};
use client::Heard;
use script::{SCENES, Scene};
use timeline::{Happening, Teller, Timeline};

/// An MCP server of our own comes up at once; longer is a failure.
const TOOLS_WITHIN: Duration = Duration::from_secs(20);
/// The end of a record follows the end of its reply at once; longer is a failure.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// Plays the demo.
///
/// # Errors
/// Something did not go as it should.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    serve::runtime(1)?.block_on(play(args.hold))
}

async fn play(hold: bool) -> Result<(), Failure> {
    let mut teller = Teller::stdout();
    let stage = Stage::build().await?;
    teller.say(&format!(
        "aibridge demo: everything on this machine, no keys, no network\n\n  \
         provider  http://{}   scripted: answers one key, limits one, rejects one\n  \
         bridge    http://{}   holds the keys\n  \
         admin     http://{}   shows what it knows",
        stage.provider, stage.bridge, stage.admin_address
    ))?;

    let mut wrong = Vec::new();
    for (number, scene) in SCENES.iter().enumerate() {
        teller.open(number + 1, scene)?;
        if scene.tool.is_some() {
            stage.bring_up_tools().await?;
        }
        match stage.play(scene).await {
            Ok(played) => {
                teller.tell(scene, &played.happenings, &played.recorded)?;
                wrong.extend(played.differences(scene));
            }
            Err(error) => wrong.push(format!("{}: {error}", scene.title)),
        }
    }

    if wrong.is_empty() {
        teller.good(
            "\nAll went as it should: three APIs answered, a tool was run, and no client saw a rate limit.",
        )?;
    } else {
        teller.bad("\nThis did not go as it should:")?;
        for what in &wrong {
            teller.bad(&format!("  {what}"))?;
        }
    }
    if hold {
        stage.hold(&mut teller).await?;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::Runtime("the demo failed".to_owned()))
    }
}

/// Provider, bridge and admin listener, all running.
struct Stage {
    provider: SocketAddr,
    bridge: SocketAddr,
    admin_address: SocketAddr,
    admin: Arc<Admin>,
    timeline: Arc<Timeline>,
    recorder: Arc<Recorder>,
    /// How many interceptions have ended.
    ended: watch::Receiver<u64>,
    running: Arc<Running>,
    /// Where the MCP server will be.
    tools: Mutex<Option<TcpListener>>,
}

impl Stage {
    async fn build() -> Result<Self, Failure> {
        let timeline = Arc::new(Timeline::new());
        let recorder = Arc::new(Recorder::in_memory(1000));
        let provider = provider::start(Arc::clone(&timeline)).await?;
        let (ended, ended_seen) = watch::channel(0);
        let observer = Observer {
            timeline: Arc::clone(&timeline),
            recorder: Arc::clone(&recorder),
            ended,
        };

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let bridge = listener.local_addr()?;
        // Until its scene comes the server accepts nobody: what it offers is not there yet, and
        // nothing waits for it.
        let tools = TcpListener::bind("127.0.0.1:0").await?;
        let running = Arc::new(Running::start(
            config(provider, tools.local_addr()?),
            listener,
            Arc::new(observer),
            Links::default(),
        )?);

        let admin_listener = TcpListener::bind("127.0.0.1:0").await?;
        let admin_address = admin_listener.local_addr()?;
        let admin = Arc::new(Admin::new(
            Access::default(),
            Arc::clone(&running) as _,
            Arc::clone(&recorder),
            Box::new(|| Err("the demo has no configuration to reload".to_owned())),
        ));
        admin.set_phase(Phase::Ready);
        tokio::spawn(Arc::clone(&admin).serve(admin_listener, None));
        Ok(Self {
            provider,
            bridge,
            admin_address,
            admin,
            timeline,
            recorder,
            ended: ended_seen,
            running,
            tools: Mutex::new(Some(tools)),
        })
    }

    /// Starts the MCP server, and waits until the bridge has its tools.
    async fn bring_up_tools(&self) -> Result<(), Failure> {
        let listener = self
            .tools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(listener) = listener {
            tools::start(listener, Arc::clone(&self.timeline));
        }
        let up = async {
            while self
                .running
                .tool_servers()
                .iter()
                .any(|server| server.offered.is_empty())
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let too_late = |_| Failure::Runtime("the demo's MCP server did not come up".to_owned());
        timeout(TOOLS_WITHIN, up).await.map_err(too_late)
    }

    /// Plays one scene to its end.
    async fn play(
        &self,
        scene: &Scene,
    ) -> Result<Played, Box<dyn std::error::Error + Send + Sync>> {
        self.timeline.take();
        let heard = client::ask(self.bridge, scene, &self.timeline).await?;
        let id = heard.id.clone().ok_or("the reply has no x-aibridge-id")?;
        let recorded = self.recorded(&id).await.ok_or("no record of it ended")?;
        let keys = client::get(self.admin_address, "/keys").await?;
        Ok(Played {
            heard,
            recorded,
            states: states(&keys, scene),
            happenings: self.timeline.take(),
        })
    }

    /// What was recorded under this id, once it has ended.
    async fn recorded(&self, id: &str) -> Option<Interception> {
        let mut ended = self.ended.clone();
        let found = async {
            loop {
                let newest = self.recorder.newest(SCENES.len());
                if let Some(found) = newest
                    .into_iter()
                    .find(|one| one.id == id && one.ended_at.is_some())
                {
                    return Some(found);
                }
                ended.changed().await.ok()?;
            }
        };
        timeout(RECORDED_WITHIN, found).await.ok().flatten()
    }

    /// Leaves all up until the user has seen enough, and ends it as `serve` ends.
    async fn hold<W: io::Write>(&self, teller: &mut Teller<W>) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        let (bridge, admin) = (self.bridge, self.admin_address);
        teller.say(&format!(
            "\nThe bridge stays up. Try it, and end it with Ctrl-C:\n\n  \
             curl -N http://{bridge}/anthropic/v1/messages -d '{{\"model\":\"demo-model\",\"max_tokens\":99,\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"What is a bridge?\"}}]}}'\n  \
             curl http://{admin}/keys\n  \
             curl http://{admin}/interceptions"
        ))?;
        stop.next().await;
        self.admin.set_phase(Phase::Draining);
        serve::unless_stopped(stop.next(), self.running.drain(DRAIN_TIMEOUT)).await
    }
}

/// The bridge's configuration: both vendors, at the scripted provider.
fn config(provider: SocketAddr, tools: SocketAddr) -> Config {
    let target = |address: SocketAddr| Target {
        host: address.ip().to_string().into(),
        port: address.port(),
        tls: false,
    };
    let tools = mcp::Server::new(script::TOOL_SERVER, target(tools), "/mcp");
    let target = target(provider);
    let anthropic = Provider::new("anthropic", Vendor::Anthropic, target.clone(), "")
        .with_keys(script::ANTHROPIC_KEYS);
    let openai =
        Provider::new("openai", Vendor::OpenAi, target, "/v1").with_keys(script::OPENAI_KEYS);
    Config {
        providers: vec![Arc::new(anthropic), Arc::new(openai)],
        mcp: vec![Arc::new(tools)],
        ..Config::default()
    }
}

/// Notes what the records tell, beside keeping them.
#[derive(Debug)]
struct Observer {
    timeline: Arc<Timeline>,
    recorder: Arc<Recorder>,
    ended: watch::Sender<u64>,
}

impl Sink for Observer {
    fn keep(&self, record: Record) {
        if let Record::KeyChanged { transition, at, .. } = &record {
            self.timeline.add(Happening::KeyChanged {
                transition: transition.clone(),
                now: *at,
            });
        }
        let ends = matches!(record, Record::Ended(..));
        self.recorder.keep(record);
        if ends {
            self.ended.send_modify(|count| *count += 1);
        }
    }
}

/// A provider's key states, from the answer of `/keys`.
fn states(keys: &Value, scene: &Scene) -> Vec<String> {
    let name = scene.path().split('/').nth(1).unwrap_or_default();
    let providers = keys["providers"].as_array().into_iter().flatten();
    let keys = providers.filter(|provider| provider["name"] == name);
    keys.flat_map(|provider| provider["keys"].as_array().into_iter().flatten())
        .filter_map(|key| key["state"].as_str().map(str::to_owned))
        .collect()
}

/// A scene as it went.
#[derive(Debug)]
struct Played {
    heard: Heard,
    recorded: Interception,
    states: Vec<String>,
    happenings: Vec<(Duration, Happening)>,
}

impl Played {
    /// How it differs from the script.
    fn differences(&self, scene: &Scene) -> Vec<String> {
        let hint = |index: usize| {
            script::keys(scene.api.vendor())
                .get(index)
                .map_or_else(String::new, |key| Secret::new(*key).hint())
        };
        let attempts: Vec<_> = scene
            .attempts
            .iter()
            .map(|(index, status)| (hint(*index), *status))
            .collect();
        let recorded = &self.recorded;
        let recorded_attempts = recorded
            .attempts
            .iter()
            .map(|attempt| (attempt.key.to_string(), attempt.status.unwrap_or_default()))
            .collect::<Vec<_>>();
        let tokens = (recorded.usage.input_tokens, recorded.usage.output_tokens);
        let expected_keys: Vec<_> = attempts.iter().map(|(hint, _)| hint.clone()).collect();

        let mut differences = Differences::of(scene);
        differences.unless_equal("status for the client", &self.heard.status.as_u16(), &200);
        differences.unless_equal(
            "text for the client",
            &self.heard.text,
            &scene.answer.text(),
        );
        differences.unless_equal(
            "usage that the client did not ask for",
            &self.heard.unasked_usage,
            &false,
        );
        differences.unless_equal(
            "keys that the provider saw",
            &self.keys_seen(),
            &expected_keys,
        );
        differences.unless_equal("attempts recorded", &recorded_attempts, &attempts);
        differences.unless_equal(
            "outcome recorded",
            &recorded.outcome.as_deref(),
            &Some("ok"),
        );
        let (mut input, mut output) = (scene.answer.input_tokens, scene.answer.output_tokens);
        if let Some(tool) = &scene.tool {
            input += tool.input_tokens;
            output += tool.output_tokens;
        }
        let scripted = (input, output);
        differences.unless_equal("tokens recorded, in and out", &tokens, &scripted);
        let run: Vec<_> = recorded
            .tools
            .iter()
            .map(|tool| tool.name.clone())
            .collect();
        let scripted: Vec<_> = scene.tool.iter().map(script::Tool::model_name).collect();
        differences.unless_equal("tools that were run", &run, &scripted);
        let states: Vec<_> = self.states.iter().map(String::as_str).collect();
        differences.unless_equal("states of the keys", &states.as_slice(), &scene.states);
        if scene.streaming {
            let early = self.at(&Happening::FirstEvent) < self.at(&Happening::LastEventSent);
            differences.unless_equal(
                "first event relayed before the last was sent",
                &early,
                &true,
            );
        }
        differences.found
    }

    fn keys_seen(&self) -> Vec<String> {
        let hints = self
            .happenings
            .iter()
            .filter_map(|(_, happening)| match happening {
                Happening::Called { hint } => Some(hint.clone()),
                _ => None,
            });
        hints.collect()
    }

    /// When it happened; never is later than any time.
    fn at(&self, wanted: &Happening) -> Duration {
        let found = self
            .happenings
            .iter()
            .find(|(_, happening)| happening == wanted);
        found.map_or(Duration::MAX, |(at, _)| *at)
    }
}

/// Collects what differs in a scene.
struct Differences<'a> {
    scene: &'a Scene,
    found: Vec<String>,
}

impl<'a> Differences<'a> {
    fn of(scene: &'a Scene) -> Self {
        Self {
            scene,
            found: Vec::new(),
        }
    }

    fn unless_equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: &T, expected: &T) {
        if got != expected {
            self.found.push(format!(
                "{}: {what}: {got:?} instead of {expected:?}",
                self.scene.title
            ));
        }
    }
}
