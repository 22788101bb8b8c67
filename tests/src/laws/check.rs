//! Tries a policy on many worlds, and makes the first one that breaks a law small.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use aibridge_core::{Rng, keypool::Policy, record::Record};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{ALL, Breach, Law, OPTIONAL, broken};
use crate::{
    World,
    history::{Fact, History},
    plan::Plan,
    strategies::{self, Sizes},
};

/// One world in so many is traced: it costs as much again.
const TRACED: u64 = 16;
/// Worlds tried to make a counterexample smaller.
const MAX_SHRINKS: u32 = 4_000;

/// How a policy is checked.
#[derive(Clone, Debug)]
pub struct Checks {
    /// How many worlds.
    pub cases: u32,
    /// Which ones: the same seed gives the same worlds.
    pub seed: u64,
    /// Only the world of this seed, one that a counterexample named.
    pub only: Option<u64>,
    /// How large they are.
    pub sizes: Sizes,
    /// Which laws must hold.
    pub laws: Vec<Law>,
    /// Whether the environment is heeded: then a counterexample names the command that shows it
    /// again.
    pub heeds_env: bool,
}

impl Default for Checks {
    /// A thousand worlds and all laws.
    fn default() -> Self {
        Self {
            cases: 1_000,
            seed: 1,
            only: None,
            sizes: Sizes::default(),
            laws: ALL.to_vec(),
            heeds_env: false,
        }
    }
}

impl Checks {
    /// The same, but with so many worlds.
    #[must_use]
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// The same, but as the environment says: `AIBRIDGE_CASES` is how many worlds, `AIBRIDGE_SEED`
    /// the only one.
    ///
    /// # Panics
    /// A variable is set and is no number.
    #[must_use]
    pub fn from_env(mut self) -> Self {
        let number = |name| {
            let text = std::env::var(name).ok()?;
            let parsed = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => text.parse(),
            };
            Some(parsed.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
        };
        if let Some(cases) = number("AIBRIDGE_CASES") {
            self.cases = u32::try_from(cases).unwrap_or(u32::MAX);
        }
        self.only = number("AIBRIDGE_SEED");
        self.heeds_env = true;
        self
    }

    /// The same, but this law of the [optional](OPTIONAL) ones must hold too.
    ///
    /// # Panics
    /// None of them has this name.
    #[must_use]
    pub fn with(mut self, law: &str) -> Self {
        let found = OPTIONAL.into_iter().find(|known| known.name == law);
        self.laws
            .push(found.unwrap_or_else(|| panic!("{law} is no optional law")));
        self
    }

    /// The same, but this law need not hold.
    #[must_use]
    pub fn without(mut self, law: &str) -> Self {
        self.laws.retain(|known| known.name != law);
        self
    }
}

/// What was seen in the worlds in which every law held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Worlds.
    pub worlds: u64,
    /// Requests of clients.
    pub requests: u64,
    /// Calls to providers.
    pub calls: u64,
    /// Calls of MCP servers.
    pub tool_calls: u64,
    /// Times that a session was told that there is no key.
    pub exhausted: u64,
    /// Times that a policy changed a key's state.
    pub judged: u64,
    /// Connections that providers broke.
    pub broken: u64,
    /// Attempts after which the next key was to be tried.
    pub failed_over: u64,
    /// Requests with a key of the client's own.
    pub own_keys: u64,
    /// Worlds in which clients have tokens, there are tools, and somebody brings a key of their
    /// own.
    pub guarded: u64,
    /// Worlds that were traced.
    pub traced: u64,
}

/// The smallest world that was found in which a law does not hold.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The law's name; `no_panic` where something panicked.
    pub law: &'static str,
    /// Where it breaks, if there is a history.
    pub breach: Breach,
    /// The seed of the world that it was made from, if it was drawn at random.
    pub seed: Option<u64>,
    /// The world.
    pub plan: Plan,
    /// What happened in it; `None` where something panicked.
    pub history: Option<History>,
    /// Whether `AIBRIDGE_SEED` leads to it.
    heeds_env: bool,
}

impl Plan {
    /// The world of this seed. It is the same on every machine.
    pub fn draw(seed: u64, sizes: Sizes) -> Self {
        tree(seed, sizes).current()
    }
}

/// A world that can be made smaller.
fn tree(seed: u64, sizes: Sizes) -> impl ValueTree<Value = Plan> {
    let mut rng = Rng::new(seed);
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        half.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    strategies::plan(sizes)
        .new_tree(&mut TestRunner::new_with_rng(config, rng))
        .expect("nothing that is drawn is rejected")
}

