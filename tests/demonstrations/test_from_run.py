"""A run's own good episodes as data: which are taken, and that they are what was drawn, token by token."""
import itertools
import json

import numpy as np
import pytest

from jaxrl_moe.config import base
from jaxrl_moe.data.chat.turn_bridge import TurnBridge
from jaxrl_moe.data.conversations import row_messages
from jaxrl_moe.data.rows import read_rows
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.data.turns import mask_conversation
from jaxrl_moe.demonstrations.from_run import Choice, collect
from jaxrl_moe.envs import make_task
from jaxrl_moe.rollout.episode import Episode
from jaxrl_moe.runs.trajectories import Trajectories
from jaxrl_moe.types import Completion, Prompt, RolloutGroup, Status, Step, UserError
from tests.helpers.templates import HERMES_TOOLS, QWEN3, QWEN25, byte_level

WORDS = "textcraft(recipes='small', max_depth=1)"
CALLS = "textcraft(recipes='small', max_depth=1, answers='functions')"
CALL = '<tool_call>\n{{"arguments": {}, "name": "{}"}}\n</tool_call>'
WON = ("Thought: easy.\nAction: get 1 flower", "craft 1 blue dye using 1 flower")
CALLED = ("Easy." + CALL.format('{"count": "1", "item": "flower"}', "get"),
          CALL.format('{"count": "1", "item": "blue dye", "ingredients": "1 flower"}', "craft"))


class FakeRun:
    """A run's folder, whose policy says what a test wants."""

    def __init__(self, folder, env, template=QWEN25, history="append"):
        self.folder = folder / "run"
        self.folder.mkdir()
        byte_level(template).save_pretrained(self.folder / "model")
        self.tokenizer = load_tokenizer(str(self.folder / "model"))
        config = base()
        config.model.path = str(self.folder / "model")
        config.env.name = env
        (self.folder / "config.json").write_text(config.to_json())
        self.task = make_task(env)
        self.history = history
        self.file = Trajectories(self.folder / "trajectories.jsonl", self.tokenizer.decode)
        self.sequence = itertools.count()

    def play(self, *texts, step=1, phase="train", index=0, status=Status.FINISHED, ended=None, ids=None):
        """An episode of goal 0 in which the policy says the texts; `ended`: which of them it ends."""
        messages = ({"role": "system", "content": self.task.instructions({})},)
        prompt = Prompt(np.zeros(1, np.int32), {"id": 0}, index, messages=messages)
        tools = self.task.tools(prompt.row)
        episode = Episode(prompt, next(self.sequence), 0, 20,
                          lambda: TurnBridge(self.tokenizer, tools=tools, history=self.history), tools)
        env = self.task.open(prompt.row, 0)
        episode.opened(env.reset())
        for number, text in enumerate(texts):
            ends = ended is None or ended[number]
            drawn = ids if ids is not None else self.drawn(text, ends)
            action = episode.drew(completed(drawn, ends), self.tokenizer.decode)
            done = env.step(action)
            episode.told(done)
            if done.done or not (number + 1 < len(texts) and episode.go_on(lambda _: 1000)):
                break
        return self.write(step, phase, prompt, episode, status)

    def answer(self, question, text, step=1, index=0, reward=1.0):
        """A completion of one turn."""
        messages = ({"role": "user", "content": question},)
        prompt = Prompt(self.tokenizer.render(messages), {}, index, messages=messages)
        episode = Episode(prompt, next(self.sequence), 0, 1, None)
        episode.drew(completed(self.drawn(text, True), True), self.tokenizer.decode)
        episode.told(Step(reward))
        return self.write(step, "train", prompt, episode, Status.FINISHED)

    def drawn(self, text, ends):
        ids = self.tokenizer.encode_hidden(text)
        return np.append(ids, self.tokenizer.eos_ids[0]).astype(np.int32) if ends else ids

    def write(self, step, phase, prompt, episode, status):
        rollout = episode.rollout(status, self.tokenizer.decode)
        self.file.write(step, phase, [RolloutGroup(prompt, (rollout,), episode.sequence)])
        return rollout

    def collected(self, **options):
        """(what is told, rows of the file)."""
        out = self.folder.parent / f"out{next(self.sequence)}.jsonl"
        told = collect(Choice(self.folder, **options), out)
        return told, read_rows(str(out))


