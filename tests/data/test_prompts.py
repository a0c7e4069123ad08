"""Prompt rows of every shape and form, the length filter with its counts, and errors that name file and
row."""
import json

import pytest

from jaxrl_moe.config import DataSection
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.rows import DataError, choose_files, read_rows
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.types import UserError
from tests.helpers.tiny_models import make_tokenizer

SKYRL = {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}],
         "env_class": "gsm8k",
         "reward_spec": {"method": "rule", "ground_truth": "4"},
         "extra_info": {"split": "train", "index": 3},
         "odd": [1, 2]}
BARE = {"prompt": "2 + 3?", "env_class": "gsm8k", "reward_spec": {"method": "rule", "ground_truth": "5"},
        "extra_info": {"split": "train", "index": 4}, "odd": [3, 4]}
GSM8K = {"question": "1 + 1?", "answer": "#### 2"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return load_tokenizer(str(folder))


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        import pyarrow
        import pyarrow.parquet
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_rows_travel_along_untouched_from_every_form(tmp_path, tokenizer, form):
    rows = [SKYRL, SKYRL | {"odd": [5]}]
    prompts, report = load_prompts(DataSection(path=write(tmp_path / f"d.{form}", rows)), tokenizer)
    assert [dict(prompt.row) for prompt in prompts] == rows
    assert [prompt.index for prompt in prompts] == [0, 1]
    assert prompts[0].ids.tolist() == tokenizer.render(SKYRL["prompt"]).tolist()
    assert (report.rows, report.kept, report.too_long) == (2, 2, 0)


def named(tmp_path, **rows):
    paths = {name: write(tmp_path / f"{name}.jsonl", each) for name, each in rows.items()}
    return ",".join(f"{name}={path}" for name, path in paths.items())


def test_rows_of_several_files_are_numbered_through_and_named_as_their_files(tmp_path, tokenizer):
    files = named(tmp_path, b=[BARE, GSM8K], a=[SKYRL | {"env": "a"}, BARE | {"env": None}, GSM8K])
    prompts, report = load_prompts(DataSection(files=files, eval_files=files), tokenizer)
    assert [(prompt.index, prompt.env, prompt.row["env"]) for prompt in prompts] == [
        (0, "b", "b"), (1, "b", "b"), (2, "a", "a"), (3, "a", "a"), (4, "a", "a")]
    assert prompts[3].where.endswith("a.jsonl, row 2") and dict(prompts[0].row) == BARE | {"env": "b"}
    assert (report.rows, report.kept, [part.kept for part in report.parts]) == (5, 5, [2, 3])
    assert str(report).count("\n") == 1 and f"a={tmp_path}/a.jsonl: 3 prompts of 3 rows" in str(report)
    held_out, _ = load_prompts(DataSection(eval_files=files), tokenizer, evaluation=True)
    assert [prompt.index for prompt in held_out] == [0, 1, 2, 3, 4]


def test_rows_of_one_file_name_only_environments_that_the_task_holds(tmp_path, tokenizer):
    rows = [GSM8K | {"env": env} for env in ("a", "b", 3, None, ["a"])]
    section = DataSection(path=write(tmp_path / "d.jsonl", rows))
    prompts, _ = load_prompts(section, tokenizer, envs=("a",))
    assert [prompt.env for prompt in prompts] == ["a", "", "", "", ""]
    assert {prompt.env for prompt in load_prompts(section, tokenizer)[0]} == {""}


def test_each_of_several_files_must_have_a_prompt_left_and_no_other_name(tmp_path, tokenizer):
    long = GSM8K | {"question": 200 * "1 + "}
    files = named(tmp_path, a=[GSM8K], b=[long])
    with pytest.raises(DataError, match="No prompt is left: b=.*b.jsonl: 0 prompts of 1 rows"):
        load_prompts(DataSection(files=files, max_prompt_tokens=64), tokenizer)
    with pytest.raises(DataError, match="c.jsonl, row 2 has env = 'd', and its file is that of 'c'"):
        load_prompts(DataSection(files=named(tmp_path, c=[GSM8K, GSM8K | {"env": "d"}])), tokenizer)


def test_a_system_prompt_must_reach_a_row_of_some_file(tmp_path, tokenizer):
    files = named(tmp_path, a=[SKYRL], b=[BARE])
    report = load_prompts(DataSection(files=files, system_prompt="Think."), tokenizer)[1]
    assert "data.system_prompt reach 1 of 2 rows" in str(report)
    with pytest.raises(DataError, match="a=.*c=.*would have no effect"):
        load_prompts(DataSection(files=named(tmp_path, a=[SKYRL], c=[SKYRL]), suffix="!"), tokenizer)


def test_a_bare_string_becomes_one_user_message_with_system_prompt_and_suffix(tmp_path, tokenizer):
    section = DataSection(path=write(tmp_path / "d.jsonl", [BARE, GSM8K, SKYRL]), system_prompt="Think.",
                          suffix=" End in ####.")
    prompts, _ = load_prompts(section, tokenizer)
    texts = [tokenizer.decode(prompt.ids, skip_special_tokens=False) for prompt in prompts]
    frame = ("<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\n{} End in "
             "####.<|im_end|>\n<|im_start|>assistant\n")
    assert texts[:2] == [frame.format("2 + 3?"), frame.format("1 + 1?")]
    assert "Think." not in texts[2] and "####" not in texts[2]


def test_a_problem_is_the_prompt_of_a_row_of_math(tmp_path, tokenizer):
    rows = [{"problem": "1 + 1?", "answer": "2"}, {"prompt": None, "question": None, "problem": "1 + 1?"}]
    path = write(tmp_path / "d.jsonl", rows)
    prompts, _ = load_prompts(DataSection(path=str(path)), tokenizer)
    asked, _ = load_prompts(DataSection(path=str(write(tmp_path / "q.jsonl", [GSM8K]))), tokenizer)
    assert [prompt.ids.tolist() for prompt in prompts] == [asked[0].ids.tolist()] * 2


def test_a_null_prompt_beside_a_question_is_a_gsm8k_row(tmp_path, tokenizer):
    path = write(tmp_path / "d.parquet", [GSM8K | {"prompt": None}, GSM8K | {"prompt": "Solve 1 + 1?"}])
    prompts, _ = load_prompts(DataSection(path=path), tokenizer)
    assert ["Solve" in tokenizer.decode(prompt.ids) for prompt in prompts] == [False, True]


def test_evaluation_reads_the_evaluation_path(tmp_path, tokenizer):
    section = DataSection(path=write(tmp_path / "a.jsonl", [BARE]),
                          eval_path=write(tmp_path / "b.jsonl", [GSM8K, GSM8K]))
    assert load_prompts(section, tokenizer, evaluation=True)[1].kept == 2


def test_long_prompts_are_left_out_and_counted(tmp_path, tokenizer):
    path = write(tmp_path / "d.jsonl", [GSM8K, {"question": "apple " * 200}, GSM8K])
    prompts, report = load_prompts(DataSection(path=path, max_prompt_tokens=50), tokenizer)
    assert [prompt.index for prompt in prompts] == [0, 2]
    assert (report.rows, report.kept, report.too_long) == (3, 2, 1)
    assert report.longest > 200
    assert "2 prompts of 3 rows, 1 left out as too long" in str(report)


def test_a_data_set_of_which_no_prompt_is_short_enough_is_an_error(tmp_path, tokenizer):
    with pytest.raises(DataError, match="Raise data.max_prompt_tokens"):
        load_prompts(DataSection(path=write(tmp_path / "d.jsonl", [GSM8K]), max_prompt_tokens=3), tokenizer)


def test_a_prompt_longer_than_the_context_is_an_error_that_names_the_row(tmp_path, tokenizer):
    path = write(tmp_path / "d.jsonl", [GSM8K, {"question": "apple " * 200}])
    with pytest.raises(DataError, match=r"d.jsonl, row 2: .* context holds 64 .*\(1 such rows\)"):
        load_prompts(DataSection(path=path, max_prompt_tokens=1000), tokenizer, context=64)


@pytest.mark.parametrize("row, reason",
                         [({"text": "2?"}, "row 2 has no prompt .its columns: text"),
                          ({"prompt": "  "}, "row 2 has no prompt"),
                          ({"prompt": []}, "`prompt` is empty"),
                          ({"prompt": 3}, "`prompt` is an integer"),
                          ({"prompt": [{"content": "x"}]}, "message 0 of `prompt` has no role"),
                          ({"prompt": [{"role": "user"}]}, r"message 0 of `prompt` \(user\) has no text"),
                          (["x"], "row 2 is a list")])
def test_a_row_without_a_usable_prompt_is_an_error_that_names_file_and_row(tmp_path, tokenizer, row, reason):
    with pytest.raises(DataError, match=reason) as error:
        load_prompts(DataSection(path=write(tmp_path / "d.jsonl", [GSM8K, row])), tokenizer)
    assert "d.jsonl, row 2" in str(error.value)


@pytest.mark.parametrize("name, content, reason",
                         [("d.jsonl", b'{"a": 1}\n{"a": \n', "row 2 is not JSON"),
                          ("d.json", b'{"a": 1}\n{"a": 2}\n', "name it .jsonl"),
                          ("d.json", b'{"a": 1}', "is a list of objects"),
                          ("d.parquet", b"PAR1 cut", "not a whole parquet file"),
                          ("d.csv", b"a,b", "unknown form"),
                          ("d.jsonl", b"\xff\xfe", "not UTF-8"),
                          ("d.jsonl", b"\n", "has no rows")])
def test_a_file_that_is_not_what_its_name_says_is_an_error(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_rows(str(tmp_path / name))


@pytest.mark.parametrize("path", ["absent.jsonl", "some/absent.parquet", "a/b/c", ""])
def test_an_absent_file_is_an_error(path):
    with pytest.raises(DataError, match="There is no data file"):
        read_rows(path)


def test_a_split_is_found_among_the_files_of_a_data_set():
    names = ["README.md", "main/test-00000-of-00001.parquet", "main/train-00000-of-00002.parquet",
             "main/train-00001-of-00002.parquet", "socratic/train-00000-of-00001.parquet"]
    assert choose_files(names, "train", None, "openai/gsm8k") == names[2:4]
    assert choose_files(names, "train", "socratic", "openai/gsm8k") == names[4:]
    assert choose_files(["data/train.jsonl", "data/retrain.jsonl", "data/train_notes.txt"], "train", None,
                        "x") == ["data/train.jsonl"]
    with pytest.raises(DataError, match="no jsonl, json or parquet file of the split 'val'"):
        choose_files(names, "val", None, "openai/gsm8k")
    with pytest.raises(DataError, match="in several folders: a, b"):
        choose_files(["a/train.jsonl", "b/train.jsonl"], "train", None, "x/y")


def test_a_hub_data_set_is_read_through_the_hub_client(tmp_path, tokenizer, monkeypatch):
    import huggingface_hub
    (tmp_path / "main").mkdir()
    write(tmp_path / "main" / "test-00000-of-00001.parquet", [GSM8K])
    names = ["README.md", "main/test-00000-of-00001.parquet", "socratic/test-00000-of-00001.parquet"]
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repo, repo_type: names)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download",
                        lambda repo, name, repo_type: str(tmp_path / name))
    prompts, report = load_prompts(DataSection(eval_path="openai/gsm8k"), tokenizer, evaluation=True)
    assert report.kept == 1
    assert dict(prompts[0].row) == GSM8K


