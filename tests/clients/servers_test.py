"""Real MCP servers behind the bridge: those of the official Python library in all its modes, and server-everything.

This test starts the servers and a bridge of its own, because it also ends and restarts them. The official SDKs ask; the
scripted model calls what its prompt lists, and tells what the tools said.
"""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error

from apis import APIS, CHAT, MESSAGES, RESPONSES
from harness import admin, eventually, run

HERE = os.path.dirname(os.path.abspath(__file__))
LATE = "py2-late"
VENVS = {"py1": ".venv-mcp1", "py2": ".venv"}
EVERYTHING = "node_modules", ".bin", "mcp-server-everything"
MODES = ["stateful-sse", "stateful-json", "stateless-sse", "stateless-json"]
PYTHON_SERVERS = [f"{version}-{mode}" for version in VENVS for mode in MODES]
PATIENCE = 60  # seconds for a server to come up on a busy machine


class Processes(contextlib.ExitStack):
    """What was started, and ends with the test."""

    def __init__(self):
        super().__init__()
        self.folder = self.enter_context(tempfile.TemporaryDirectory())

    def start(self, name, *command, **environment):
        with open(os.path.join(self.folder, name), "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **environment},
            )
        self.callback(end, process)
        return process

    def mcp_server(self, name):
        """The server of this name, at its port."""
        port = str(PORTS[name])
        if name == "every":
            return self.start(name, os.path.join(HERE, *EVERYTHING), "streamableHttp", PORT=port)
        version, _, mode = name.partition("-")
        python = os.path.join(HERE, VENVS[version], "bin", "python")
        return self.start(name, python, os.path.join(HERE, "fastmcp_server.py"), mode, port)

    def log(self, name):
        with open(os.path.join(self.folder, name), errors="replace") as log:
            return log.read()


def end(process):
    """Ends it for sure: politely, then not."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def free_ports(names):
    """A port for each, all of them taken before the first is let go, or two could get the same."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in names]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return {name: held.getsockname()[1] for name, held in zip(names, sockets)}


PORTS = free_ports(["listen", "admin", "every", LATE, *PYTHON_SERVERS])


def configuration():
    upstream = os.environ["SCRIPTED_UPSTREAM"]
    lines = [
        "[server]",
        f'listen = "127.0.0.1:{PORTS["listen"]}"',
        f'admin = "127.0.0.1:{PORTS["admin"]}"',
    ]
    for name, base in (("anthropic", upstream), ("openai", f"{upstream}/v1")):
        lines += ["[[provider]]", f'name = "{name}"', f'api = "{name}"', f'base_url = "{base}"', 'keys = ["good"]']

    def server(name, at, *more):
        lines.extend(["[[mcp]]", f'name = "{name}"', f'url = "http://127.0.0.1:{PORTS[at]}/mcp"', *more])

    for name in PYTHON_SERVERS:
        server(name, name)
    server("every", "every")
    server("some", "every", 'allow = "^(echo|get-.*)$"', 'deny = "image|env"')
    server("late", LATE)
    return "\n".join(lines)


def state(name):
    servers = admin("GET", "/tools")["servers"]
    return next(server for server in servers if server["name"] == name)


def up(name, seconds=PATIENCE):
    return eventually(
        f"{name} is up",
        lambda: (known := state(name))["state"] == "up" and known,
        seconds,
    )


def offered(name):
    """The tools of a server by the names that models see, once it is up."""
    return {tool["name"] for tool in up(name)["tools"]}


def asks():
    """All three APIs, blocking and streamed."""
    for api in APIS:
        for ask in (api.create, api.final):
            yield api, ask


def told(api, ask, *calls):
    """What the tools said, in a whole answer."""
    message = ask(api.client(api.vendor), prompt="\n".join(f"call {call}" for call in calls))
    assert api.stop(message) == api.end, message
    return api.text(message).partition("The tools said: ")[2] or api.text(message)


# --- tests -------------------------------------------------------------------------------------------------


def runs_tools_of(name):
    tool = f"bmcp_{name}_"
    assert offered(name) == {f"{tool}{own}" for own in ("add", "boom", "pid", "slow")}, state(name)
    for nth, (api, ask) in enumerate(asks()):
        said = told(api, ask, f'{tool}add {{"a": 40, "b": {nth}}}', f"{tool}slow {{}}", f"{tool}boom {{}}")
        total, slept, failure = said.split(" | ")
        assert (total, slept) == (str(40 + nth), "slept"), said
        # One version tells why, the other only that.
        assert "executing tool boom" in failure, said


