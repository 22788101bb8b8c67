"""The official Python SDKs against the bridge: `tests/clients/run` starts what they talk to.

Each test is a function named as a sentence. Every one of them runs for each of the three APIs, which the
classes at the top make look alike.
"""

import asyncio
import json
import os
import sys
import time
import traceback
import urllib.request

import anthropic
import openai

BRIDGE = os.environ["AIBRIDGE_URL"]
ADMIN = os.environ["AIBRIDGE_ADMIN"]
PLACEHOLDER = "aibridge"  # whoever shows it uses the pool's keys
PROMPT = "What is the weather in Bern?"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


class Messages:
    vendor, sdk, model = "anthropic", anthropic, "claude-fixture-1"

    def client(self, provider, key=PLACEHOLDER):
        return anthropic.Anthropic(base_url=f"{BRIDGE}/{provider}", api_key=key, max_retries=0)

    def arguments(self, model=None, tools=False):
        arguments = {
            "model": model or self.model,
            "max_tokens": 256,
            "messages": [{"role": "user", "content": PROMPT}],
        }
        if tools:
            arguments["tools"] = [
                {"name": "get_weather", "description": "Weather now", "input_schema": SCHEMA}
            ]
        return arguments

    def create(self, client, **options):
        return client.messages.create(**self.arguments(**options))

    def raw(self, client, **options):
        return client.messages.with_raw_response.create(**self.arguments(**options))

    def text(self, message):
        return "".join(block.text for block in message.content if block.type == "text")

    def call(self, message):
        assert message.stop_reason == "tool_use", message
        block = next(block for block in message.content if block.type == "tool_use")
        return block.id, block.name, block.input

    def events(self, client, **options):
        return client.messages.create(stream=True, **self.arguments(**options))

    def final(self, client, **options):
        with client.messages.stream(**self.arguments(**options)) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        assert text == self.text(message), (text, message)
        return message

    def output_tokens(self, message):
        return message.usage.output_tokens


class ChatCompletions:
    vendor, sdk, model = "openai", openai, "gpt-5.1"

    def client(self, provider, key=PLACEHOLDER):
        return openai.OpenAI(base_url=f"{BRIDGE}/{provider}/v1", api_key=key, max_retries=0)

    def arguments(self, model=None, tools=False):
        arguments = {
            "model": model or self.model,
            "messages": [{"role": "user", "content": PROMPT}],
        }
        if tools:
            function = {"name": "get_weather", "description": "Weather now", "parameters": SCHEMA}
            arguments["tools"] = [{"type": "function", "function": function}]
        return arguments

    def create(self, client, **options):
        return client.chat.completions.create(**self.arguments(**options))

    def raw(self, client, **options):
        return client.chat.completions.with_raw_response.create(**self.arguments(**options))

    def text(self, completion):
        return completion.choices[0].message.content or ""

    def call(self, completion):
        assert completion.choices[0].finish_reason == "tool_calls", completion
        call = completion.choices[0].message.tool_calls[0]
        return call.id, call.function.name, json.loads(call.function.arguments)

    def events(self, client, **options):
        return client.chat.completions.create(stream=True, **self.arguments(**options))

    def final(self, client, **options):
        usage = {"stream_options": {"include_usage": True}}
        with client.chat.completions.stream(**self.arguments(**options), **usage) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
            completion = stream.get_final_completion()
        assert text == self.text(completion), (text, completion)
        return completion

    def output_tokens(self, completion):
        return completion.usage.completion_tokens


class Responses(ChatCompletions):
    def arguments(self, model=None, tools=False):
        arguments = {"model": model or self.model, "input": PROMPT}
        if tools:
            function = {"name": "get_weather", "description": "Weather now", "parameters": SCHEMA}
            arguments["tools"] = [{"type": "function", "strict": False, **function}]
        return arguments

    def create(self, client, **options):
        return client.responses.create(**self.arguments(**options))

    def raw(self, client, **options):
        return client.responses.with_raw_response.create(**self.arguments(**options))

    def text(self, response):
        return response.output_text

    def call(self, response):
        assert response.status == "completed", response
        call = next(item for item in response.output if item.type == "function_call")
        return call.call_id, call.name, json.loads(call.arguments)

    def events(self, client, **options):
        return client.responses.create(stream=True, **self.arguments(**options))

    def final(self, client, **options):
        arguments = self.arguments(**options)
        with client.responses.stream(**arguments) as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            response = stream.get_final_response()
        assert "".join(deltas) == self.text(response), (deltas, response)
        return response

    def output_tokens(self, response):
        return response.usage.output_tokens


# --- helpers -----------------------------------------------------------------------------------------------


def admin(method, path):
    request = urllib.request.Request(f"{ADMIN}{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read() or b"null")


def key_states(provider):
    providers = admin("GET", "/keys")["providers"]
    keys = next(entry["keys"] for entry in providers if entry["name"] == provider)
    return [key["state"] for key in keys]


def reset(provider):
    """Makes all keys of a pool valid again, whatever ran before."""
    for index in range(len(key_states(provider))):
        admin("POST", f"/keys/{provider}/{index}/reset")


def expect(error, action):
    try:
        result = action()
    except error as caught:
        return caught
    raise AssertionError(f"no {error.__name__}, but {result!r}")


def eventually(what, holds):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


# --- tests -------------------------------------------------------------------------------------------------


def answers_a_blocking_request(api):
    message = api.create(api.client(api.vendor))
    assert api.text(message), message
    assert api.output_tokens(message) > 0, message


def streams_the_same_answer(api):
    client = api.client(api.vendor)
    message = api.final(client)
    assert api.text(message) == api.text(api.create(client)), message
    assert api.output_tokens(message) > 0, message


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
    assert record["usage"]["output_tokens"] == api.output_tokens(reply.parse()), record


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
    passed = failed = 0
    for api in (Messages(), ChatCompletions(), Responses()):
        for test in TESTS:
            name = f"python {type(api).__name__} {test.__name__}"
            try:
                test(api)
            except Exception:
                failed += 1
                print(f"FAILED {name}")
                traceback.print_exc(file=sys.stdout)
            else:
                passed += 1
                print(f"ok {name}")
    print(f"python: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
