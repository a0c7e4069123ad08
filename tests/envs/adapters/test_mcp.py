"""Tools of a server of MCP, by the real package, over pipes and HTTP."""
import contextlib
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.adapters.mcp import matches
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.types import EnvError, ToolCall, UserError
from tests.helpers.adapters import FAKE, played, python_of_adapter, said

SERVER = FAKE.parent / "tool_server.py"


@pytest.fixture(scope="module")
def python():
    return python_of_adapter("mcp")


def task(python, **settings):
    given = {"command": f"{python} {SERVER}", "workers": 1, "timeout": 170, **settings}
    return contextlib.closing(make_task(f"mcp({', '.join(f'{name}={given[name]!r}' for name in given)})"))


@pytest.fixture(scope="module")
def graded(python):
    with task(python, reward="grade") as made:
        yield made


def contents(step):
    assert {message["role"] for message in step.observation} == {"tool"}
    return [message["content"] for message in step.observation]


def test_tools_are_offered_without_the_one_that_grades(graded):
    names = [tool["function"]["name"] for tool in graded.tools({})]
    assert names == ["count", "put", "secret"]
    assert graded.tools({})[0]["function"]["parameters"]["required"] == ["thing"]


def test_calls_are_answered_in_order_and_the_servers_tool_grades(graded):
    calls = [ToolCall("count", '{"thing": "spoon"}'), ToolCall("put", '{"thing": "spoon", "number": 2}')]
    _, (called, last) = played(graded, {"wanted": 5}, said("", calls), said("<think>?</think> It is done."))
    assert contents(called) == ["3", "There are 5 now."]
    assert (called.reward, called.done, called.info["calls"], called.info["valid"]) == (0.0, False, 2.0, 1.0)
    assert (last.reward, last.done, last.info["correct"], last.observation) == (1.0, True, 1.0, ())


def test_each_episode_has_a_server_of_its_own(graded):
    put = ToolCall("put", '{"thing": "fork", "number": 1}')
    for _ in range(2):
        _, (step, last) = played(graded, {"wanted": 9}, said("", [put]), said("done"))
        assert contents(step) == ["There are 6 now."] and last.reward == 0.5


def test_a_call_that_cannot_be_sent_has_an_error_as_its_result(graded):
    wrong = [ToolCall("count", "{"), ToolCall("count", '{"thong": 1}'), ToolCall("grade", "{}"),
             ToolCall("count", "[]"), ToolCall("put", '{"thing": 1, "number": "x"}'),
             ToolCall("count", '{"thing": "knife"}')]
    _, (step, unread) = played(graded, {"wanted": 1}, said("", wrong), said("", (), ["is no JSON"]))
    shown = contents(step)
    assert all(text.startswith("Error: ") for text in shown) and step.info["valid"] == 0.0
    assert "no JSON" in shown[0] and "required property" in shown[1] and "count, put, secret" in shown[2]
    assert not unread.done
    assert unread.observation == (
        {"role": "user", "content": "Error: a call could not be read: is no JSON."},)


def test_the_last_turn_is_graded_and_truncated(python):
    with task(python, reward="grade", max_turns=2) as made:
        count = said("", [ToolCall("count", '{"thing": "spoon"}')])
        _, steps = played(made, {"wanted": 3}, count, count)
    ends = [(step.reward, step.done, step.truncated) for step in steps]
    assert ends == [(0, False, False), (0.5, True, True)]


def test_the_answer_of_the_row_is_matched(python):
    with task(python, tools_offered="count", longest=5) as made:
        assert [tool["function"]["name"] for tool in made.tools({})] == ["count"]
        row = {"answer": 3}
        count = said("", [ToolCall("count", '{"thing": "spoon"}')])
        secret = said("", [ToolCall("secret", "{}")])
        _, (_, refused, last) = played(made, row, count, secret, said("There are 3 spoons."))
        assert "there is no tool" in contents(refused)[0] and last.reward == 1.0
        _, (step,) = played(made, row, said("There are 4."))
        assert (step.reward, step.done) == (0.0, True)
        with pytest.raises(UserError, match="the row's `answer` is None"):
            made.check_row({"prompt": "?"}, 0)


def test_a_server_sees_the_variables_that_are_named_alone(python, monkeypatch):
    monkeypatch.setenv("DRAWER_KEY", "key-1")
    for variables, seen in (("", "none"), ("DRAWER_KEY", "key-1")):
        with task(python, reward="grade", variables=variables) as made:
            _, (step,) = played(made, {"wanted": 1}, said("", [ToolCall("secret", "{}")]))
            assert contents(step) == [seen]


def test_a_server_is_called_over_http(python):
    port = free_port()
    server = subprocess.Popen([python, SERVER, str(port)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        _await(f"http://127.0.0.1:{port}/mcp")
        with task(python, command="", url=f"http://127.0.0.1:{port}/mcp", reward="grade") as made:
            call = ToolCall("put", '{"thing": "spoon", "number": 4}')
            _, (step, last) = played(made, {"wanted": 7}, said("", [call]), said("done"))
            assert contents(step) == ["There are 7 now."] and last.reward == 1.0
    finally:
        server.kill()
        server.wait()


def _await(url):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.parametrize("settings, told", [
    ({"reward": "judge"}, "has no tool 'judge'. It has count, put, secret, grade"),
    ({"tools_offered": "shout"}, "has no tool 'shout'")])
def test_tools_that_the_server_lacks_are_told_of_before_the_run(python, settings, told):
    with task(python, **settings) as made, pytest.raises(UserError, match=told):
        made.ready()


def test_a_command_that_is_no_server_is_told_of(python):
    with task(python, command="true") as made, pytest.raises(EnvError, match="no server of MCP that answers"):
        made.ready()


def test_answers_match_by_words_or_by_number():
    assert matches(" Paris ", "paris") and matches("So it is 1,200.", "1200") and matches("#### 0.5", 0.5)
    assert not matches("It is Paris, I think", "Paris")
    assert not matches("12", "1200") and not matches("", "0")


def test_wrong_settings_are_refused(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for settings, told in (("", "give one of them"), ("command='x', longest=0", "longest = 0"),
                           ("command='x', lowest=-1", "leave them out"),
                           ("command='x', reward='g', lowest=2", "no range"),
                           ("url='ftp://x'", "url"),
                           ("url='http://x', api_key_env='NO_SUCH_KEY'", "not set")):
        with pytest.raises(UserError, match=told):
            make_task(f"mcp({settings})")
    made = make_task("mcp(command='x', reward='g', lowest=-1)")
    assert made.score_range == (-1, 1.0) and made.lowest_reward == -1
    with pytest.raises(UserError, match="cannot be sent as JSON"):
        made.check_row({"prompt": "?", "weight": float("nan")}, 0)
