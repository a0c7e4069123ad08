"""Files of demonstrations: what is in them succeeds when it is played again, and a start that was killed
comes to the same bytes."""
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxrl_moe.data.chat.turn_bridge import TurnBridge
from jaxrl_moe.data.conversations import row_messages
from jaxrl_moe.data.prompts import prompt_messages
from jaxrl_moe.data.rows import read_rows
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.data.turns import mask_conversation
from jaxrl_moe.demonstrations import make as make_lib
from jaxrl_moe.demonstrations.make import Wanted, make, make_prompts
from jaxrl_moe.demonstrations.oracles import ORACLES, oracle_of
from jaxrl_moe.demonstrations.play import FAILED, NO_WAY_ON, play
from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.textcraft.goals import goal_set, is_held_out
from jaxrl_moe.types import Action, ToolCall, UserError
from tests.helpers.game_engines import skip_without_engine
from tests.helpers.templates import HERMES_TOOLS, QWEN25, byte_level

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = "textcraft(recipes='small')"
GAMES = {"textcraft": SMALL, "babyai": "babyai(levels='GoToObjS6,PutNextLocalS6N4', max_turns=60)",
         "webshop": "webshop(products=60)"}
SLOW = {"sciworld": ("sciworld(tasks='find-plant', jvms=1)",
                     "sciworld(tasks='find-plant', simplifications='easy', answers='functions', jvms=1)"),
        "alfworld": ("alfworld(games='small')", "alfworld(games='rooms', answers='functions')")}
CALLED = {"textcraft": "textcraft(recipes='small', answers='functions')",
          "babyai": "babyai(levels='GoToObjS6,UnlockLocalDist', answers='functions')",
          "webshop": "webshop(products=60, answers='functions')"}


def answers(messages):
    """The policy's turns as an environment takes them."""
    for message in messages:
        if message["role"] == "assistant":
            calls = [call["function"] for call in message.get("tool_calls", ())]
            yield Action(message["content"], 1, False,
                         tuple(ToolCall(call["name"], json.dumps(call["arguments"])) for call in calls))


def replayed(env, row):
    """(the last step, what was shown) of an episode with the answers of a row of `messages`."""
    task = make_task(env)
    episode = task.open(row, 0)
    shown = [*episode.reset()]
    for action in answers(row["messages"]):
        step = episode.step(action)
        shown += step.observation
    task.close()
    return step, shown