def runs_tools_of_server_everything():
    assert {"bmcp_every_echo", "bmcp_every_get-sum", "bmcp_every_get-tiny-image"} <= offered("every")
    for api, ask in asks():
        said = told(
            api,
            ask,
            'bmcp_every_echo {"message": "over the bridge"}',
            'bmcp_every_trigger-long-running-operation {"duration": 0.4, "steps": 4}',
            "bmcp_every_get-tiny-image {}",
        )
        echo, long, image = said.split(" | ")
        assert echo == "Echo: over the bridge", said
        assert long.startswith("Long running operation completed"), said
        # Messages can show a model the image; the others get the result as text.
        assert ("[image]" in image) == (api.name == "Messages"), image[:200]


def offers_what_is_allowed_and_not_denied():
    names = offered("some")
    assert {"bmcp_some_echo", "bmcp_some_get-sum"} <= names, names
    assert all(name.startswith(("bmcp_some_echo", "bmcp_some_get-")) for name in names), names
    assert not any("image" in name or "env" in name for name in names), names
    for api, ask in asks():
        assert told(api, ask, 'bmcp_some_echo {"message": "yes"}') == "Echo: yes"
        assert told(api, ask, "bmcp_some_get-env {}") == "There is no tool bmcp_some_get-env."


def outlives_a_restart_of(name, processes, running):
    """The second request meets a process that knows nothing of the session."""
    up(name)
    for api, ask in ((MESSAGES, MESSAGES.final), (CHAT, CHAT.create), (RESPONSES, RESPONSES.final)):
        answers_itself(api, ask, name, running[name])
        end(running[name])
        running[name] = processes.mcp_server(name)
        eventually("the new process listens", lambda: listens(PORTS[name]), PATIENCE)
        answers_itself(api, ask, name, running[name])


def answers_itself(api, ask, name, process):
    call, answer = f"bmcp_{name}_pid {{}}", f"pid {process.pid}"
    if name == "every":  # it has no tool that would tell
        call, answer = f'bmcp_every_echo {{"message": "{answer}"}}', f"Echo: {answer}"
    said = told(api, ask, call)
    assert said == answer, said


def offers_the_tools_of_a_server_while_it_runs(processes):
    down = state("late")
    assert down["state"] != "up" and not down["tools"], down
    call, none = 'bmcp_late_add {"a": 1, "b": 1}', "There is no tool bmcp_late_add."
    for api, ask in asks():
        assert told(api, ask, call) == none
    server = processes.mcp_server(LATE)
    assert "bmcp_late_add" in offered("late")
    for api, ask in asks():
        assert told(api, ask, call) == "2"
    end(server)
    for api, ask in asks():
        said = told(api, ask, call)
        assert said == none or "Error: calling tool: " in said, said


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def ready():
    with contextlib.suppress(OSError, urllib.error.URLError):
        admin("GET", "/readyz")
        return True
    return False


def case(test, *words, **objects):
    return " ".join([test.__name__, *words]), functools.partial(test, *words, **objects)


def cases(processes, running):
    yield case(offers_the_tools_of_a_server_while_it_runs, processes=processes)
    yield case(runs_tools_of_server_everything)
    yield case(offers_what_is_allowed_and_not_denied)
    for name in PYTHON_SERVERS:
        yield case(runs_tools_of, name)
    for name in ("every", "py1-stateful-sse", "py1-stateless-json", "py2-stateful-sse"):
        yield case(outlives_a_restart_of, name, processes=processes, running=running)


def main():
    # A caller that loses patience must not leave anything behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Processes() as processes:
        running = {name: processes.mcp_server(name) for name in ["every", *PYTHON_SERVERS]}
        with open(os.path.join(processes.folder, "aibridge.toml"), "w") as file:
            file.write(configuration())
        os.environ["AIBRIDGE_URL"] = f"http://127.0.0.1:{PORTS['listen']}"
        os.environ["AIBRIDGE_ADMIN"] = f"http://127.0.0.1:{PORTS['admin']}"
        processes.start("aibridge", os.environ["AIBRIDGE"], "serve", "--config", file.name)
        eventually("the bridge is ready", ready)
        failed = run("servers", cases(processes, running))
        if failed:
            print("--- the bridge's log", processes.log("aibridge")[-5000:], sep="\n")
        return failed


if __name__ == "__main__":
    sys.exit(main())
