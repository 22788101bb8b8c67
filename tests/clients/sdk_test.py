"""The official Python SDKs against the bridge: `tests/clients/run` starts what they talk to.

Each test is a function named as a sentence. Every one of them runs for each of the three APIs.
"""

import asyncio
import sys
import time

import anthropic
import openai

from apis import APIS, PLACEHOLDER
from harness import admin, eventually, expect, run


def key_states(provider):
    providers = admin("GET", "/keys")["providers"]
    keys = next(entry["keys"] for entry in providers if entry["name"] == provider)
    return [key["state"] for key in keys]


def reset(provider):
    """Makes all keys of a pool valid again, whatever ran before."""
    for index in range(len(key_states(provider))):
        admin("POST", f"/keys/{provider}/{index}/reset")


# --- tests -------------------------------------------------------------------------------------------------


def answers_a_blocking_request(api):
    message = api.create(api.client(api.vendor))
    assert api.text(message), message
    assert api.usage(message)[1] > 0, message


def streams_the_same_answer(api):
    client = api.client(api.vendor)
    message = api.final(client)
    assert api.text(message) == api.text(api.create(client)), message
    assert api.usage(message)[1] > 0, message


def hands_over_a_tool_call(api):
    call_id, name, arguments = api.call(api.create(api.client(api.vendor), tools=True))
    assert call_id and name == "get_weather" and arguments["city"], (call_id, name, arguments)


def streams_a_tool_call(api):
    client = api.client(api.vendor)
    _, name, arguments = api.call(api.final(client, tools=True))
    assert (name, arguments) == api.call(api.create(client, tools=True))[1:], arguments


def relays_events_as_they_come(api):
    stream = api.events(api.client(api.vendor), model=f"slow-{api.model}")
    times = [time.monotonic() for _ in stream]
    assert len(times) > 3, times
    assert times[-1] - times[0] > 0.1, f"all at once: {times[-1] - times[0]}"


def cancels_upstream_when_the_client_leaves(api):
    path = "/interceptions?limit=1"
    with api.events(api.client(api.vendor), model=f"slow-{api.model}") as stream:
        next(iter(stream))
        running = admin("GET", path)["interceptions"][0]
        assert running["ended_at"] is None, running

    def cancelled():
        newest = admin("GET", path)["interceptions"][0]
        return newest["id"] == running["id"] and newest["outcome"] == "cancelled"

    eventually("cancelled", cancelled)


def fails_over_to_the_next_key(api):
    provider = f"{api.vendor}-failover"
    for ask in (api.create, api.final):
        reset(provider)
        assert api.text(ask(api.client(provider)))
        assert key_states(provider) == ["temporary", "permanent", "valid"], key_states(provider)


def names_its_record_in_the_reply(api):
    provider = f"{api.vendor}-failover"
    reset(provider)
    reply = api.raw(api.client(provider))
    assert api.text(reply.parse())
    record_id = reply.headers["x-aibridge-id"]
    records = admin("GET", "/interceptions?limit=20")["interceptions"]
    record = next(record for record in records if record["id"] == record_id)
    assert record["outcome"] == "ok" and record["status"] == 200, record
    assert [attempt["status"] for attempt in record["attempts"]] == [429, 401, 200], record
    assert record["usage"]["output_tokens"] == api.usage(reply.parse())[1], record


def says_when_to_come_back_when_all_keys_are_limited(api):
    provider = f"{api.vendor}-limited"
    client = api.client(provider)
    for ask in (api.create, api.final):
        error = expect(api.sdk.RateLimitError, lambda: ask(client))
        assert error.status_code == 429
        assert 1 <= int(error.response.headers["retry-after"]) <= 5, error.response.headers
        assert "all configured keys are rate-limited" in str(error), error
        assert set(key_states(provider)) == {"temporary"}, key_states(provider)


def tells_an_operators_fault_from_the_clients(api):
    provider = f"{api.vendor}-revoked"
    client = api.client(provider)
    for ask in (api.create, api.final):
        error = expect(api.sdk.InternalServerError, lambda: ask(client))
        assert error.status_code == 502, error
        assert "all configured keys failed authentication" in str(error), error


def uses_the_key_that_a_client_brings(api):
    provider = f"{api.vendor}-revoked"
    assert api.text(api.create(api.client(provider, key="good")))


def relays_the_limit_of_a_clients_own_key(api):
    client = api.client(api.vendor, key="limited")
    for ask in (api.create, api.final):
        error = expect(api.sdk.RateLimitError, lambda: ask(client))
        assert error.response.headers["retry-after"] == "5", error.response.headers
    assert key_states(api.vendor) == ["valid"], "the pool has no part in it"


def relays_the_refusal_of_a_clients_own_key(api):
    client = api.client(api.vendor, key="revoked")
    for ask in (api.create, api.final):
        error = expect(api.sdk.AuthenticationError, lambda: ask(client))
        assert error.status_code == 401, error


def serves_many_at_once(api):
    kind = anthropic.AsyncAnthropic if api.sdk is anthropic else openai.AsyncOpenAI
    sync = api.client(api.vendor)

    async def ask_all():
        async with kind(base_url=sync.base_url, api_key=PLACEHOLDER, max_retries=0) as client:
            return await asyncio.gather(*(api.create(client) for _ in range(20)))

    texts = {api.text(message) for message in asyncio.run(ask_all())}
    assert texts == {api.text(api.create(sync))}, texts


TESTS = [
    answers_a_blocking_request,
    streams_the_same_answer,
    hands_over_a_tool_call,
    streams_a_tool_call,
    relays_events_as_they_come,
    cancels_upstream_when_the_client_leaves,
    fails_over_to_the_next_key,
    names_its_record_in_the_reply,
    says_when_to_come_back_when_all_keys_are_limited,
    tells_an_operators_fault_from_the_clients,
    uses_the_key_that_a_client_brings,
    relays_the_limit_of_a_clients_own_key,
    relays_the_refusal_of_a_clients_own_key,
    serves_many_at_once,
]


def main():
    return run("python", [
        (f"{api.name} {test.__name__}", lambda api=api, test=test: test(api))
        for api in APIS
        for test in TESTS
    ])


if __name__ == "__main__":
    sys.exit(main())