@pytest.mark.parametrize("env", [*GAMES.values(), *CALLED.values()])
def test_each_oracles_episodes_replay_to_success_word_for_word(env, tmp_path):
    replay(env, 12, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("env", itertools.chain(*SLOW.values()))
def test_the_oracles_of_games_in_other_processes_do_so_too(env, tmp_path):
    skip_without_engine(env)
    with contextlib.closing(make_task(env)) as task:
        task.ready()
    replay(env, 3, tmp_path)


def replay(env, count, tmp_path):
    out = tmp_path / "rows.jsonl"
    make(Wanted(env, count), out)
    rows = [row.values for row in read_rows(str(out))]
    assert len(rows) == count and len({row["id"] for row in rows}) == count
    for row in rows:
        step, shown = replayed(env, row)
        assert step.done and step.info["correct"] == 1.0 and row["reward"] > 0.0
        told = [each for each in row["messages"] if each["role"] in ("user", "tool")]
        assert shown == [{"role": each["role"], "content": each["content"]} for each in told]
        assert row["messages"][0]["content"] == make_task(env).instructions(row)
        assert ("tools" in row) == ("functions" in env)


def test_every_oracle_is_of_a_game_of_its_own_test():
    assert set(ORACLES) == {*GAMES, *SLOW}, "give it a case here"


def test_a_row_of_calls_is_read_and_trained_with_its_tools(tmp_path):
    make(Wanted(CALLED["textcraft"], 3), tmp_path / "rows.jsonl")
    tokenizer = Tokenizer(byte_level(HERMES_TOOLS), "hermes")
    for row in read_rows(str(tmp_path / "rows.jsonl")):
        chat = row_messages(row)
        data = mask_conversation(chat.messages, chat.trained, tokenizer, tools=chat.tools)
        learnt = tokenizer.decode(data.ids[data.loss_mask == 1], skip_special_tokens=False)
        assert learnt.count("<tool_call>") == learnt.count("<|im_end|>") == sum(chat.trained)
        assert [tool["function"]["name"] for tool in chat.tools] == ["get", "craft", "inventory"]
        assert chat.trained == [message["role"] == "assistant" for message in chat.messages]


@pytest.mark.parametrize("name", ["items.json", "items.jsonl"])
def test_agenttraj_is_read_back_and_only_what_has_loss_is_trained(name, tmp_path):
    make(Wanted(SMALL, 5, form="agenttraj"), tmp_path / name)
    make(Wanted(SMALL, 5), tmp_path / "rows.jsonl")
    text = (tmp_path / name).read_text()
    items = json.loads(text) if name == "items.json" else list(map(json.loads, text.splitlines()))
    told = [row.values for row in read_rows(str(tmp_path / "rows.jsonl"))]
    for row, item, ours in zip(read_rows(str(tmp_path / name)), items, told, strict=True):
        assert set(item) == {"item_id", "conversations"} and item["item_id"] == f"textcraft_{ours['id']}"
        assert {frozenset(turn) for turn in item["conversations"]} == {frozenset(("from", "loss", "value"))}
        assert [turn["from"] for turn in item["conversations"]] == [
            ("human", "gpt")[n % 2] for n in range(len(item["conversations"]))]
        chat = row_messages(row)
        trained = [message["content"] for message, loss in zip(chat.messages, chat.trained) if loss]
        assert trained == [each["content"] for each in ours["messages"] if each["role"] == "assistant"]
        assert len(trained) == sum(turn["loss"] is True for turn in item["conversations"])


def test_the_same_seed_gives_the_same_bytes_and_splits_share_no_goal(tmp_path):
    files = {}
    for name, seed, split in (("a", 0, "train"), ("b", 0, "train"), ("c", 1, "train"), ("d", 0, "test")):
        make(Wanted(SMALL, 30, seed, split), tmp_path / f"{name}.jsonl")
        files[name] = (tmp_path / f"{name}.jsonl").read_bytes()
    assert files["a"] == files["b"] != files["c"]
    goals = goal_set("small").goals
    for name, held_out in (("a", False), ("c", False), ("d", True)):
        ids = [json.loads(line)["id"] for line in files[name].splitlines()]
        assert {is_held_out(goals[number]) for number in ids} == {held_out}
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("form", ["messages", "agenttraj"])
def test_prompts_begin_as_the_episodes_of_their_form_do_and_name_the_same(form, tmp_path):
    told = make_prompts(Wanted(SMALL, 9, form=form), tmp_path / "prompts.jsonl")
    make(Wanted(SMALL, 9, form=form), tmp_path / "rows.jsonl")
    assert "9 prompts of textcraft" in told
    task = make_task(SMALL)
    tokenizer = Tokenizer(byte_level(QWEN25), "qwen")
    prompts = read_rows(str(tmp_path / "prompts.jsonl"))
    for prompt, row in zip(prompts, read_rows(str(tmp_path / "rows.jsonl")), strict=True):
        task.check_row(prompt.values, prompt.index)
        assert "env" not in prompt.values  # which is for a run over several to say
        chat = row_messages(row)
        begun = [*prompt_messages(prompt).messages, *task.open(prompt.values, 0).reset()]
        assert chat.messages[:len(begun)] == begun
        data = mask_conversation(chat.messages, chat.trained, tokenizer)
        shown = TurnBridge(tokenizer).prompt(begun)
        np.testing.assert_array_equal(data.ids[:np.argmax(data.loss_mask)], shown)
    with pytest.raises(UserError, match="give --count="):
        make_prompts(Wanted(SMALL, 10**6), tmp_path / "many.jsonl")


def test_without_thoughts_an_answer_is_its_command(tmp_path):
    make(Wanted(SMALL, 2, thoughts=False), tmp_path / "rows.jsonl")
    for row in read_rows(str(tmp_path / "rows.jsonl")):
        said = [each["content"] for each in row.values["messages"] if each["role"] == "assistant"]
        assert all(text.startswith("Action:\n") and text.count("\n") == 1 for text in said)


@dataclasses.dataclass
class Stopping:
    """Ends the making as a kill would, after so many rows."""
    left: int

    def __call__(self, pool, rows):
        yield from itertools.islice(self.real(pool, rows), self.left)
        raise KeyboardInterrupt

    real = staticmethod(make_lib.workers.in_order)


@pytest.mark.parametrize("half", [b"", b'{"row": {"id": 1', b"\xc3"])
def test_what_was_begun_is_gone_on_with_and_comes_to_the_same_bytes(half, tmp_path, monkeypatch):
    env = "babyai(levels='GoToObjS6,GoToRedBall', max_turns=2)"  # of which some are rejected
    make(Wanted(env, 12), tmp_path / "whole.jsonl")
    out = tmp_path / "rows.jsonl"
    for count in (5, 3):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(make_lib.workers, "in_order", Stopping(count))
            make(Wanted(env, 12), out)
        assert not out.exists()
        with (tmp_path / "rows.jsonl.partial").open("ab") as file:
            file.write(half)
    assert (tmp_path / "rows.jsonl.partial").read_bytes().count(b"\n") == 1 + 8
    told = make(Wanted(env, 12), out)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert "rejected (" in told and "not done in 2 turns" in told


def test_fewer_may_be_asked_for_of_what_was_begun_and_need_not_be_played_again(tmp_path, monkeypatch):
    env = "textcraft(recipes='small', max_depth=1, max_turns=2)"
    out = tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match=r"more episodes.*Give --count=\d+") as told:
        make(Wanted(env, 1000), out)
    count = int(re.search(r"--count=(\d+)", str(told.value))[1])
    monkeypatch.setattr(make_lib.workers, "in_order", None)
    assert count > 20 and f"{count} episodes" in make(Wanted(env, count), out)
    assert len(read_rows(str(out))) == count