def completed(ids, ends):
    count = len(ids)
    return Completion(np.asarray(ids, np.int32), np.zeros(count, np.float32), "stop" if ends else "length",
                      np.zeros(count, np.int32))


def as_tokens(row, tokenizer):
    chat = row_messages(row)
    return mask_conversation(chat.messages, chat.trained, tokenizer, tools=chat.tools,
                             variables=chat.variables)


@pytest.mark.parametrize("env, template, texts", [(WORDS, QWEN25, WON), (CALLS, HERMES_TOOLS, CALLED)])
def test_a_good_episode_is_read_back_as_the_tokens_that_were_drawn(env, template, texts, tmp_path):
    run = FakeRun(tmp_path, env, template)
    rollout = run.play(*texts)
    assert rollout.reward == 1.0
    told, (row,) = run.collected()
    data = as_tokens(row, run.tokenizer)
    drawn = np.concatenate([rollout.prompt_ids, rollout.completion_ids])
    np.testing.assert_array_equal(data.ids[:len(drawn)], drawn)
    mask = np.concatenate([np.zeros(len(rollout.prompt_ids), np.int32), rollout.loss_mask])
    np.testing.assert_array_equal(data.loss_mask[:len(drawn)], mask)
    assert not data.loss_mask[len(drawn):].any() and "token by token: 1" in told
    assert row.values["reward"] == 1.0 and row.values["env"] == env
    assert [len(each.get("tool_calls", ())) for each in row.values["messages"]] == [
        0, 0, *((1, 0, 1) if env == CALLS else (0, 0, 0))]


def test_a_completion_of_one_turn_is_a_row_too(tmp_path):
    run = FakeRun(tmp_path, "gsm8k")
    run.answer("1 + 1?", "It is 2.\n#### 2")
    run.answer("1 + 1?", "It is 3.\n#### 3", reward=0.0)
    _, (row,) = run.collected()
    assert row.values["messages"] == [{"role": "user", "content": "1 + 1?"},
                                      {"role": "assistant", "content": "It is 2.\n#### 2"}]


def test_bad_failed_held_out_and_repeated_episodes_are_left_out_and_counted(tmp_path):
    run = FakeRun(tmp_path, WORDS)
    run.play(*WON)
    run.play(*WON, step=2)
    run.play(*WON, phase="eval")
    run.play(*WON, phase="greedy")
    run.play(*WON, phase="failed", status=Status.CRASHED)
    run.play("get 1 flower")
    run.play("inventory", *WON, phase="dropped", step=3)
    told, rows = run.collected()
    assert [row.values["step"] for row in rows] == [1, 3]
    for count in ("2 of evaluations", "1 said word for word before", "1 of failed environments",
                  "1 under a reward of 0.5"):
        assert count in told
    assert len(run.collected(min_reward=0.0)[1]) == 3


def test_of_one_prompt_the_best_or_the_newest_are_taken(tmp_path):
    run = FakeRun(tmp_path, "gsm8k")
    for step, (index, reward) in enumerate([(0, 0.6), (0, 1.0), (1, 0.7), (0, 1.0), (0, 0.8)]):
        run.answer(f"{index}?", f"answer {step}", step, index, reward)
    assert [row.values["step"] for row in run.collected(max_per_prompt=1)[1]] == [2, 3]
    assert [row.values["step"] for row in run.collected(max_per_prompt=2)[1]] == [1, 2, 3]
    told, rows = run.collected(max_per_prompt=1, newest=True)
    assert [row.values["step"] for row in rows] == [2, 4] and "3 beyond --max_per_prompt" in told