/// Tries a policy on many random worlds.
///
/// # Errors
/// A law does not hold, or something panics: the smallest world found in which that is so.
pub fn check_policy(
    policy: impl Policy + 'static,
    checks: &Checks,
) -> Result<Report, Box<Counterexample>> {
    let policy: Arc<dyn Policy> = Arc::new(policy);
    let mut report = Report::default();
    let mut seeds = Rng::new(checks.seed);
    let cases = match checks.only {
        Some(_) => 1,
        None => checks.cases,
    };
    for _ in 0..cases {
        let seed = checks.only.unwrap_or_else(|| seeds.next_u64());
        let plan = Plan::draw(seed, checks.sizes);
        match judge(plan, &policy, &checks.laws, detail(seed)) {
            Ok(history) => report.add(&history),
            Err(found) => return Err(smallest(seed, found, checks, &policy)),
        }
    }
    Ok(report)
}

/// How much of a world is written down.
#[derive(Clone, Copy, Debug)]
pub(super) enum Detail {
    /// No log.
    Little,
    /// All but traces.
    Much,
    /// All.
    Traced,
}

fn detail(seed: u64) -> Detail {
    if seed.is_multiple_of(TRACED) {
        Detail::Traced
    } else {
        Detail::Much
    }
}

/// Runs one world.
pub(super) fn judge(
    plan: Plan,
    policy: &Arc<dyn Policy>,
    laws: &[Law],
    detail: Detail,
) -> Result<History, Box<Counterexample>> {
    let run = || {
        let world = World::new(&plan, Arc::clone(policy));
        match detail {
            Detail::Little => world.unlogged().run(),
            Detail::Much => world.run(),
            Detail::Traced => world.traced().run(),
        }
    };
    let (law, breach, history) = match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(history) => match broken(laws, &history) {
            None => return Ok(history),
            Some((law, breach)) => (law.name, breach, Some(history)),
        },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let why = text.unwrap_or("something that is no text").to_owned();
            ("no_panic", Breach::new(0, why), None)
        }
    };
    Err(Box::new(Counterexample {
        law,
        breach,
        seed: None,
        plan,
        history,
        heeds_env: false,
    }))
}

/// Makes a counterexample as small as it gets while the same law breaks.
fn smallest(
    seed: u64,
    mut found: Box<Counterexample>,
    checks: &Checks,
    policy: &Arc<dyn Policy>,
) -> Box<Counterexample> {
    let mut tree = tree(seed, checks.sizes);
    let mut is_smaller = tree.simplify();
    for _ in 0..MAX_SHRINKS {
        if !is_smaller {
            break;
        }
        let smaller = judge(tree.current(), policy, &checks.laws, detail(seed));
        is_smaller = match smaller {
            Err(smaller) if smaller.law == found.law => {
                found = smaller;
                tree.simplify()
            }
            _ => tree.complicate(),
        };
    }
    found.seed = Some(seed);
    found.heeds_env = checks.heeds_env;
    found
}

impl Report {
    pub(super) fn add(&mut self, history: &History) {
        self.worlds += 1;
        let before = self.own_keys;
        for entry in &history.entries {
            let counter = match &entry.fact {
                Fact::Asked(asked) => {
                    self.own_keys += u64::from(asked.own_key.is_some());
                    &mut self.requests
                }
                Fact::Broke(..) => &mut self.broken,
                Fact::Called(called) if called.provider.is_none() => &mut self.tool_calls,
                Fact::Called(_) => &mut self.calls,
                Fact::Judged { .. } => &mut self.judged,
                Fact::Leased(leased) if leased.lease.is_err() => &mut self.exhausted,
                Fact::Recorded(record) if is_failed_over(record) => &mut self.failed_over,
                _ => continue,
            };
            *counter += 1;
        }
        let plan = &history.plan;
        let is_guarded = plan.tokens && !plan.tools.is_empty() && self.own_keys > before;
        self.guarded += u64::from(is_guarded);
        self.traced += u64::from(!history.traces.is_empty());
    }
}

fn is_failed_over(record: &Record) -> bool {
    matches!(record, Record::Attempt(_, attempt) if attempt.verdict == "next_key")
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.law, self.breach.why)?;
        if let Some(history) = &self.history {
            history.show(f, Some(&self.breach))?;
        }
        write!(f, "the world: {:?}", self.plan)?;
        // A test's thread has its name.
        let test = std::thread::current();
        let test = test.name().filter(|name| *name != "main");
        match (self.seed, test) {
            (Some(seed), _) if !self.heeds_env => {
                write!(
                    f,
                    "\nonce more: the same checks with only = Some({seed:#x})"
                )
            }
            (Some(seed), Some(test)) => {
                write!(f, "\nonce more: AIBRIDGE_SEED={seed:#x} cargo test {test}")
            }
            (Some(seed), None) => {
                write!(
                    f,
                    "\nonce more: the same command with AIBRIDGE_SEED={seed:#x}"
                )
            }
            // Sequences are tried in the same order each time.
            (None, Some(test)) => write!(f, "\nonce more: cargo test {test}"),
            (None, None) => write!(f, "\nonce more: the same command"),
        }
    }
}

impl std::error::Error for Counterexample {}
