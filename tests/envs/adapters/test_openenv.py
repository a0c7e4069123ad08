"""Episodes at a server of OpenEnv, by the real package."""
import contextlib
import pathlib

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.hosts.addresses import free_port
from jaxrl_moe.types import EnvError, ToolCall, UserError
from tests.helpers.adapters import FAKE, played, python_of_adapter, said

SERVER = FAKE.parent / "echo_server.py"


@pytest.fixture(scope="module")
def python():
    return python_of_adapter("openenv")


def task(python, **settings):
    given = {"command": f"{python} {SERVER} {{port}}", "workers": 1, "timeout": 170,
             "observation_field": "echo", **settings}
    return contextlib.closing(make_task(f"openenv({', '.join(f'{name}={given[name]!r}' for name in given)})"))


@pytest.fixture(scope="module")
def echo(python):
    with task(python, reset='{"tone": "now"}', lowest=0, highest=1) as made:
        made.ready()
        yield made


def test_sessions_are_played_over_websockets_and_do_not_mix(echo):
    with (contextlib.closing(echo.open({"id": 1}, 0)) as first,
          contextlib.closing(echo.open({"id": 2}, 0)) as second):
        assert first.reset()[0]["content"] == "Say a word of 5 letters, now."
        assert second.reset()[0]["content"] == "Say a word of 4 letters, now."
        wrong = first.step(said("Action: east"))
        right = second.step(said("Action: east"))
    assert (wrong.reward, wrong.done, wrong.observation[0]["content"]) == (0.0, False, "east?")
    assert (right.reward, right.done, right.info["correct"], right.info["score"]) == (1.0, True, 1.0, 1.0)
    _, steps = played(echo, {"id": 1}, said("a"), said("b"), said("c"))
    assert [step.done for step in steps] == [False, False, True] and steps[-1].info["correct"] == 0.0


def test_actions_are_objects_calls_or_whole_answers(python):
    with task(python, action_field="", answers="text") as made:
        _, steps = played(made, {"id": 0}, said("north"), said('{"sound": 1}'), said('{"message": "north"}'))
        assert [step.info["valid"] for step in steps] == [0.0, 0.0, pytest.approx(1 / 3)]
        assert "no action" in steps[0].observation[0]["content"] and steps[2].reward == 1
    with task(python, answers="functions", observation_field="") as made:
        call = ToolCall("act", '{"action": "nord"}')
        _, (step,) = played(made, {"id": 0}, said("", [call]))
        assert step.observation == ({"role": "tool", "content": '{"echo": "nord?"}'},)


def test_a_server_that_is_not_there_or_has_no_such_field_is_told_of(python):
    with task(python, command="", url=f"http://127.0.0.1:{free_port()}") as made:
        with pytest.raises(EnvError, match="does not answer as a server of OpenEnv"):
            made.ready()
    with task(python, action_field="words") as made:
        with pytest.raises(UserError, match="no field 'words': write action_field='...' with one of message"):
            made.ready()
    with task(python, command="false {port}") as made:
        with pytest.raises(EnvError, match="ended with exit code 1"):
            made.ready()


def test_the_server_of_a_worker_ends_with_it(python):
    with task(python) as made:
        made.ready()
        (server,) = _servers()
    assert server not in _servers()


def _servers():
    """Processes of this test's server, but for the module's own."""
    found = set()
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = entry.read_bytes().split(b"\0")
            found |= {entry.parent.name} if words[1:2] == [str(SERVER).encode()] else set()
    return found - KEPT


KEPT = set()  # of the module's own task


@pytest.fixture(autouse=True)
def kept(echo):
    KEPT.clear()
    KEPT.update(_servers())


def test_one_of_command_and_url_is_needed():
    for given in ("", "url='http://127.0.0.1:1', command='x'"):
        with pytest.raises(UserError, match="give one of them"):
            make_task(f"openenv({given})")
    with pytest.raises(UserError, match="reset has a seed"):
        make_task("openenv(command='x', reset='{\"seed\": 1}')")
    with pytest.raises(UserError, match="Close its quotes"):
        make_task("openenv(command='x \"')")
