#!/usr/bin/env python3
"""What the conformance suite runs as the client, with the URL of a server as its last argument.

It is the core's example (MCP_CLIENT names it), told which tools a scenario wants called.
"""

import json
import os
import subprocess
import sys

CLIENT, URL = os.environ["MCP_CLIENT"], sys.argv[-1]


def asked():
    """The calls that the suite asks for itself."""
    context = json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])
    return [(call["name"], call["arguments"]) for call in context["toolCalls"]]


def listed_schema():
    """A schema goes back to the server as it was listed, for comparison."""
    tools = subprocess.run([CLIENT, URL], capture_output=True, text=True, check=True).stdout
    tools = dict(line.split(" ", 1) for line in tools.splitlines())
    return [("json_schema_echo", {"schema": json.loads(tools["json_schema_2020_12_tool"])})]


CALLS = {
    "http-custom-headers": asked,
    "http-invalid-tool-headers": lambda: [("valid_tool", {"region": "north"})],
    "http-standard-headers": lambda: [("test_headers", {})],
    "json-schema-2020-12-preservation": listed_schema,
    "sse-retry": lambda: [("test_reconnection", {})],
    "tools_call": lambda: [("add_numbers", {"a": 5, "b": 3})],
}

calls = CALLS.get(os.environ["MCP_CONFORMANCE_SCENARIO"], list)()
words = (word for name, arguments in calls for word in (name, json.dumps(arguments)))
os.execv(CLIENT, [CLIENT, URL, *words])