def test_a_turn_that_the_token_limit_cut_is_not_trained(tmp_path):
    run = FakeRun(tmp_path, WORDS)
    run.play("inventory and so", *WON, ended=(False, True, True))
    _, (row,) = run.collected()
    losses = [each.get("loss", True) for each in row.values["messages"] if each["role"] == "assistant"]
    assert losses == [False, True, True]
    assert not any(row_messages(row).trained[:3])


def test_what_was_drawn_in_other_tokens_is_taken_and_told(tmp_path):
    run = FakeRun(tmp_path, "gsm8k")
    run.answer("4 + 3?", "seven")
    rows = (run.folder / "trajectories.jsonl").read_text().splitlines()
    (row,) = map(json.loads, rows)
    letters = [int(run.tokenizer.encode(letter)[0]) for letter in "seven"]
    assert letters != row["completion_ids"][:-1]
    row |= {"completion_ids": [*letters, row["completion_ids"][-1]], "turns": [[0, len(letters) + 1, 1.0]]}
    (run.folder / "trajectories.jsonl").write_text(json.dumps(row) + "\n")
    assert "as drawn in text, in other tokens: 1" in run.collected()[0]


def test_reasoning_that_the_template_drops_is_not_passed_off_as_what_was_drawn(tmp_path):
    thinking = [f"<think>\nhm\n</think>\n\n{text}" for text in WON]
    kept = FakeRun(tmp_path, WORDS, QWEN3)
    kept.play(*thinking)
    with pytest.raises(UserError, match="1 that the chat template would write otherwise|makes no data"):
        kept.collected()
    (tmp_path / "other").mkdir()
    branched = FakeRun(tmp_path / "other", WORDS, QWEN3, history="branch")
    rollout = branched.play(*thinking)
    _, rows = branched.collected()
    assert len(rows) == len(rollout.traces) == 2
    for row, trace in zip(rows, rollout.traces):
        data = as_tokens(row, branched.tokenizer)
        drawn = np.concatenate([trace.prompt_ids, trace.completion_ids])
        np.testing.assert_array_equal(data.ids[:len(drawn)], drawn)
        assert data.loss_mask.sum() == trace.loss_mask.sum()


def test_without_the_runs_tokenizer_it_says_that_nothing_was_compared(tmp_path):
    run = FakeRun(tmp_path, WORDS)
    run.play(*WON)
    (run.folder / "model").rename(run.folder / "moved")
    told, rows = run.collected()
    assert "Nothing was compared" in told and len(rows) == 1


@pytest.mark.parametrize("make, options, message", [
    (lambda run: (run.folder / "trajectories.jsonl").unlink(), {}, "has no trajectories.jsonl"),
    (lambda run: None, {"min_reward": 2.0}, "No episode.*min_reward=2; 1 rejected"),
    (lambda run: (run.folder / "trajectories.jsonl").write_text("{}\n"), {}, "line 1 is damaged"),
    (lambda run: (run.folder / "trajectories.jsonl").write_text('{"step": 1, "phase": "train"}\n'), {},
     "1 of failed environments"),
    (lambda run: (run.folder / "trajectories.jsonl").write_text(
        '{"step": 1, "phase": "train", "reward": "much"}\n'), {}, "line 1 holds no episode")])
def test_a_run_without_good_episodes_is_refused(make, options, message, tmp_path):
    run = FakeRun(tmp_path, WORDS)
    run.play(*WON)
    make(run)
    with pytest.raises(UserError, match=message):
        run.collected(**options)


def test_a_folder_that_is_not_there_and_a_file_that_is_are_refused(tmp_path):
    with pytest.raises(UserError, match="has no trajectories"):
        collect(Choice(tmp_path / "none"), tmp_path / "out.jsonl")
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        collect(Choice(tmp_path / "none"), tmp_path / "out.jsonl")