def test_a_hub_data_set_that_cannot_be_fetched_is_an_error(monkeypatch):
    import huggingface_hub

    def refuse(repo, repo_type):
        raise OSError("no route to host")
    monkeypatch.setattr(huggingface_hub, "list_repo_files", refuse)
    with pytest.raises(DataError, match="'openai/gsm8k' cannot be fetched: no route to host"):
        read_rows("openai/gsm8k")


def test_a_folder_is_read_by_split(tmp_path):
    write(tmp_path / "train.jsonl", [GSM8K])
    write(tmp_path / "test.jsonl", [GSM8K, BARE])
    assert len(read_rows(str(tmp_path), "test")) == 2


@pytest.mark.parametrize("names, chosen", [
    (["train.jsonl", "train_old.jsonl", "train.jsonl.bak"], ["train.jsonl"]),
    (["train_1.json", "train_2.json", "train_sft.json"], ["train_1.json", "train_2.json"]),
    (["train-00000-of-00001-a09b74b3ef9c3b56.parquet"], ["train-00000-of-00001-a09b74b3ef9c3b56.parquet"]),
    (["train.clean.jsonl", "train00.jsonl"], ["train00.jsonl"])])
def test_a_file_is_of_a_split_where_nothing_but_a_number_follows_its_name(names, chosen):
    assert choose_files(names, "train", None, "x") == chosen


