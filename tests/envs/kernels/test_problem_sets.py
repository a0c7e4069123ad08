"""Problems from our own files, KernelBench's and KernelBook's, and the rows that are made of them."""
import json
import pathlib

import pyarrow
import pyarrow.parquet
import pytest

from jaxrl_moe.data.conversations import row_messages
from jaxrl_moe.data.rows import read_rows
from jaxrl_moe.demonstrations import forms
from jaxrl_moe.envs.kernels.code import last_code
from jaxrl_moe.envs.kernels.problem_sets import LeftOut, problems
from jaxrl_moe.envs.kernels.rows import rows
from jaxrl_moe.envs.kernels.task import TritonKernels
from jaxrl_moe.types import UserError
from tests.helpers.kernels import PROBLEM

BARE = PROBLEM.replace('SMALL = {"ROWS": 3}\nVARIANTS = [{"ROWS": 1}]\n', "")
BOOK = {"python_code": BARE.replace("Model", "Twice"), "entry_point": "Twice", "uuid": 17,
        "triton_code": "class TwiceNew:\n    pass\n", "repo_name": "a/b", "stars": 3}


def written(path, made):
    """A data file with these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def of(place, split="train"):
    return list(problems(str(place), LeftOut(), split))


def test_our_own_problems_have_names_levels_and_solutions():
    ours = of("ours")
    assert len(ours) == len({problem.instance_id for problem in ours}) >= 40
    assert {problem.level for problem in ours} == {1, 2}
    assert ours[0].name == "relu" and ours[0].number == 1 and ours[0].instance_id == "jaxrl_moe/level1/1_relu"
    assert all("class ModelNew" in problem.solution for problem in ours)


def test_files_in_kernelbenchs_layout_are_read_in_the_order_of_their_numbers(tmp_path):
    for level, name in (("level2", "3_Fused.py"), ("level1", "10_Ten.py"), ("level1", "2_Two_ReLU.py")):
        (tmp_path / level).mkdir(exist_ok=True)
        (tmp_path / level / name).write_text(BARE)
    (tmp_path / "level1" / "README.md").write_text("nothing")
    told = [(each.data_source, each.level, each.number, each.name) for each in of(tmp_path)]
    assert told == [("kernelbench", 1, 2, "Two_ReLU"), ("kernelbench", 1, 10, "Ten"),
                    ("kernelbench", 2, 3, "Fused")]
    (tmp_path / "level1" / "3_Bad.py").write_text("x = ")
    with pytest.raises(UserError, match="3_Bad.py, line 1 is no Python"):
        of(tmp_path)


def test_rows_of_kernelbench_are_read_from_its_parquet_files_by_level(tmp_path):
    row = {"code": BARE, "level": 1, "name": "19_ReLU.py", "problem_id": 19}
    path = tmp_path / "level_1-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    for place, split in ((path, "train"), (tmp_path, "level_1")):
        (problem,) = of(place, split)
        assert problem.instance_id == "kernelbench/level1/19_ReLU" and problem.source == BARE


def test_rows_of_kernelbook_are_brought_to_our_names_and_those_that_cannot_be_are_told(tmp_path):
    lost = [{**BOOK, "entry_point": "Thrice"}, {**BOOK, "python_code": BARE.replace("get_inputs", "inputs")}]
    place = written(tmp_path / "book.jsonl", [BOOK, *lost])
    left_out = LeftOut()
    (problem,) = problems(place, left_out)
    assert "class Model(" in problem.source and problem.solution == "class ModelNew:\n    pass\n"
    assert (problem.number, problem.name, problem.data_source) == (17, "Twice", "kernelbook")
    assert len(left_out.reasons) == 2 and "book.jsonl, row 2 has 0 classes Thrice" in str(left_out)
    assert "and 1 more" in str(LeftOut(["a"] * 4))


def test_rows_of_training_are_taken_with_their_own_prompts(tmp_path):
    prompt = [{"role": "system", "content": "Be fast."}, {"role": "user", "content": "Write."}]
    extra = {"level": "2", "problem_id": 4, "problem_name": "4_Twice.py", "data_source": "kernelbench"}
    place = written(tmp_path / "rows.jsonl", [{"prompt": prompt, "label": BARE, "extra_info": extra}])
    (problem,) = of(place)
    assert problem.instance_id == "kernelbench/level2/4_Twice"
    (row,) = rows(place, "all", "rl", LeftOut())
    assert row["prompt"] == prompt and row["label"] == BARE


@pytest.mark.parametrize("row, wrong", [
    ({"text": "x"}, r"row 1 is no row of problems \(columns: text\)"), ({"code": 3}, "`code` is an integer"),
    ({"code": "x ="}, "row 1, line 1 is no Python"), ({"label": "x = 1"}, "0 classes Model"),
    ({**BOOK, "entry_point": None}, "`entry_point` is null")])
def test_rows_that_hold_no_problem_are_refused_with_their_place(row, wrong, tmp_path):
    with pytest.raises(UserError, match=wrong):
        of(written(tmp_path / "rows.jsonl", [row]))


def test_the_splits_share_no_reference_and_are_the_same_every_time():
    parts = {split: rows("ours", split, "rl", LeftOut()) for split in ("train", "test", "all")}
    names = {split: {row["instance_id"] for row in made} for split, made in parts.items()}
    assert names["train"] | names["test"] == names["all"] and not names["train"] & names["test"]
    assert 0.1 < len(names["test"]) / len(names["all"]) < 0.35
    assert rows("ours", "train", "rl", LeftOut()) == parts["train"]


def test_the_same_reference_under_two_names_is_on_one_side(tmp_path):
    copies = [{"label": PROBLEM.replace("ROWS = 64", f"ROWS = {size}") + "\n" * blank}
              for size in range(40) for blank in range(2)]
    made = rows(written(tmp_path / "rows.jsonl", copies), "test", "rl", LeftOut())
    sources = [row["label"].strip() for row in made]
    assert 0 < len(sources) < 80 and all(sources.count(source) == 2 for source in sources)


def test_rows_have_the_columns_of_the_contract_and_the_task_takes_them():
    for row in rows("ours", "all", "rl", LeftOut()):
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row.keys() == {"prompt", "label", "extra_info", "instance_id"}
        assert row["extra_info"].keys() == {"level", "problem_id", "problem_name", "data_source", "task_type"}
        assert "VARIANTS" not in row["prompt"][1]["content"]
        TritonKernels().check_row(row, 0)


def test_integers_of_foreign_problems_are_cut_where_that_is_asked_and_of_ours_they_stay(tmp_path):
    place = written(tmp_path / "rows.jsonl", [{"code": BARE, "level": 1, "name": "a", "problem_id": 1},
                                              {"label": PROBLEM}])
    cut, ours = rows(place, "all", "rl", LeftOut(), largest=16)
    assert cut["extra_info"]["sizes"] == [{"ROWS": 16}] and "sizes" not in ours["extra_info"]
    assert "sizes" not in rows(place, "all", "rl", LeftOut(), largest=64)[0]["extra_info"]


def test_conversations_end_in_a_solution_that_is_read_as_an_answer(tmp_path):
    left_out = LeftOut()
    bare = {name: value for name, value in BOOK.items() if name != "triton_code"}
    (row,) = rows(written(tmp_path / "book.jsonl", [BOOK, bare]), "all", "sft", left_out)
    *_, answer = row["messages"]
    assert answer["role"] == "assistant"
    assert last_code(answer["content"]) == BOOK["triton_code"].replace("Twice", "Model")
    assert "has no solution" in str(left_out)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_written_rows_are_read_again_as_they_were(suffix, tmp_path):
    made = rows("ours", "test", "sft", LeftOut())
    path = tmp_path / f"rows{suffix}"
    forms.check_out(path)
    forms.write_rows(path, made)
    read = read_rows(str(path))
    assert [row.values["instance_id"] for row in read] == [row["instance_id"] for row in made]
    chat = row_messages(read[0])
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant"]
    assert chat.messages[-1]["content"] == made[0]["messages"][-1]["content"]
    with pytest.raises(UserError, match="is there already"):
        forms.check_out(path)
    with pytest.raises(UserError, match="no known form"):
        forms.check_out(pathlib.Path(tmp_path / "rows.csv"))
