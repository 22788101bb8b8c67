"""A provider, an MCP server and clients that all misbehave, around an aibridge that is watched meanwhile.

Everything is in this one process but the bridge, on 127.0.0.1, and ends by itself. See benches/soak/run.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import re
import sys
import time
import urllib.request

# Resident memory may grow by this much after the warm-up. It is looked at while nobody asks: what is in flight is no leak.
GROWTH = 0.05
# The warm-up lasts until all that may fill has filled, however slow the machine is: SQLite's cache, the largest, takes 16 MiB of records.
WARM = 15_000
# An allocator holds a few megabytes more or less from one minute to the next. A leak is what has not gone in any of so many rounds.
ROUNDS = 3
EVENTS = 20
CONTINUED = re.compile(rb'"tool_result"|"role": ?"tool"|"function_call_output"')

# --- the provider, and its tools ------------------------------------------------------------------------


def http(status, body, *fields):
    head = "\r\n".join([f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *fields])
    return f"{head}\r\n\r\n{body}".encode()


def message(content, stop):
    usage = {"input_tokens": 20, "output_tokens": 10}
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": stop, "usage": usage}


def events(call):
    """The events of a stream, as Anthropic sends them."""
    start = message([], None)
    yield "message_start", {"type": "message_start", "message": start}
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for number in range(EVENTS):
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"word {number} "}}
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    if call:
        block = {"type": "tool_use", "id": "toolu_1", "name": "bmcp_soak_add", "input": {}}
        yield "content_block_start", {"type": "content_block_start", "index": 1, "content_block": block}
        delta = {"type": "input_json_delta", "partial_json": '{"a":1,"b":2}'}
        yield "content_block_delta", {"type": "content_block_delta", "index": 1, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": 1}
    stop = "tool_use" if call else "end_turn"
    yield "message_delta", {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 10}}
    yield "message_stop", {"type": "message_stop"}


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


class Provider:
    """Serves, mostly; and in one of five requests does what providers do on bad days."""

    def __init__(self, rng):
        self.rng, self.served, self.writers = rng, 0, set()

    async def converse(self, reader, writer):
        self.writers.add(writer)
        try:
            while head := await read_head(reader):
                body = await reader.readexactly(length(head))
                self.served += 1
                if b"/mcp " in head.split(b"\r\n")[0]:
                    writer.write(self.tool(json.loads(body or b"null")))
                elif not await self.answer(writer, body):
                    break
                await writer.drain()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def answer(self, writer, body):
        """Whether the connection can be used again."""
        streams = b'"stream": true' in body
        call = b"bmcp_soak_add" in body and not CONTINUED.search(body) and self.rng.random() < 0.3
        fault = self.rng.random()
        if fault < 0.01:
            writer.write(http("429 Too Many", '{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}', "retry-after: 1"))
        elif fault < 0.06:
            status = self.rng.choice(["500 Internal", "503 Unavailable", "529 Overloaded", "400 Bad Request"])
            writer.write(http(status, '{"type":"error","error":{"type":"api_error","message":"bad day"}}'))
        elif fault < 0.08:
            writer.write(self.rng.choice([b"\x16\x03\x01\x00", b"HTTP/9 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", b"\r\n" * 99]))
            return False
        elif fault < 0.10:
            writer.transport.abort()
            return False
        elif streams:
            return await self.stream(writer, call)
        else:
            content = [{"type": "text", "text": "Hello."}]
            if call:
                content.append({"type": "tool_use", "id": "toolu_1", "name": "bmcp_soak_add", "input": {"a": 1, "b": 2}})
            body = json.dumps(message(content, "tool_use" if call else "end_turn"))
            cut = len(body) // 2 if self.rng.random() < 0.02 else None
            reply = http("200 OK", body)
            writer.write(reply[: -cut] if cut else reply)
            return not cut
        return True

    async def stream(self, writer, call):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        breaks = self.rng.randrange(EVENTS) if self.rng.random() < 0.08 else None
        for number, (name, data) in enumerate(events(call)):
            if number == breaks:
                await writer.drain()
                how = self.rng.choice(["abort", "end", "stall", "error"])
                if how == "stall":
                    await asyncio.sleep(3)  # longer than the bridge's idle_timeout
                if how == "error":
                    data = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
                    writer.write(chunk(f"event: error\ndata: {json.dumps(data)}\n\n".encode()) + b"0\r\n\r\n")
                    return True
                if how == "abort":
                    writer.transport.abort()
                return False
            writer.write(chunk(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()))
            if number % 5 == 0:
                await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        return True

    def tool(self, request):
        method, number = request.get("method", ""), request.get("id")
        if method.startswith("notifications/"):
            return http("202 Accepted", "")
        if method == "initialize":
            result = {"protocolVersion": request["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "soak", "version": "1"}}
        elif method == "tools/list":
            result = {"tools": [{"name": "add", "inputSchema": {"type": "object"}}]}
        elif method == "tools/call":
            if self.rng.random() < 0.1:
                return self.rng.choice([http("500 Internal", ""), http("404 Not Found", ""), http("200 OK", "{")])
            result = {"content": [{"type": "text", "text": "3"}], "isError": self.rng.random() < 0.1}
        else:
            return http("200 OK", json.dumps({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "no"}}))
        return http("200 OK", json.dumps({"jsonrpc": "2.0", "id": number, "result": result}))


async def read_head(reader):
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None


def length(head):
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


# --- the clients ----------------------------------------------------------------------------------------

STATUSES = {200, 400, 408, 429, 500, 502, 503, 504, 529}


class Client:
    """Asks again and again, each time in one of the ways in which clients ask."""

    def __init__(self, port, rng, tally):
        self.port, self.rng, self.tally = port, rng, tally

    async def run(self, ended):
        while not ended.is_set():
            how = self.rng.choices(["ask", "leave", "garbage", "half"], [90, 6, 2, 2])[0]
            try:
                async with asyncio.timeout(30):
                    await getattr(self, how)()
            except TimeoutError:
                self.tally["stuck"] = self.tally.get("stuck", 0) + 1
            except (OSError, asyncio.IncompleteReadError) as error:
                name = f"{how}: {type(error).__name__}"
                self.tally[name] = self.tally.get(name, 0) + 1

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    def request(self):
        streams = self.rng.random() < 0.6
        size = self.rng.choice([10, 10, 10, 1000, 200_000])
        # As agents ask: what was said before is sent again, and what is new, which is recorded, is short.
        said = [{"role": "user", "content": "x" * size}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z" * self.rng.choice([10, 1000])}]
        body = json.dumps({"model": "m", "max_tokens": 9, "stream": streams, "messages": said}).encode()
        own = b"x-api-key: sk-of-the-client-0123456789\r\n" if self.rng.random() < 0.1 else b""
        return b"POST /anthropic/v1/messages HTTP/1.1\r\nhost: a\r\n%scontent-length: %d\r\n\r\n%s" % (own, len(body), body)

    async def ask(self):
        reader, writer = await self.connect()
        try:
            for _ in range(self.rng.randrange(1, 6)):
                writer.write(self.request())
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                if status not in STATUSES:
                    raise SystemExit(f"soak: an answer with status {status}: {head!r}")
                self.tally[status] = self.tally.get(status, 0) + 1
                if b"chunked" in head.lower():
                    await self.chunks(reader)
                else:
                    await reader.readexactly(length(head))
                if b"connection: close" in head.lower():
                    return
                if status == 429:
                    await asyncio.sleep(0.2)
        finally:
            writer.close()

    async def chunks(self, reader):
        last = b""
        while size := int(await reader.readline(), 16):
            last = (last + await reader.readexactly(size))[-2000:]
            await reader.readexactly(2)
        await reader.readexactly(2)
        if not re.search(rb'"type": ?"(message_stop|error)"', last):
            raise SystemExit(f"soak: a stream that ends without an end: {last[-300:]!r}")

    async def leave(self):
        reader, writer = await self.connect()
        writer.write(self.request())
        await writer.drain()
        await reader.read(self.rng.randrange(1, 400))
        writer.transport.abort() if self.rng.random() < 0.5 else writer.close()

    async def garbage(self):
        reader, writer = await self.connect()
        writer.write(self.rng.choice([os.urandom(200), b"GET / HTTP/1.1\r\n\x00\r\n\r\n", b"POST /anthropic/v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{]"]))
        writer.write_eof()
        await reader.read()
        writer.close()

    async def half(self):
        reader, writer = await self.connect()
        request = self.request()
        writer.write(request[: self.rng.randrange(1, len(request))])
        await writer.drain()
        writer.close()


# --- the watch ------------------------------------------------------------------------------------------


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def admin(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return reply.read().decode()


def metric(port, name):
    found = re.search(rf"(?m)^aibridge_{name} (\d+)", admin(port, "/metrics"))
    return int(found[1])


def answers(tally):
    return sum(count for key, count in tally.items() if isinstance(key, int))


async def ask(options, clients, tally, seconds, least):
    """Has the clients ask for so long, and until there are so many answers."""
    end, ended = time.monotonic() + seconds, asyncio.Event()
    tasks = [asyncio.create_task(client.run(ended)) for client in clients]
    while time.monotonic() < end or answers(tally) < least:
        await asyncio.sleep(0.5)
        for task in tasks:
            if task.done():
                task.result()
        if time.monotonic() > end + 600:
            raise SystemExit(f"soak: FAILED: hardly anything was answered: {tally}")
    ended.set()
    await asyncio.gather(*tasks)


async def rest(options):
    """Waits until nothing is to be done. What is left then, and resident memory."""
    least = resident(options.pid)
    for _ in range(100):
        await asyncio.sleep(0.1)
        running = json.loads(await asyncio.to_thread(admin, options.admin, "/interceptions?outcome=running"))["interceptions"]
        connected = await asyncio.to_thread(metric, options.admin, "client_connections")
        pending = await asyncio.to_thread(metric, options.admin, "records_pending")
        if not running and not connected and not pending:
            break
    # What is freed is given back a little later.
    for _ in range(20):
        await asyncio.sleep(0.1)
        least = min(least, resident(options.pid))
    return running, connected, least


async def soak(options, server, provider):
    # What a bridge has open before anybody asks.
    base = descriptors(options.pid)
    rng, tally = random.Random(options.seed), {}
    clients = [Client(options.port, random.Random(rng.random()), tally) for _ in range(options.clients)]

    begin = time.monotonic()
    await ask(options, clients, tally, options.seconds / 3, WARM)
    warm = time.monotonic() - begin
    _, _, before = await rest(options)
    after = []
    while len(after) < ROUNDS and (not after or growth > GROWTH):
        await ask(options, clients, tally, options.seconds / (3 if after else 1.5), 0)
        running, connected, now = await rest(options)
        after.append(now)
        growth = now / before - 1
    server.close()
    for writer in list(provider.writers):
        writer.transport.abort()
    await rest(options)
    open_now = descriptors(options.pid)
    idle = await asyncio.to_thread(metric, options.admin, "upstream_connections_idle")
    panics = await asyncio.to_thread(metric, options.admin, "panics_total")
    lost = await asyncio.to_thread(metric, options.admin, "records_lost_total")
    print(f"asked    {answers(tally)} answers, {warm:.0f} s of warm-up, {time.monotonic() - begin - warm:.0f} s after it; upstream served {provider.served}")
    print("answers  " + ", ".join(f"{key}: {tally[key]}" for key in sorted(tally, key=str)))
    print(f"memory   {before} KiB after the warm-up, {', then '.join(map(str, after))} KiB at the end: {growth:+.1%}")
    print(f"open     {base} descriptors before, {open_now} after, of which {idle} idle upstream connections")
    print(f"left     {len(running)} running, {connected} clients; {panics} panics, {lost} records lost, {tally.get('stuck', 0)} stuck")
    wrong = [
        what
        for what, bad in {
            "memory grows": growth > GROWTH,
            "descriptors leak": open_now - idle > base + 4,
            "interceptions are stuck": bool(running) or bool(connected) or "stuck" in tally,
            "it panicked": panics > 0,
            "records were lost": lost > 0,
            "hardly anything was answered": tally.get(200, 0) < options.seconds,
        }.items()
        if bad
    ]
    print(f"soak: {'FAILED: ' + ', '.join(wrong) if wrong else 'ok'}")
    return 1 if wrong else 0


async def main():
    parser = argparse.ArgumentParser()
    for name in ["port", "admin", "pid", "upstream", "clients", "seconds", "seed"]:
        parser.add_argument(f"--{name}", type=int, default=0)
    options = parser.parse_args()
    # Connections that break are what this is about.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    provider = Provider(random.Random(options.seed + 1))
    server = await asyncio.start_server(provider.converse, "127.0.0.1", options.upstream)
    for _ in range(100):
        await asyncio.sleep(0.1)
        if '"up"' in await asyncio.to_thread(admin, options.admin, "/tools"):
            break
    return await soak(options, server, provider)


sys.exit(asyncio.run(main()))
