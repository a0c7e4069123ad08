"""Lets a policy call the tools of a server of MCP, over the server's pipes or HTTP."""
import contextlib
import json
import math
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx2
import jsonschema
import mcp_types
from adapter_async import Connection, Loop, causes
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from worker_loop import Refused, serve

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a function, as OpenAI's APIs take it
_MOST_PAGES = 100


def as_function(tool: mcp_types.Tool) -> dict[str, Any]:
    """A tool in OpenAI's form. Raises Refused for one that has none."""
    if not _NAME.fullmatch(tool.name):
        raise Refused(f"The server has a tool {tool.name!r}, and a function's name is 1 to 64 letters, "
                      "digits, _ and -: leave the tool out by tools_offered, or rename it.")
    if tool.input_schema.get("type") != "object":
        raise Refused(f"The tool {tool.name} of the server takes no object: its schema must be of type "
                      "object.")
    try:
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
    except jsonschema.SchemaError as error:
        raise Refused(f"The schema of the server's tool {tool.name} is none: {error.message}") from error
    return {"type": "function", "function": {
        "name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}}


def as_text(result: mcp_types.CallToolResult, longest: int) -> str:
    """What a policy is shown of a result."""
    texts = [part.text if part.type == "text" else f"[{part.type}]" for part in result.content]
    text = "\n".join(texts) or json.dumps(result.structured_content)
    text = text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
    return f"Error: {text}" if result.is_error else text


def as_number(result: mcp_types.CallToolResult) -> float:
    """The reward that a grader's result gives."""
    given = result.structured_content
    if isinstance(given, Mapping) and len(given) == 1:
        given = next(iter(given.values()))
    if given is None and len(result.content) == 1 and result.content[0].type == "text":
        given = result.content[0].text
    if result.is_error or isinstance(given, Mapping | list) or given is None:
        raise ValueError(f"the grader gives no number, but {as_text(result, 200)}")
    return float(given)


class Mcp:
    """One server, or one command that starts it."""

    def __init__(self) -> None:
        self._loop = Loop()

    def begin(self, command: Sequence[str], url: str, key: str, variables: Sequence[str],
              tools: Sequence[str], grader: str, lowest: float, highest: float, turns: int, longest: int,
              seconds: float) -> dict[str, Any]:
        self._command = command
        self._url = url
        self._key = key
        self._variables = {name: os.environ[name] for name in variables}
        self.grader = grader
        self.bounds = lowest, highest
        self.turns = turns
        self.longest = longest
        self._seconds = seconds
        trial = self.connection()
        try:
            listed = trial.call(self._listed)
        finally:
            trial.close()
        self.tools = self._chosen({tool.name: tool for tool in listed}, tools)
        return {"tools": [as_function(tool) for tool in self.tools.values()]}

    def _chosen(self, listed: Mapping[str, mcp_types.Tool],
                wanted: Sequence[str]) -> dict[str, mcp_types.Tool]:
        for name in (*wanted, *([self.grader] if self.grader else [])):
            if name not in listed:
                raise Refused(f"The server has no tool {name!r}. It has {', '.join(listed) or 'none'}.")
        self.grading = listed.get(self.grader)
        offered = [name for name in wanted or listed if name != self.grader]
        if not offered:
            raise Refused("The server has no tool that the policy could call.")
        return {name: listed[name] for name in offered}

    async def _listed(self, client: Client) -> list[mcp_types.Tool]:
        tools: list[mcp_types.Tool] = []
        cursor = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        return tools

    def connection(self) -> Connection:
        """Raises Refused where the server cannot be reached or started."""
        try:
            return Connection(self._loop, self._opened, self._seconds)
        except BaseException as error:
            what = f"command = {' '.join(self._command)!r}" if self._command else f"url = {self._url!r}"
            raise ConnectionError(f"{what} is no server of MCP that answers: {causes(error)}") from error

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Client]:
        if self._command:
            program, *arguments = self._command
            parameters = StdioServerParameters(command=program, args=arguments, env=self._variables)
            async with Client(stdio_client(parameters, errlog=sys.stderr)) as client:
                yield client
            return
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        async with httpx2.AsyncClient(headers=headers, timeout=self._seconds) as http:
            async with Client(streamable_http_client(self._url, http_client=http)) as client:
                yield client

    def open(self, columns: Mapping[str, Any]) -> "Session":
        return Session(self, self.connection(), columns)


class Session:
    """One connection, and the calls that the policy makes in it."""

    def __init__(self, server: Mcp, connection: Connection, columns: Mapping[str, Any]):
        self._server = server
        self._connection = connection
        self._columns = columns
        self._turn = 0
        self._calls = 0

    def reset(self) -> dict[str, Any]:
        return {"observation": []}

    def step(self, calls: Sequence[Mapping[str, str]], malformed: Sequence[str], answer: str,
             matched: bool | None) -> dict[str, Any]:
        self._turn += 1
        results = [self._called(call["name"], call["arguments"]) for call in calls]
        unread = [f"Error: a call could not be read: {why}." for why in malformed]
        self._calls += len(results)
        last = self._turn >= self._server.turns
        if not results and not unread:
            return self._graded(answer, matched, False)
        if last:
            return self._graded(answer, matched, True)
        shown = [text for text, _ in results]
        if shown and unread:
            shown[-1] = "\n".join([shown[-1], *unread])
        fit = not unread and all(sent for _, sent in results)
        return {"observation": shown or ["\n".join(unread)], "reward": 0.0, "done": False, "valid": fit,
                "info": {"calls": self._calls}}

    def _called(self, name: str, text: str) -> tuple[str, bool]:
        """(what the policy is shown, whether the call was sent)."""
        tool = self._server.tools.get(name)
        if tool is None:
            known = ", ".join(self._server.tools)
            return f"Error: there is no tool of that name. The tools are {known}.", False
        try:
            arguments = json.loads(text or "{}", parse_constant=_no_constant)
            jsonschema.validate(arguments, tool.input_schema)
        except (ValueError, RecursionError) as error:
            return f"Error: the arguments of {name} are no JSON that can be read: {error}", False
        except jsonschema.ValidationError as error:
            return f"Error: the arguments of {name} do not fit: {error.message[:300]}", False
        try:
            result = self._connection.call(lambda client: client.call_tool(name, arguments))
        except MCPError as error:  # the server's refusal, which the policy may mend
            return f"Error: {error}", True
        return as_text(result, self._server.longest), True

    def _graded(self, answer: str, matched: bool | None, truncated: bool) -> dict[str, Any]:
        reward = float(matched) if matched is not None else self._asked(answer)
        lowest, highest = self._server.bounds
        if not (math.isfinite(reward) and lowest <= reward <= highest):
            raise ValueError(f"the grader gives {reward}, which is not from {lowest:g} to {highest:g}")
        return {"reward": reward, "done": True, "truncated": truncated,
                "info": {"correct": float(reward >= highest), "calls": self._calls}}

    def _asked(self, answer: str) -> float:
        """The reward of the server's own grader, told of what its schema asks for."""
        given = {**self._columns, "answer": answer}
        wanted = self._server.grading.input_schema.get("properties", {})
        arguments = {name: given[name] for name in wanted if name in given}
        name = self._server.grader
        return as_number(self._connection.call(lambda client: client.call_tool(name, arguments)))

    def close(self) -> None:
        self._connection.close()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


if __name__ == "__main__":
    serve(Mcp())
