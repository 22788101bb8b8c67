//! Laws of replies with histories that break them.

use aibridge_core::api::Vendor;

use super::*;

fn is_ended(fact: &Fact) -> bool {
    matches!(fact, Fact::Recorded(record) if matches!(**record, Record::Ended(..)))
}

/// The body of the first reply, changed.
fn reply(history: &mut History, edit: impl Fn(Vec<u8>) -> Vec<u8>) {
    change(history, |fact| match fact {
        Fact::Answered(Some(answer), Ending::Complete) => {
            answer.body = edit(answer.body.to_vec()).into();
            Some(())
        }
        _ => None,
    });
}

/// A client that asks once, and a provider that ends the connection after so many bytes of its
/// reply.
fn broken_off(streaming: bool, at: usize) -> History {
    let provider = ProviderPlan {
        blips: vec![Some(Blip::EndAt(at))],
        ..ProviderPlan::new([KeyPlan::default()])
    };
    let request = RequestPlan {
        streaming,
        ..RequestPlan::after(Duration::ZERO)
    };
    let plan = Plan::new(provider, [ClientPlan::new([request])]);
    World::new(&plan, Arc::new(Failover::default())).run()
}

#[test]
fn no_secret_leaves_to_a_client_a_record_a_log_or_another_field() {
    let secret = History::key(0, 1);
    breaks(no_secret_leaves, "to a client", |history| {
        let (begin, end) = secret.split_at(8);
        for part in [begin, end] {
            let bytes = Fact::Delivered(Bytes::from(part.to_owned()));
            before(history, bytes, |fact| matches!(fact, Fact::Asked(_)));
        }
    });
    breaks(no_secret_leaves, "debug form", |history| {
        history.log += &secret;
    });
    breaks(no_secret_leaves, "on record", |history| {
        change(history, |fact| match fact {
            Fact::Recorded(record) => match &mut **record {
                Record::Ended(_, ended) => {
                    ended.error = Some(secret.clone());
                    Some(())
                }
                _ => None,
            },
            _ => None,
        });
    });
    let called = |history: &mut History, edit: &dyn Fn(&mut crate::Seen)| {
        change(history, |fact| match fact {
            Fact::Called(call) => {
                edit(&mut call.seen);
                Some(())
            }
            _ => None,
        });
    };
    let value = http::HeaderValue::try_from(&secret).unwrap();
    breaks(no_secret_leaves, "in the field cookie", |history| {
        called(history, &|seen| {
            seen.headers.insert("cookie", value.clone());
        });
    });
    breaks(no_secret_leaves, "is sent twice", |history| {
        called(history, &|seen| {
            seen.headers.insert("authorization", value.clone());
        });
    });
    breaks(no_secret_leaves, "in a path", |history| {
        called(history, &|seen| seen.path += &secret);
    });
    breaks(no_secret_leaves, "in a body", |history| {
        called(history, &|seen| seen.body = secret.clone().into());
    });
}

#[test]
fn every_interception_ends_once() {
    breaks(ends_once, "ends twice", |history| twice(history, is_ended));
    breaks(ends_once, "before its interception has ended", |history| {
        without(history, is_ended);
    });
    breaks(ends_once, "no end on record", |history| {
        without(history, |fact| {
            is_ended(fact) || matches!(fact, Fact::Answered(..))
        });
    });
    breaks(ends_once, "the client got 200", |history| {
        change(history, |fact| match fact {
            Fact::Recorded(record) => match &mut **record {
                Record::Ended(_, ended) => {
                    ended.status = Some(502);
                    Some(())
                }
                _ => None,
            },
            _ => None,
        });
    });
    breaks(ends_once, "waits for ever", |history| {
        let waits = Fact::Answered(None, Ending::Waiting);
        before(history, waits, is_ended);
    });
    breaks(ends_once, "broke", |history| {
        before(history, Fact::Wrong("it broke".to_owned()), is_ended);
    });
}

#[test]
fn what_is_relayed_is_a_copy() {
    breaks(relays_exactly, "the client got only", |history| {
        reply(history, |body| body[..body.len() - 1].to_vec());
    });
    breaks(relays_exactly, "behind ", |history| {
        reply(history, |mut body| {
            body.remove(200);
            body
        });
    });
    breaks(relays_exactly, "behind ", |history| {
        reply(history, |body| [&body[..], &body[..]].concat());
    });
    breaks(
        relays_exactly,
        "upstream said 200, the client got 201",
        |history| {
            change(history, |fact| match fact {
                Fact::Answered(Some(answer), _) => {
                    answer.status = 201;
                    Some(())
                }
                _ => None,
            });
        },
    );
    // Keep-alives are the bridge's own.
    let mut history = history();
    reply(&mut history, |body| {
        let ping = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";
        [&ping[..], &body].concat()
    });
    assert_eq!(relays_exactly(&history), Ok(()));
}

/// From what was copied and the error event after it, to what is told instead.
type Edit<'a> = &'a dyn Fn(&[u8], &[u8]) -> Vec<u8>;