def test_an_episode_that_does_not_succeed_is_rejected_and_says_why():
    task = make_task("textcraft(recipes='small', max_turns=2)")
    goals = goal_set("small").goals
    far = max(range(len(goals)), key=lambda number: goal_set("small").book.depth(goals[number].item))
    assert play(task, oracle_of("textcraft"), {"id": far}, 0).rejected == "not done in 2 turns"

    class Lost:
        functions = ()

        def __init__(self, *commands):
            self._commands = commands

        def commands(self, *_):
            return ((command, "") for command in self._commands)

    assert play(task, Lost("inventory"), {"id": 0}, 0).rejected == NO_WAY_ON
    room = make_task("babyai(levels='GoToObjS6', steps=1)")
    assert play(room, Lost("turn left"), {"id": 3}, 0).rejected == FAILED


@pytest.mark.parametrize("wanted, name, message", [
    (Wanted("textcraf", 3), "a.jsonl", "Did you mean 'textcraft'"),
    (Wanted("gsm8k", 3), "a.jsonl", "nobody plays gsm8k well here"),
    (Wanted("textcraft(", 3), "a.jsonl", "cannot be read"),
    (Wanted("textcraft(recipes='tiny')", 3), "a.jsonl", "tiny"),
    (Wanted(CALLED["babyai"], 3, form="agenttraj"), "a.jsonl", "no calls of functions"),
    pytest.param(Wanted("sciworld(tasks='mendelian-genetics-known-plant')", 3, form="agenttraj"), "a.jsonl",
                 "AgentGym has no number", marks=pytest.mark.skipif(
                     shutil.which("java") is None, reason="ScienceWorld needs Java")),
    (Wanted(SMALL, 3), "a.csv", "name it .jsonl"), (Wanted(SMALL, 3), "there.jsonl", "is there already"),
    (Wanted(SMALL, 3), "none/a.jsonl", "a folder that is not there"),
    (Wanted(SMALL, 3), "other.jsonl", "was begun with seed=7, and now it is seed=0"),
    (Wanted(SMALL, 3), "broken.jsonl", "line 1 is damaged"),
    (Wanted("babyai(levels='GoToSeqS5R2', max_turns=1)", 3), "a.jsonl", "were all rejected")])
def test_what_cannot_be_made_is_refused(wanted, name, message, tmp_path, monkeypatch):
    monkeypatch.setattr(make_lib, "MOST_REJECTED", 3)
    (tmp_path / "there.jsonl").write_text("mine")
    settings = {**Wanted(SMALL, 3).settings(), "seed": 7}
    (tmp_path / "other.jsonl.partial").write_text(json.dumps(settings) + "\n")
    (tmp_path / "broken.jsonl.partial").write_text("[]\n")
    with pytest.raises(UserError, match=message):
        make(wanted, tmp_path / name)
    assert (tmp_path / "there.jsonl").read_text() == "mine" and not (tmp_path / "a.jsonl").exists()


def test_two_at_one_file_are_refused(tmp_path):
    from jaxrl_moe.demonstrations.work import Work
    with (Work.open(tmp_path / "a.jsonl", Wanted(SMALL, 1).settings()),
          pytest.raises(UserError, match="Another process is writing")):
        make(Wanted(SMALL, 1), tmp_path / "a.jsonl")


def script(*options):
    return subprocess.Popen([sys.executable, "scripts/make_trajectories.py", *options], cwd=ROOT, text=True,
                            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_command_that_is_killed_goes_on_by_one_process_or_several(count, tmp_path):
    make(Wanted("babyai(levels='GoToObjS6,Unlock')", 150), tmp_path / "whole.jsonl")
    options = ["--env=babyai(levels='GoToObjS6,Unlock')", "--count=150", f"--out={tmp_path}/rows.jsonl"]
    partial = tmp_path / "rows.jsonl.partial"
    for lines in (5, 60):
        process = script(*options, f"--workers={count}")
        while not partial.exists() or partial.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "rows.jsonl").exists()
    assert script(*options, f"--workers={3 - count}").wait() == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not partial.exists()


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_making_with_what_was_played_kept(tmp_path, monkeypatch):
    real = make_lib.workers.Worker.receive

    def receive(worker):
        if (tmp_path / "rows.jsonl.partial").read_bytes().count(b"\n") > 20:
            worker._process.kill()
        return real(worker)

    monkeypatch.setattr(make_lib.workers.Worker, "receive", receive)
    with pytest.raises(UserError, match="A worker ended by itself"):
        make(Wanted(SMALL, 200), tmp_path / "rows.jsonl", 2)
    monkeypatch.undo()
    make(Wanted(SMALL, 200), tmp_path / "rows.jsonl")
    make(Wanted(SMALL, 200), tmp_path / "whole.jsonl")
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_the_script_refuses_in_one_paragraph(tmp_path):
    process = script("--env=textcraft", f"--out={tmp_path}/a.jsonl", "--count=0")
    told = " ".join(process.communicate()[0].split())
    assert process.returncode == 1 and "of at least 1" in told and "Traceback" not in told, told