@pytest.mark.parametrize("names, words", [
    (["train.json", "train.jsonl"], "different forms: train.json and train.jsonl"),
    (["train.jsonl", "train-00000-of-00001.jsonl"], "train-00000-of-00001.jsonl and train.jsonl"),
    (["train.jsonl", "train_1.jsonl"], "train.jsonl and train_1.jsonl"),
    (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "of different forms"),
    (["train-00001-of-00002.parquet"], "1 of the 2 parts of the split 'train'"),
    (["train_old.jsonl", "train_new.jsonl"], r"no jsonl.*there are 'train_old.jsonl', 'train_new.jsonl'")])
def test_files_that_may_hold_a_row_twice_or_lack_some_are_refused_by_name(names, words):
    with pytest.raises(DataError, match=words):
        choose_files(names, "train", None, "x")


QUESTION = {"prompt": [{"role": "system", "content": "Be brief."},
                       {"role": "user", "content": "What is\n1 + 1?"}]}


@pytest.mark.parametrize("row", [
    QUESTION | {"question": "What is 1 + 1?"}, {"prompt": "1 + 1?", "question": "1 + 1?"},
    {"prompt": "1 + 1?", "messages": [*QUESTION["prompt"], {"role": "assistant", "content": "2"}]},
    QUESTION | {"question": ""}, QUESTION | {"conversations": None},
    QUESTION | {"reward_spec": {"ground_truth": "2"}, "extra_info": {"question": "x", "answer": "#### 2"}}])