#[test]
fn where_upstream_breaks_off_there_is_one_error_and_nothing_else() {
    // In the middle of an event, and right after the head.
    for at in [700, 0] {
        let broken = || broken_off(true, 200 + at);
        let error = b"event: error\ndata: ";
        let with = |history: &mut History, edit: Edit<'_>| {
            reply(history, |body| {
                let from = memchr::memmem::find(&body, error).expect("an error event");
                let (copy, error) = body.split_at(from);
                edit(copy, error)
            });
        };
        let law = relays_exactly;
        breaks_in(broken(), law, "is not told", |history| {
            with(history, &|copy, _| {
                let close = b"\nevent: ping\n\n";
                copy.strip_suffix(close).unwrap_or(copy).to_vec()
            });
        });
        breaks_in(broken(), law, "behind ", |history| {
            let junk = b"data: junk that upstream never sent\n\n";
            with(history, &|copy, error| [copy, junk, error].concat());
        });
        breaks_in(broken(), law, "behind ", |history| {
            with(history, &|copy, error| [copy, error, error].concat());
        });
        breaks_in(broken(), law, "behind ", |history| {
            with(history, &|copy, error| {
                [copy, &error[..40], b"\n\n"].concat()
            });
        });
    }
    // An event that is begun is to be ended first.
    breaks_in(
        broken_off(true, 900),
        relays_exactly,
        "behind ",
        |history| {
            reply(history, |body| {
                let text = String::from_utf8(body).unwrap();
                text.replace("\nevent: ping\n\n", "").into()
            });
        },
    );
}

#[test]
fn where_only_the_end_of_openais_last_event_is_missing_there_is_no_error() {
    let run = |blips: Vec<Option<Blip>>| {
        let provider = ProviderPlan {
            vendor: Vendor::OpenAi,
            blips,
            ..ProviderPlan::new([KeyPlan::default()])
        };
        let request = RequestPlan {
            responses: true,
            streaming: true,
            ..RequestPlan::after(Duration::ZERO)
        };
        let plan = Plan::new(provider, [ClientPlan::new([request])]);
        World::new(&plan, Arc::new(Failover::default())).run()
    };
    let sent = run(Vec::new()).entries.into_iter();
    let sent = sent.filter_map(|entry| match entry.fact {
        Fact::Sent(_, bytes) => Some(bytes),
        _ => None,
    });
    let sent = sent.collect::<Vec<_>>().concat();
    let end = memchr::memmem::rfind(&sent, b"\n\n\r\n0\r\n\r\n").expect("the last event");
    assert_eq!(relays_exactly(&run(vec![Some(Blip::EndAt(end))])), Ok(()));
    // A byte less, and it is not all there.
    let broken = || run(vec![Some(Blip::EndAt(end - 1))]);
    breaks_in(broken(), relays_exactly, "behind ", |history| {
        reply(history, |body| {
            let error = memchr::memmem::find(&body, b"event: error\n").expect("an error event");
            body[..error].to_vec()
        });
    });
}

#[test]
fn a_reply_ends_as_upstreams_does() {
    let end = |history: &mut History, to: Ending| {
        change(history, |fact| match fact {
            Fact::Answered(_, ending) => {
                *ending = to;
                Some(())
            }
            _ => None,
        });
    };
    breaks(relays_exactly, "is cut off", |history| {
        end(history, Ending::Closed);
    });
    breaks_in(
        broken_off(false, 300),
        relays_exactly,
        "is not told",
        |history| end(history, Ending::Complete),
    );
}

#[test]
fn tokens_and_secrets_of_servers_are_looked_for_too() {
    let world = || {
        let tool = ToolPlan::default();
        let ask = RequestPlan::after(Duration::ZERO);
        let own = RequestPlan {
            credential: Credential::Own(200),
            ..ask
        };
        let clients = [ClientPlan::new([ask, own]), ClientPlan::new([ask, own])];
        let plan = Plan {
            tokens: true,
            tools: vec![tool.clone(), tool],
            ..Plan::new(ProviderPlan::new([KeyPlan::default()]), clients)
        };
        World::new(&plan, Arc::new(Failover::default()))
            .traced()
            .run()
    };
    let answers = world()
        .answers()
        .map(|answer| answer.status)
        .collect::<Vec<_>>();
    assert_eq!(answers, [200; 4]);
    let token = http::HeaderValue::try_from(History::token(0)).unwrap();
    breaks_in(world(), no_secret_leaves, "x-aibridge-token", |history| {
        change(history, |fact| match fact {
            Fact::Called(call) if call.provider.is_some() => {
                call.seen.headers.insert("x-aibridge-token", token.clone());
                Some(())
            }
            _ => None,
        });
    });
    breaks_in(world(), no_secret_leaves, "authorization", |history| {
        let (name, of_another) = History::server_field(0);
        change(history, |fact| match fact {
            Fact::Called(call) if call.seen.headers.contains_key("x-tool-key") => {
                let value = http::HeaderValue::try_from(&of_another).unwrap();
                call.seen.headers.insert(name.clone(), value);
                Some(())
            }
            _ => None,
        });
    });
    breaks_in(world(), no_secret_leaves, "is in a trace", |history| {
        history.traces[0].extend_from_slice(History::token(0).as_bytes());
    });
}
