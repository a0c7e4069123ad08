"""ScienceWorld as a task: settings, rows, and what it needs, without a Java process."""
import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.sciworld import SciWorld, jvm
from jaxrl_moe.envs.text.sciworld.instructions import FUNCTIONS
from jaxrl_moe.envs.text.sciworld.jvm import JvmOptions
from jaxrl_moe.types import Action, ToolCall, UserError


@pytest.mark.parametrize("settings, reason", [
    ("max_turns=0", "max_turns = 0 is out of range: it must be at least 1"), ("jvms=0", "jvms = 0 is out"),
    ("jvm_mb=63", "jvm_mb = 63 .* at least 64"), ("timeout=0", "timeout = 0 .* above 0"),
    ("tasks='boyl'", "no task 'boyl'.* Did you mean 'boil'"), ("answers='words'", "must be"),
    ("simplifications='open'", "there is no 'open'.* There are easy, "),
    ("simplifications='easy,openDoors'", "easy stands alone")])
def test_settings_are_checked(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task(f"sciworld({settings})")


def test_making_the_task_and_looking_at_rows_starts_nothing(monkeypatch):
    monkeypatch.setattr(jvm.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setenv("PATH", "")
    simplified = "simplifications='noElectricalAction, openDoors'"
    task = make_task(f"sciworld(tasks='boil,power-component', {simplified})")
    assert (task.max_turns, task.jvms, task.concurrent, task.deterministic) == (30, 8, True, True)
    assert task.wire == "sciworld" and task.score_range == (0, 1) and task.lowest_reward == 0
    task.check_row({"id": 3}, 0)
    with pytest.raises(UserError, match="row is of melt, and tasks = 'boil,power-component' leaves that out"):
        task.check_row({"id": 30}, 0)
    with pytest.raises(UserError, match="power-component, which needs circuits"):
        task.check_row({"task": "power-component", "variation": 0}, 0)
    task.close()
    task.close()


def test_without_java_or_the_packages_the_task_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UserError, match="no command java here. Install Java 8 .* openjdk-17-jre-headless"):
        jvm._java()
    monkeypatch.setattr(jvm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="no package scienceworld here. Install the extra `agents`"):
        SciWorld().ready()


def test_the_java_of_java_home_comes_first(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert jvm._java() == str(java)
    pytest.importorskip("scienceworld")
    with pytest.raises(UserError, match="did not begin: its output has ended. Look at the setting jvm_mb"):
        SciWorld().ready()


def test_the_bound_of_a_process_is_the_sum_of_what_it_may_take():
    assert JvmOptions(256, 1).bound_mb == 256 + 96 + 64 + 100


def test_commands_are_functions_where_answers_are_calls():
    task = SciWorld(answers="functions", simplifications="easy")
    names = [tool["function"]["name"] for tool in task.tools({})]
    assert names == [*(function.name for function in FUNCTIONS), "teleport_to"]
    assert "calling a function" in task.instructions({}) and "teleport" in task.instructions({})
    assert "teleport" not in SciWorld(answers="functions").instructions({})
    assert "teleport_to" not in [tool["function"]["name"] for tool in SciWorld(answers="functions").tools({})]
    calls = {("use", '{"tool": "lighter"}'): "use lighter",
             ("use", '{"tool": "lighter", "object": "candle"}'): "use lighter on candle",
             ("choose", '{"number": "0"}'): "0",
             ("move", '{"object": "a cup", "target": "b"}'): "move a cup to b"}
    for (name, arguments), command in calls.items():
        assert task._form.command(Action("", 3, False, (ToolCall(name, arguments),))) == command


def test_in_words_there_are_no_tools_and_teleportation_is_told_of_where_there_is_some():
    assert SciWorld().tools({}) == () and "teleport" not in SciWorld().instructions({})
    assert "teleport to LOC" in SciWorld(simplifications="teleportAction").instructions({})
    assert SciWorld().instructions({}).endswith("Action:\nthe command")