def test_columns_that_say_the_same_pass(tmp_path, tokenizer, row):
    assert load_prompts(DataSection(path=write(tmp_path / "d.jsonl", [row])), tokenizer)[1].kept == 1


@pytest.mark.parametrize("row, names", [
    (QUESTION | {"question": "1 + 2?"}, "`prompt` and `question`"),
    ({"prompt": "a", "question": "b"}, "`prompt` and `question`"),
    ({"prompt": "a?", "messages": [{"role": "user", "content": "b"}]}, "`prompt` and `messages`"),
    ({"question": "a?", "conversations": json.dumps([{"from": "human", "value": "b"}])},
     "`question` and `conversations`")])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_columns_that_say_different_things_are_refused_with_both(tmp_path, tokenizer, row, names, form):
    with pytest.raises(DataError, match=rf"d\.{form}, row 1: {names} say different things"):
        load_prompts(DataSection(path=write(tmp_path / f"d.{form}", [row])), tokenizer)


@pytest.mark.parametrize("name", ["system_prompt", "suffix"])
def test_a_setting_around_bare_prompts_is_refused_where_no_row_has_one(tmp_path, tokenizer, name):
    section = DataSection(path=write(tmp_path / "d.jsonl", [SKYRL]), **{name: "Think."})
    with pytest.raises(DataError, match=rf"data.{name} would have no effect.*d.jsonl, row 1"):
        load_prompts(section, tokenizer)


def test_it_is_told_how_many_rows_a_setting_around_bare_prompts_reaches(tmp_path, tokenizer):
    section = DataSection(path=write(tmp_path / "d.jsonl", [SKYRL, BARE]), suffix="!", system_prompt="Think.")
    report = load_prompts(section, tokenizer)[1]
    assert "data.system_prompt and data.suffix reach 1 of 2 rows" in str(report)
    section = DataSection(path=write(tmp_path / "d.jsonl", [BARE]), suffix="!")
    assert "data.suffix" not in str(load_prompts(section, tokenizer)[1])


@pytest.mark.parametrize("flag, value", [
    ("loss", "yes"), ("weight", 0.5), ("train", 3), ("train_detail", [])])
def test_marks_for_training_in_a_prompt_are_of_their_type(tmp_path, tokenizer, flag, value):
    row = {"prompt": [{"role": "user", "content": "1?", flag: value}]}
    with pytest.raises(DataError, match=f"d.jsonl, row 1: message 0 .*`{flag}`"):
        load_prompts(DataSection(path=write(tmp_path / "d.jsonl", [row])), tokenizer)
    passing = {"prompt": [{"role": "user", "content": "1?", "loss": False, "weight": 0}]}
    assert load_prompts(DataSection(path=write(tmp_path / "d.jsonl", [passing])), tokenizer)[1].kept == 1


@pytest.mark.parametrize("row", [
    {"x\0" * 9999: 1}, {"prompt": [{"role": "r" * 99_999, "content": "a"}]},
    {"prompt": [{"role": "user", "content": [{"type": "text", "text": "a", "k\x1b" * 9999: 1}]}]},
    {"prompt": "a" * 99_999, "question": "b" * 99_999},
    {"prompt": "1?", "chat_template_kwargs": {"v" * 9999: 1}}])
def test_what_a_row_holds_is_cut_and_escaped_where_it_is_refused(tmp_path, tokenizer, row):
    with pytest.raises(UserError, match=r"d.jsonl, row 1") as refused:
        load_prompts(DataSection(path=write(tmp_path / "d.jsonl", [row])), tokenizer)
    assert len(str(refused.value)) < 1500 and str(refused.value).isprintable()


@pytest.mark.parametrize("blank", ["\x0b", "\x1c", "\u3000", "\x85"])
def test_a_line_of_other_white_space_than_json_has_is_damaged(tmp_path, blank):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(GSM8K) + "\n \t\n" + blank + "\n", newline="")
    with pytest.raises(DataError, match="d.jsonl, row 3 is not JSON"):
        read_rows(str(path))
