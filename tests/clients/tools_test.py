"""Injected tools, as the official Python SDKs see them: one answer, whatever the bridge did for it.

The bridge of these tests has the MCP server `every` (`@modelcontextprotocol/server-everything`); the scripted model makes the
calls that its prompt lists, one a turn, and then tells what the tools said. See README.md.
"""

import sys

from apis import APIS
from harness import admin, eventually, expect, run

SUM = ('call bmcp_every_get-sum {"a": 2, "b": 40}', "The sum of 2 and 40 is 42.")
ECHO = ('call bmcp_every_echo {"message": "Grüezi, \\"Bern\\"\\n"}', 'Echo: Grüezi, "Bern"\n')
WRONG = ('call bmcp_every_get-sum {"a": "two"}', "MCP error -32602: Input validation error")
LONG = 'call bmcp_every_trigger-long-running-operation {"duration": 20, "steps": 20}'
OWN = 'call get_weather {"city": "Bern"}'


def answer(api, plan, streamed):
    """The text of a whole answer. Turns before the last are left out where the API has no place for them."""
    last = "The tools said: " + " | ".join(said for _, said in plan)
    is_told = api.name == "Messages" or (api.name == "ChatCompletions" and streamed)
    asked = [f"I ask {call.split(' ')[1]}. " for call, _ in plan]
    return "".join([*asked, last]) if is_told else last


def tokens(turns):
    """What the turns use together, input and output."""
    total = sum(range(1, turns + 1))
    return 1000 * total, 10 * total


def check(api, plan):
    client = api.client(api.vendor)
    prompt = "\n".join(call for call, _ in plan)
    for ask in (api.create, api.final):
        message = ask(client, prompt=prompt)
        assert api.text(message) == answer(api, plan, ask == api.final), message
        assert api.usage(message) == tokens(len(plan) + 1), message
        assert api.stop(message) == api.end, message


def runs_a_tool_and_answers(api):
    check(api, [SUM])


def adds_up_several_turns(api):
    check(api, [SUM, ECHO, ECHO, SUM])


def keeps_letters_and_escapes_whole(api):
    check(api, [ECHO])


def tells_the_model_what_was_wrong(api):
    client = api.client(api.vendor)
    for ask in (api.create, api.final):
        message = ask(client, prompt=WRONG[0])
        assert WRONG[1] in api.text(message), message
        # Only one of the APIs has a word for it.
        assert ("(failed)" in api.text(message)) == (api.name == "Messages"), message
        assert api.stop(message) == api.end, message


def hands_over_the_clients_own_call_after_an_injected_one(api):
    client = api.client(api.vendor)
    for ask in (api.create, api.final):
        message = ask(client, tools=True, prompt=f"{SUM[0]}\n{OWN}")
        assert api.call(message)[1:] == ("get_weather", {"city": "Bern"}), message
        assert api.usage(message) == tokens(2), message


def runs_a_tool_after_the_clients_own_call(api):
    client = api.client(api.vendor)
    for ask in (api.create, api.final):
        prompt = f"{OWN}\n{SUM[0]}"
        message = ask(client, tools=True, prompt=prompt)
        since = api.returned(message, "Rain.")
        message = ask(client, tools=True, prompt=prompt, since=since)
        assert api.text(message).endswith(f"The tools said: Rain. | {SUM[1]}"), message
        assert api.stop(message) == api.end, message


def names_each_call_in_the_record(api):
    reply = api.raw(api.client(api.vendor), prompt=f"{SUM[0]}\n{WRONG[0]}")
    record_id = reply.headers["x-aibridge-id"]
    records = admin("GET", "/interceptions?limit=20")["interceptions"]
    record = next(record for record in records if record["id"] == record_id)
    assert record["outcome"] == "ok", record
    calls = [(tool["name"], tool["server"], tool["injected"]) for tool in record["tools"]]
    assert calls == [("bmcp_every_get-sum", "every", True)] * 2, record


def gives_up_on_a_tool_when_the_client_leaves(api):
    client = api.client(api.vendor).with_options(timeout=0.5)
    for ask in (api.create, api.final):
        # Within a stream, one library lets the error of what it is built on through.
        error = expect(Exception, lambda: ask(client, prompt=LONG))
        assert "timed out" in str(error), error
        path = "/interceptions?limit=1"
        eventually(
            "cancelled, long before the tool is done",
            lambda: admin("GET", path)["interceptions"][0]["outcome"] == "cancelled",
            seconds=5,
        )


TESTS = [
    runs_a_tool_and_answers,
    adds_up_several_turns,
    keeps_letters_and_escapes_whole,
    tells_the_model_what_was_wrong,
    hands_over_the_clients_own_call_after_an_injected_one,
    runs_a_tool_after_the_clients_own_call,
    names_each_call_in_the_record,
    gives_up_on_a_tool_when_the_client_leaves,
]


def main():
    return run("python tools", [
        (f"{api.name} {test.__name__}", lambda api=api, test=test: test(api))
        for api in APIS
        for test in TESTS
    ])


if __name__ == "__main__":
    sys.exit(main())
