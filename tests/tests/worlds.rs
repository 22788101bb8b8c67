//! What worlds do: that each part of a plan has its effect, and that random worlds have all that
//! can happen.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use aibridge_core::{
    api::Api,
    keypool::Failover,
    record::{Outcome, Record},
};
use aibridge_testkit::{
    Ask, Cut, Script, Sim, World,
    history::{Ending, Fact, History},
    plan::{
        Blip, Bulk, ClientPlan, Credential, KeyPlan, Manner, Plan, ProviderPlan, RequestPlan,
        ResetPlan, ToolPlan,
    },
    setup,
    strategies::{self, Sizes},
};
use proptest::{
    prelude::*,
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

const ASK: RequestPlan = RequestPlan::after(Duration::ZERO);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn run(plan: &Plan) -> History {
    World::new(plan, Arc::new(Failover::default())).run()
}

fn statuses(history: &History) -> Vec<u16> {
    history.answers().map(|answer| answer.status).collect()
}

/// When each reply was there, in milliseconds.
fn times(history: &History) -> Vec<u128> {
    let answered = history.pick(|fact| matches!(fact, Fact::Answered(..)).then_some(()));
    let times = answered.map(|(entry, ())| history.since(entry.at).as_millis());
    times.collect()
}

fn outcomes(history: &History) -> Vec<Outcome> {
    let ended = history.pick(|fact| match fact {
        Fact::Recorded(record) => match &**record {
            Record::Ended(_, ended) => Some(ended.outcome),
            _ => None,
        },
        _ => None,
    });
    ended.map(|(_, outcome)| outcome).collect()
}

/// Whether each call of a tool failed, in the order of records.
fn failures(history: &History) -> Vec<bool> {
    let used = history.pick(|fact| match fact {
        Fact::Recorded(record) => match &**record {
            Record::ToolUsage(_, usage) => Some(usage.error.is_some()),
            _ => None,
        },
        _ => None,
    });
    used.map(|(_, failed)| failed).collect()
}

fn calls(history: &History) -> Vec<String> {
    let called = history.pick(|fact| match fact {
        Fact::Called(call) => Some(call.seen.key.clone()),
        _ => None,
    });
    called.map(|(_, key)| key).collect()
}

/// A provider with so many unlimited keys.
fn provider(keys: usize) -> ProviderPlan {
    ProviderPlan::new(vec![KeyPlan::default(); keys])
}

#[test]
fn latencies_and_paces_take_their_time() {
    let slow = ProviderPlan {
        connects_in: secs(1),
        latency: secs(2),
        pace: secs(1),
        ..provider(1)
    };
    let streamed = RequestPlan {
        streaming: true,
        ..ASK
    };
    let events = run(&Plan::new(provider(1), [ClientPlan::new([streamed])]));
    let events = events.answers().next().unwrap().events().len() as u128;
    let history = run(&Plan::new(slow, [ClientPlan::new([ASK, streamed])]));
    // The second request finds the connection of the first.
    assert_eq!(
        times(&history),
        [3_000, 3_000 + 2_000 + 1_000 * (events - 1)]
    );
}

#[test]
fn an_outage_refuses_connections_and_passes() {
    let away = ProviderPlan {
        outage: Some((secs(0), secs(10))),
        ..provider(1)
    };
    let client = ClientPlan::new([
        ASK,
        RequestPlan::after(secs(9)),
        RequestPlan::after(secs(1)),
    ]);
    let history = run(&Plan::new(away, [client]));
    assert_eq!(statuses(&history), [502, 502, 200]);
}

#[test]
fn an_outage_breaks_what_is_up() {
    let away = ProviderPlan {
        pace: secs(1),
        outage: Some((secs(2), secs(10))),
        ..provider(1)
    };
    let streamed = RequestPlan {
        streaming: true,
        ..ASK
    };
    let reads = ClientPlan::new([streamed]);
    // Its connection is on the shelf when the outage begins.
    let pauses = ClientPlan::new([
        ASK,
        RequestPlan::after(secs(3)),
        RequestPlan::after(secs(8)),
    ]);
    let history = run(&Plan::new(away, [reads, pauses]));
    assert_eq!(statuses(&history), [200, 200, 502, 200], "{history}");
    assert_eq!(times(&history), [0, 2_000, 3_000, 11_000]);
    let broken = history.answers().nth(1).unwrap();
    assert!(broken.text().contains("upstream connection failed"));
}

#[test]
fn a_long_reply_waits_for_whoever_reads_slowly() {
    let reply = |manner, streaming| {
        let long = RequestPlan {
            streaming,
            manner,
            bulk: Some(Bulk::Reply),
            ..ASK
        };
        let history = run(&Plan::new(provider(1), [ClientPlan::new([long])]));
        let held = history.pick(|fact| matches!(fact, Fact::Held(_)).then_some(()));
        let held = held.count();
        let answer = history.answers().next().unwrap();
        assert!(answer.is_complete() && answer.body.len() > 2 * (128 << 10));
        (held, answer.body.clone(), times(&history)[0])
    };
    for streaming in [false, true] {
        let (held, body, at) = reply(Manner::Patient, streaming);
        assert_eq!((held, at), (0, 0));
        let (held, late, at) = reply(Manner::ReadsLate(secs(30)), streaming);
        assert_eq!((held, &late, at), (1, &body, 30_000));
        let (held, slow, at) = reply(Manner::ReadsSlowly(secs(1)), streaming);
        assert!(held > 5 && at > 18_000, "{held}, {at}");
        assert_eq!(slow, body);
    }
}

#[test]
fn a_provider_may_take_its_time_to_read_a_long_request() {
    let sips = ProviderPlan {
        sips: Some((100 << 10, secs(2))),
        ..provider(1)
    };
    let long = RequestPlan {
        bulk: Some(Bulk::Question),
        ..ASK
    };
    let history = run(&Plan::new(sips, [ClientPlan::new([ASK, long])]));
    assert_eq!(statuses(&history), [200, 200]);
    // 320 KB and a head: a pause after each but the last of four sips, and one after the request
    // before.
    assert_eq!(times(&history), [0, 8_000]);
}

#[test]
fn a_deadline_may_come_before_whatever_happens_at_its_moment() {
    // As long as a connection may take to come up.
    let slow = ProviderPlan {
        connects_in: secs(10),
        ..provider(1)
    };
    let seen = (0..20).flat_map(|seed| {
        let plan = Plan {
            seed,
            ..Plan::new(slow.clone(), [ClientPlan::new([ASK])])
        };
        statuses(&run(&plan))
    });
    assert_eq!(seen.collect::<BTreeSet<_>>(), BTreeSet::from([200, 502]));
}

#[test]
fn every_blip_comes_to_what_it_says() {
    let http = 40; // within the head of a reply
    for (blip, status, at) in [
        (Blip::EndAt(0), 502, 0),
        (Blip::EndAt(http), 502, 0),
        (Blip::Garbage, 502, 0),
        (Blip::NoAnswer, 502, 10_000),
        (Blip::Refuse, 502, 0),
        (Blip::ResetAt(http), 502, 0),
        (Blip::StallAt(http), 504, 600_000),
        (Blip::Status(529), 529, 0),
        (Blip::Wait(secs(7)), 200, 7_000),
        (Blip::Limited(30), 429, 0),
    ] {
        let provider = ProviderPlan {
            blips: vec![Some(blip)],
            ..provider(1)
        };
        let history = run(&Plan::new(provider, [ClientPlan::new([ASK])]));
        assert_eq!(
            (statuses(&history), times(&history)),
            (vec![status], vec![at]),
            "{blip:?}"
        );
    }
}

#[test]
fn clients_behave_in_their_own_manner() {
    let slow = ProviderPlan {
        pace: secs(1),
        ..provider(1)
    };
    for (manner, ending, outcome) in [
        (
            Manner::LeavesAt(300),
            Ending::Left,
            Some(Outcome::Cancelled),
        ),
        (Manner::Patient, Ending::Complete, Some(Outcome::Ok)),
        (
            Manner::ReadsLate(secs(30)),
            Ending::Complete,
            Some(Outcome::Ok),
        ),
        (
            Manner::ResetsAfter(secs(2)),
            Ending::Left,
            Some(Outcome::Cancelled),
        ),
        (
            Manner::ResetsAt(300),
            Ending::Left,
            Some(Outcome::Cancelled),
        ),
        (Manner::SendsOnly(100), Ending::Closed, None),
        (Manner::SendsThenResets(100), Ending::Left, None),
        (
            Manner::SendsSlowly(secs(5)),
            Ending::Complete,
            Some(Outcome::Ok),
        ),
    ] {
        let request = RequestPlan {
            streaming: true,
            manner,
            ..ASK
        };
        let client = ClientPlan {
            cut: Cut::Every(150),
            ..ClientPlan::new([request])
        };
        let history = run(&Plan::new(slow.clone(), [client]));
        let endings = history.pick(|fact| match fact {
            Fact::Answered(_, ending) => Some(*ending),
            _ => None,
        });
        let endings: Vec<_> = endings.map(|(_, ending)| ending).collect();
        assert_eq!(endings, [ending], "{manner:?}\n{history}");
        assert_eq!(outcomes(&history), Vec::from_iter(outcome), "{manner:?}");
    }
}

#[test]
fn bridges_share_a_provider_and_nothing_else() {
    let keys = [KeyPlan::limited(1, secs(60)), KeyPlan::default()];
    let second = ClientPlan {
        bridge: 1,
        ..ClientPlan::new([RequestPlan::after(secs(1))])
    };
    let first = ClientPlan::new([ASK, RequestPlan::after(secs(2))]);
    let plan = Plan {
        bridges: 2,
        ..Plan::new(ProviderPlan::new(keys), [first, second])
    };
    let history = run(&plan);
    assert_eq!(statuses(&history), [200, 200, 200]);
    // The second bridge finds out for itself that the key is used up, and the first one does
    // afterwards.
    let tried: Vec<_> = calls(&history)
        .iter()
        .map(|key| key[..4].to_owned())
        .collect();
    assert_eq!(tried, ["p0k0", "p0k0", "p0k1", "p0k0", "p0k1"]);
}

#[test]
fn own_keys_are_answered_as_they_are_named() {
    let ask = |status| RequestPlan {
        credential: Credential::Own(status),
        ..ASK
    };
    let history = run(&Plan::new(
        provider(1),
        [ClientPlan::new([200, 429, 401].map(ask))],
    ));
    assert_eq!(statuses(&history), [200, 429, 401]);
    assert_eq!(history.leases().count(), 0);
}

#[test]
fn a_revoked_key_is_retired_and_a_reset_tries_it_again() {
    let mut revoked = provider(2);
    revoked.keys[0].revoked = Some((secs(1), 403));
    let asks = [
        ASK,
        RequestPlan::after(secs(2)),
        RequestPlan::after(secs(2)),
        RequestPlan::after(secs(2)),
    ];
    let reset = ResetPlan {
        at: secs(5),
        provider: 0,
        key: 0,
    };
    let plan = Plan {
        resets: vec![reset],
        ..Plan::new(revoked, [ClientPlan::new(asks)])
    };
    let history = run(&plan);
    assert_eq!(statuses(&history), [200; 4]);
    let keys: Vec<_> = history
        .leases()
        .map(|leased| leased.lease.unwrap().1)
        .collect();
    assert_eq!(keys, [0, 0, 1, 1, 0, 1]);
}

#[test]
fn a_bridge_that_shuts_down_admits_nothing_new() {
    let plan = Plan {
        drain: Some(secs(5)),
        ..Plan::new(
            provider(1),
            [ClientPlan::new([ASK, RequestPlan::after(secs(10))])],
        )
    };
    assert_eq!(statuses(&run(&plan)), [200, 503]);
}

#[test]
fn models_call_the_tools_of_every_server() {
    let tool = |fails| ToolPlan {
        latency: secs(3),
        fails,
        ..ToolPlan::default()
    };
    for tools in [vec![tool(false)], vec![tool(false), tool(true)]] {
        let plan = Plan {
            tools: tools.clone(),
            ..Plan::new(provider(1), [ClientPlan::new([ASK])])
        };
        let history = run(&plan);
        let mut used = failures(&history);
        used.sort_unstable();
        assert_eq!(
            used,
            tools.iter().map(|tool| tool.fails).collect::<Vec<_>>()
        );
        assert_eq!(
            (statuses(&history), times(&history)),
            (vec![200], vec![3_000])
        );
    }
}

#[test]
fn what_goes_wrong_at_an_mcp_server_fails_its_call_and_nothing_else() {
    let head = 40;
    for (blip, failed, at) in [
        (Blip::EndAt(0), true, 0),
        (Blip::EndAt(head), true, 0),
        (Blip::Garbage, true, 0),
        (Blip::Limited(30), true, 0),
        (Blip::NoAnswer, true, 10_000),
        (Blip::Refuse, true, 0),
        (Blip::ResetAt(head), true, 0),
        (Blip::ResetAt(160), true, 0),
        (Blip::StallAt(head), true, 60_000),
        (Blip::Status(500), true, 0),
        (Blip::Wait(secs(7)), false, 7_000),
    ] {
        let server = ToolPlan {
            blips: vec![None, Some(blip)],
            cut: Cut::Every(7),
            ..ToolPlan::default()
        };
        let plan = Plan {
            tools: vec![server],
            ..Plan::new(provider(1), [ClientPlan::new([ASK, ASK])])
        };
        let history = run(&plan);
        assert_eq!(statuses(&history), [200, 200]);
        assert_eq!(times(&history), [0, at], "{blip:?}");
        assert_eq!(failures(&history), [false, failed], "{blip:?}");
    }
}

#[test]
fn what_goes_wrong_with_an_mcp_servers_list_takes_its_tool_off_the_offer_for_a_while() {
    for errand in [
        Blip::EndAt(0),
        Blip::Garbage,
        Blip::Refuse,
        Blip::ResetAt(40),
        Blip::Status(500),
    ] {
        let server = ToolPlan {
            errands: vec![Some(errand); 2],
            ..ToolPlan::default()
        };
        let plan = Plan {
            tools: vec![server],
            ..Plan::new(
                provider(1),
                [ClientPlan::new([ASK, RequestPlan::after(secs(5))])],
            )
        };
        let history = run(&plan);
        assert_eq!(statuses(&history), [200, 200]);
        let begun = history.pick(|fact| match fact {
            Fact::Recorded(record) => match &**record {
                Record::ToolUsage(id, _) => Some(id.to_string()),
                _ => None,
            },
            _ => None,
        });
        let callers: Vec<_> = begun.map(|(_, id)| id).collect();
        let second = history.answers().nth(1).unwrap().header("x-aibridge-id");
        assert_eq!(callers, [second.unwrap()], "{errand:?}");
    }
}

#[test]
fn random_worlds_have_all_that_can_happen() {
    let sizes = Sizes::default();
    let (mut seen_statuses, mut seen_outcomes) = (BTreeSet::new(), BTreeSet::new());
    let (mut held, mut failed_tools) = (0, 0);
    for seed in 0..1_500 {
        let history = run(&Plan::draw(seed, sizes));
        seen_statuses.extend(statuses(&history));
        seen_outcomes.extend(outcomes(&history));
        held += history
            .pick(|fact| matches!(fact, Fact::Held(_)).then_some(()))
            .count();
        let failed = failures(&history).into_iter().filter(|failed| *failed);
        failed_tools += failed.count();
    }
    assert!(held >= 20, "long replies held back: {held}");
    assert!(failed_tools >= 20, "calls of tools failed: {failed_tools}");
    for status in [200, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504, 529] {
        assert!(
            seen_statuses.contains(&status),
            "{status} is not in {seen_statuses:?}"
        );
    }
    for outcome in [
        Outcome::Cancelled,
        Outcome::Ok,
        Outcome::RateLimited,
        Outcome::Timeout,
        Outcome::Unauthorized,
        Outcome::UpstreamError,
    ] {
        assert!(
            seen_outcomes.contains(&outcome),
            "{outcome:?} is not in {seen_outcomes:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// Upstream scripts are for simulators without a world around them, too.
    #[test]
    fn every_script_of_replies_answers_every_client(replies in strategies::replies(1..=6)) {
        let script = Script::in_order(replies.clone());
        let mut sim = Sim::new(setup::config(&setup::KEYS), &script);
        let mut asked = 0;
        while asked < replies.len() && script.seen().len() < replies.len() {
            let status = sim.ask(&Ask::new(Api::Messages, false)).status;
            prop_assert!([200, 429, 500, 502, 504, 529].contains(&status), "{status}");
            asked += 1;
        }
        script.abandon();
    }
}

#[test]
fn whatever_is_made_smaller_is_still_a_world() {
    let mut runner = TestRunner::deterministic();
    let mut tree = strategies::plan(Sizes::default())
        .new_tree(&mut runner)
        .unwrap();
    let mut steps = 0;
    while tree.simplify() {
        let plan = tree.current();
        assert!((1..=2).contains(&plan.bridges) && !plan.providers.is_empty());
        for client in &plan.clients {
            assert!(client.bridge < plan.bridges && !client.requests.is_empty());
            assert!(
                client
                    .requests
                    .iter()
                    .all(|request| request.provider < plan.providers.len())
            );
        }
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
    let (smallest, sizes) = (tree.current(), |plan: &Plan| {
        (plan.clients.len(), plan.providers.len())
    });
    assert_eq!(sizes(&smallest), (1, 1), "{smallest:?}");
    assert_eq!(statuses(&run(&smallest)), [200]);
}
