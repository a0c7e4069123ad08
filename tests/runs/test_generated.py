"""The table of data.generate: every row is a choice, and writes prompts, held-out prompts, conversations."""
import inspect
import json

import pytest

from jaxrl_moe.config import known_fields, setting_of
from jaxrl_moe.envs.text.textcraft import rows as textcraft
from jaxrl_moe.runs.generated import GENERATORS, write_data


def test_the_choices_of_the_setting_are_the_rows_of_the_table():
    assert setting_of(known_fields()["data.generate"]).choices.keys() == {"", *GENERATORS}


def test_the_files_of_textcraft_hold_episodes_whose_held_out_goals_are_no_others(tmp_path, monkeypatch):
    asked = []
    real = textcraft.conversations

    def few(count, *rest, **options):
        asked.append(count)
        return real(300, *rest, **options)

    monkeypatch.setattr(textcraft, "conversations", few)
    write_data("textcraft", tmp_path, 3)
    files = {path.stem: [json.loads(line) for line in path.read_text().splitlines()]
             for path in tmp_path.glob("*.jsonl")}
    assert {name: len(rows) for name, rows in files.items()} == {"train": 2048, "eval": 512, "sft": 300}
    ids = {name: {row["id"] for row in rows} for name, rows in files.items()}
    assert asked == [4096] and not ids["eval"] & (ids["train"] | ids["sft"]) and len(ids["eval"]) == 512
    assert files == GENERATORS["textcraft"](3)
    easy = GENERATORS["textcraft_terse"](3)
    simple = textcraft.goal_set("small").within(1)
    assert all(row["id"] < simple for rows in easy.values() for row in rows)
    assert not {row["id"] for row in easy["eval"]} & {row["id"] for row in easy["train"]}
    for name, start in (("textcraft_terse", "Action: "), ("textcraft", "Thought:\n")):
        assert GENERATORS[name](4)["sft"][0]["messages"][2]["content"].startswith(start)


@pytest.mark.parametrize("name", ["prompts", "conversations"])
def test_babyai_makes_rows_by_the_same_functions(name):
    babyai = pytest.importorskip("jaxrl_moe.envs.text.babyai.rows")
    ours = list(inspect.signature(getattr(textcraft, name)).parameters)[:4]
    assert list(inspect.signature(getattr(babyai, name)).parameters)[:4] == ours
