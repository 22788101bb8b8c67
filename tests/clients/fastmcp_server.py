"""A server of the official Python MCP library, of either major version: fastmcp_server.py MODE PORT.

MODE names what is not the default: `stateless`, `json`, both or neither.
"""

import asyncio
import os
import sys

try:
    from mcp.server.mcpserver import Context, MCPServer

    MAJOR = 2
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP

    MAJOR = 1

mode, port = sys.argv[1], int(sys.argv[2])
options = {"stateless_http": "stateless" in mode, "json_response": "json" in mode}
place = {"host": "127.0.0.1", "port": port}
server = MCPServer("py") if MAJOR == 2 else FastMCP("py", **place, **options)


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
async def slow(ctx: Context) -> str:
    """Reports its progress before it is done."""
    for step in range(3):
        await ctx.report_progress(step, 3)
        await asyncio.sleep(0.05)
    return "slept"


@server.tool()
def boom() -> str:
    """Fails."""
    raise ValueError("out of luck")


@server.tool()
def pid() -> str:
    """Tells which process this is."""
    return f"pid {os.getpid()}"


server.run(transport="streamable-http", **({**place, **options} if MAJOR == 2 else {}))
