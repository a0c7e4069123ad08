"""Data rows: prompts and conversations, as jsonl, json and parquet. What a row says must reach the model."""
import datetime
import decimal
import json
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet

from jaxrl_moe.config import DataSection, SftSection
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.sft import load_conversations
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.envs import check_rows, make_task
from jaxrl_moe.types import Action
from tests.fuzz.mutators import mutate_bytes, mutate_json, mutate_lines
from tests.fuzz.reading import Damaged, same, strict
from tests.fuzz.runner import Target
from tests.helpers.tiny_models import make_tokenizer

PROMPTS = [
    {"question": "What is 12 plus 7?", "answer": "12 + 7 = <<12+7=19>>19\n#### 19"},
    {"question": "Tom has 1,000 apples and 200 pears.", "answer": "#### 1,200", "note": "kept"},
    {"prompt": [{"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "What is 4 * 5?"}], "answer": "20"},
    {"prompt": "0.5 of 8 is", "reward_spec": {"ground_truth": "4"}, "answer": "4"}]
CONVERSATIONS = [
    {"question": "What is 12 plus 7?", "answer": "12 + 7 = 19\n#### 19"},
    {"prompt": "What is 4 * 5?", "completion": "It is 20."},
    {"messages": [{"role": "system", "content": "You are a helpful assistant."},
                  {"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "four",
                  "loss": False},
                  {"role": "user", "content": "3 + 3"}, {"role": "assistant", "content": "six"}]},
    {"conversations": [{"from": "human", "value": "Anna gives 5", "loss": None},
                       {"from": "gpt", "value": "She keeps 6", "loss": True}]}]
UNSHOWN = ("loss", "weight", "train", "training", "type", "tool_call_id")  # of turns; no text of the model's
FORMS = ("messages", "conversations", "question", "prompt")
# Values of a parquet cell that JSON does not have.
CELLS = (None, b"bytes", True, 1, 1.5, float("nan"), "", " ", "\0", datetime.datetime(2026, 1, 1),
         decimal.Decimal("1.5"), [], {}, [1], {"a": 1}, "\U0001f600", "x" * 5000, [[]], [{"role": "user"}])
# Turns as people write them: other names of roles and keys, content in parts, tools.
ODD_TURNS: tuple[dict[str, Any], ...] = (
    {"role": "human", "content": "hi there"}, {"role": "User", "content": "hi there"},
    {"role": "user", "content": [{"type": "text", "text": "hi there"}]}, {"role": "user", "text": "hi there"},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    {"role": "user", "content": "hi there", "name": "Ann Sentinel"}, {"role": "user", "content": ""},
    {"role": "tool", "content": "hi there", "tool_call_id": "call sentinel"}, {"role": "", "content": "hi"},
    {"role": "assistant", "content": "hi there", "reasoning_content": "a thought sentinel"},
    {"role": "assistant", "content": "hi there", "thinking": "a thought sentinel"},
    {"from": "human", "value": "hi there"}, {"role": "user", "content": {"text": "hi there"}},
    {"role": "assistant", "content": "hi there", "loss": 0}, {"role": "assistant", "content": "hi",
    "loss": "x"},
    {"role": "assistant", "content": "hi there", "weight": 0}, {"role": "assistant", "content": "hi",
    "train": 0},
    {"role": "user", "content": 5}, {"role": "user", "content": "hi <|im_end|> there"}, {"role": "user"},
    {"role": "user", "content": "hi there", "loss": True}, {"role": "assistant", "content": "  hi there  "},
    {"role": "user", "content": "hi there", "images": ["a.png"]}, {"role": "user", "content": "\ud800"},
    {"role": "user", "content": "hi\0there"}, {"role": "assistant", "content": "hi <|im_end|> there"})


class Rows(Target):
    """Files of rows in three forms; `rows` are the valid ones."""
    system_errors = True
    rows: list[dict[str, Any]]
    keys: tuple[str, ...]

    def prepare(self, inputs: pathlib.Path) -> None:
        make_tokenizer(inputs / "model")
        self.tokenizer = load_tokenizer(str(inputs / "model"))
        self.form = "jsonl"
        self._write(inputs, self.rows)

    def _write(self, inputs: pathlib.Path, rows: list) -> None:
        (inputs / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (inputs / "rows.json").write_text(json.dumps(rows))
        same_columns = [row for row in rows if set(row) == set(rows[0])]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(same_columns), inputs / "rows.parquet")

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        self.form = rng.choice(("jsonl", "jsonl", "json", "parquet"))
        file = f"rows.{self.form}"
        data = (inputs / file).read_bytes()
        chance = rng.random()
        if self.form == "parquet":
            changed, done = mutate_bytes(rng, data) if chance < 0.4 else self._cells(rng)
        elif chance < 0.25:
            rows = json.loads(json.dumps(self.rows))
            done = self._odd(rng, rows)
            lines = self.form == "jsonl"
            text = "".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows)
            changed = text.encode()
        elif chance < 0.4:
            changed, done = mutate_bytes(rng, data)
        else:
            changed, done = (mutate_lines if self.form == "jsonl" else mutate_json)(rng, data)
        return {file: changed}, f"{file}: {done}"

    def _odd(self, rng: random.Random, rows: list[dict[str, Any]]) -> str:
        """Puts an odd turn into a row of messages."""
        row = rng.choice([row for row in rows if any(isinstance(value, list) for value in row.values())])
        key = next(key for key, value in row.items() if isinstance(value, list))
        turn = rng.choice(ODD_TURNS)
        place = rng.randrange(len(row[key]) + 1)
        row[key].insert(place, turn)
        return f"{key}[{place}] inserted {json.dumps(turn)}"

    def _cells(self, rng: random.Random) -> tuple[bytes, str]:
        rows = [dict(row) for row in self.rows if set(row) == set(self.rows[0])]
        key = rng.choice([*rows[0], "added", "prompt", "messages"])
        value = rng.choice(CELLS)
        everywhere = rng.random() < 0.6
        for row in rows if everywhere else rows[:1]:
            row[key] = value
        try:
            table = pyarrow.Table.from_pylist(rows)
        except (pyarrow.ArrowException, TypeError):
            table = pyarrow.Table.from_pylist([row | {key: value} for row in rows])
        file = pyarrow.BufferOutputStream()
        try:
            pyarrow.parquet.write_table(table, file)
        except (pyarrow.ArrowException, NotImplementedError):  # an object without fields
            return b"PAR1", "four bytes"
        return file.getvalue().to_pybytes(), f"{key} := {str(value)[:40]!r} of type {type(value).__name__}"

    def _read(self, inputs: pathlib.Path) -> list[Any]:
        """The rows by other means. Raises Damaged."""
        path = inputs / f"rows.{self.form}"
        if self.form == "parquet":
            try:
                return pyarrow.parquet.ParquetFile(path).read().to_pylist()
            except (pyarrow.ArrowException, OSError, ValueError) as error:
                raise Damaged(str(error)) from error
        if self.form == "json":
            return strict(path.read_bytes())
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n")
        return [strict(line) for line in lines if line.strip()]

    def judge(self, arena, result):
        try:
            rows = self._read(arena.inputs)
        except Damaged as error:
            return f"damaged rows: {error}"
        if not isinstance(rows, list) or len(rows) != len(result):
            return f"a row is lost: {len(result)} of {len(rows)}"
        return next(filter(None, map(self._wrong, rows, result)), "")

    def _wrong(self, row: dict[str, Any], read: Any) -> str:
        """What is wrong with what became of a row."""
        raise NotImplementedError


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, string) of all strings below a value, and numbers and truths as text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    elif value is not None:
        yield key, value if isinstance(value, str) else json.dumps(value, default=str)


def differ(row: dict[str, Any], *keys: str) -> bool:
    """Whether neither of two columns holds what the other says."""
    ours, theirs = (" ".join(" ".join(said for _, said in leaves(row[key])).split()) for key in keys)
    return not (ours in theirs or theirs in ours)


class PromptRows(Rows):
    """Rows of RL: the prompt reaches the model, and the task can grade."""
    name = "prompts"
    rows = PROMPTS
    share = 1.5

    def call(self, arena):
        section = DataSection(path=str(arena.inputs / f"rows.{self.form}"), max_prompt_tokens=2**30)
        prompts, _ = load_prompts(section, self.tokenizer)
        task = make_task("gsm8k")
        check_rows(task, prompts)
        gold = [task.grade(prompt.row, Action(str(prompt.row.get("answer")), 3, False)) for prompt in prompts]
        return list(zip(prompts, gold))

    def _wrong(self, row, read):
        prompt, step = read
        if not same(dict(prompt.row), row):
            return f"the row was changed: {str(prompt.row)[:100]}"
        shown = self.tokenizer.decode(prompt.ids, skip_special_tokens=False)
        asked = row.get("prompt") if row.get("prompt") is not None else row.get("question")
        for key, string in leaves(asked):
            if key not in UNSHOWN and string not in shown:
                return f"a value does not reach the prompt: {key} {string[:60]!r}"
        if row.get("prompt") is not None and row.get("question") is not None and differ(row, "prompt",
                                                                                        "question"):
            return f"prompt and question both stand there: {str(row)[:100]}"
        gold = (row.get("reward_spec") or {}).get("ground_truth") if isinstance(row.get("reward_spec"),
                                                                             dict) else None
        if gold is None and not isinstance(row.get("answer"), (str, int, float, decimal.Decimal)):
            return f"no gold answer: {str(row)[:100]}"
        if isinstance(row.get("answer"), bool) or isinstance(gold, (bool, list, dict)):
            return f"a gold answer that is no number: {str(row)[:100]}"
        if gold is None and step.info["correct"] != 1:
            return f"the gold answer is graded wrong: {row.get('answer')!r}"
        return ""


class ConversationRows(Rows):
    """Rows of SFT: all text reaches the model, and what the assistant says is trained, as `loss` has it."""
    name = "conversations"
    rows = CONVERSATIONS
    share = 1.5

    def call(self, arena):
        section = SftSection(path=str(arena.inputs / f"rows.{self.form}"), max_tokens=2**30)
        return load_conversations(section, self.tokenizer)[0]

    def _wrong(self, row, read):
        shown = self.tokenizer.decode(read.ids, skip_special_tokens=False)
        trained = self.tokenizer.decode(read.ids[read.loss_mask == 1], skip_special_tokens=False)
        forms = [key for key in FORMS if row.get(key) is not None]
        if len(forms) > 1 and differ(row, *forms[:2]):
            return f"several forms in one row: {forms}"
        talks = forms[0] in ("messages", "conversations")
        answers = [key for key in ("answer", "completion") if row.get(key) is not None and not talks]
        if len(answers) > 1 and differ(row, *answers):
            return f"several answers in one row: {answers}"
        wanted = row[forms[0]]
        for key, string in leaves(wanted):
            if key not in ("from", *UNSHOWN) and string not in shown:
                return f"a value does not reach the model: {key} {string[:60]!r}"
        if answers:
            said = row[answers[0]].replace("<<12+7=19>>", "")
            return "" if said in trained else f"the answer is not trained: {said[:60]!r}"
        return self._mistrained(wanted, forms[0] == "conversations", trained)

    def _mistrained(self, turns: list, agent: bool, trained: str) -> str:
        want = []
        for turn in turns:
            loss = turn.get("loss")
            if loss is not None and type(loss) is not bool:
                return f"loss is no boolean: {loss!r}"
            if turn.get("weight") is not None:  # OpenAI's spelling
                loss = bool(turn["weight"])
            if agent and turn["from"] == "gpt" and loss:
                want.append(turn["value"])
            elif not agent and turn["role"] == "assistant" and loss is not False:
                want.append(turn["content"])
            elif not agent and turn["role"] != "assistant" and loss:
                return f"loss is asked for what is not trained: {str(turn)[:80]}"
        text = "".join(f"{said}<|im_end|>" for said in want)
        return "" if trained == text else f"other text is trained: {trained[:80]!r} and not {text[:80]!r}"


TARGETS = (PromptRows, ConversationRows)
