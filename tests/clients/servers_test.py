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

from apis import APIS
from harness import admin, eventually, run

HERE = os.path.dirname(os.path.abspath(__file__))
VENVS = {"py1": ".venv-mcp1", "py2": ".venv"}
MODES = ["stateful-sse", "stateful-json", "stateless-sse", "stateless-json"]
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

    def python_server(self, version, mode, port):
        python = os.path.join(HERE, VENVS[version], "bin", "python")
        script = os.path.join(HERE, "fastmcp_server.py")
        return self.start(f"{version}-{mode}", python, script, mode, str(port))

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


@functools.cache
def port_of(name):
    """A free port, always the same for a name."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def configuration():
    upstream = os.environ["SCRIPTED_UPSTREAM"]
    lines = [
        "[server]",
        f'listen = "127.0.0.1:{port_of("listen")}"',
        f'admin = "127.0.0.1:{port_of("admin")}"',
    ]
    for name, base in (("anthropic", upstream), ("openai", f"{upstream}/v1")):
        lines += ["[[provider]]", f'name = "{name}"', f'api = "{name}"', f'base_url = "{base}"', 'keys = ["good"]']

    def server(name, at, *more):
        lines.extend(["[[mcp]]", f'name = "{name}"', f'url = "http://127.0.0.1:{port_of(at)}/mcp"', *more])

    for version in VENVS:
        for mode in MODES:
            server(f"{version}-{mode}", f"{version}-{mode}")
    server("every", "every")
    server("some", "every", 'allow = "^(echo|get-.*)$"', 'deny = "image|env"')
    server("late", "late")
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
        assert "out of luck" in failure or "Internal" in failure, said


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


def outlives_a_restart_of(version, mode, processes, running):
    """The second request meets a process that knows nothing of the session."""
    name = f"{version}-{mode}"
    up(name)
    for api, ask in asks():
        before = running[name].pid
        assert told(api, ask, f"bmcp_{name}_pid {{}}") == f"pid {before}"
        end(running[name])
        running[name] = processes.python_server(version, mode, port_of(name))
        eventually("the new process listens", lambda: listens(port_of(name)), PATIENCE)
        assert told(api, ask, f"bmcp_{name}_pid {{}}") == f"pid {running[name].pid}"


def offers_the_tools_of_a_server_that_starts_later(processes):
    down = state("late")
    assert down["state"] != "up" and not down["tools"], down
    api = APIS[0]
    assert told(api, api.create, 'bmcp_late_add {"a": 1, "b": 1}') == "There is no tool bmcp_late_add."
    processes.python_server("py2", "late", port_of("late"))
    assert "bmcp_late_add" in offered("late")
    for api, ask in asks():
        assert told(api, ask, 'bmcp_late_add {"a": 1, "b": 1}') == "2"


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def ready():
    with contextlib.suppress(OSError, urllib.error.URLError):
        admin("GET", "/readyz")
        return True
    return False


def main():
    with Processes() as processes:
        running = {}
        for version in VENVS:
            for mode in MODES:
                name = f"{version}-{mode}"
                running[name] = processes.python_server(version, mode, port_of(name))
        every = os.path.join(HERE, "node_modules", ".bin", "mcp-server-everything")
        processes.start("every", every, "streamableHttp", PORT=str(port_of("every")))
        with open(os.path.join(processes.folder, "aibridge.toml"), "w") as file:
            file.write(configuration())
        os.environ["AIBRIDGE_URL"] = f"http://127.0.0.1:{port_of('listen')}"
        os.environ["AIBRIDGE_ADMIN"] = f"http://127.0.0.1:{port_of('admin')}"
        processes.start("aibridge", os.environ["AIBRIDGE"], "serve", "--config", file.name)
        eventually("the bridge is ready", ready)
        cases = [
            ("offers_the_tools_of_a_server_that_starts_later", lambda: offers_the_tools_of_a_server_that_starts_later(processes)),
            ("runs_tools_of_server_everything", runs_tools_of_server_everything),
            ("offers_what_is_allowed_and_not_denied", offers_what_is_allowed_and_not_denied),
        ]
        cases += [(f"runs_tools_of_{name}", functools.partial(runs_tools_of, name)) for name in running]
        cases += [
            (f"outlives_a_restart_of_{version}-{mode}", functools.partial(outlives_a_restart_of, version, mode, processes, running))
            for version, mode in (("py1", "stateful-sse"), ("py2", "stateful-sse"), ("py2", "stateless-json"))
        ]
        failed = run("servers", cases)
        if failed:
            print("--- the bridge's log", processes.log("aibridge")[-5000:], sep="\n")
        return failed


if __name__ == "__main__":
    sys.exit(main())
