"""A server of MCP with a drawer of things, over its pipes, or over HTTP at the port that it is given."""
import os
import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("drawer")
DRAWER = {"spoon": 3, "fork": 5}


@server.tool()
def count(thing: str) -> int:
    """How many there are of a thing."""
    print("counting", file=sys.stderr)
    return DRAWER[thing]


@server.tool()
def put(thing: str, number: int) -> str:
    """Puts things into the drawer."""
    DRAWER[thing] = DRAWER.get(thing, 0) + number
    return f"There are {DRAWER[thing]} now."


@server.tool()
def secret() -> str:
    """What the server sees of an environment variable."""
    return os.environ.get("DRAWER_KEY", "none")


@server.tool()
def grade(answer: str, wanted: int) -> float:
    """Half for spoons enough, half for saying so."""
    return 0.5 * (DRAWER["spoon"] >= wanted) + 0.5 * ("done" in answer)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
