"""Conversation masks against the template's own words: only what the assistant says, its end token
included."""
import json
import os
import pathlib

import numpy as np
import pytest

from jaxrl_moe.config import SftSection
from jaxrl_moe.data.rows import DataError, Row
from jaxrl_moe.data.sft import load_conversations, mask_conversation, remove_calculator_spans, row_messages
from jaxrl_moe.data.tokenizer import load_tokenizer
from tests.helpers.tiny_models import make_tokenizer

REAL = pathlib.Path(
    os.environ.get("JAXRL_GSM8K") or pathlib.Path(__file__).parents[2] / "../shared/data/gsm8k")
TALK = [{"role": "system", "content": "Count."}, {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"}, {"role": "user", "content": "and 1?"},
        {"role": "assistant", "content": "\n5, so five"}]
REASONING_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' "
    "and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}<|im_end|>\n{% endfor %}{% if "
    "add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
REWRITING_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }} of {{ messages "
    "| length }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


@pytest.fixture
def tokenizer(tmp_path):
    make_tokenizer(tmp_path / "tokenizer")
    return load_tokenizer(str(tmp_path / "tokenizer"))


def trained_text(conversation, tokenizer):
    """The trained spans as text, one string for each run of ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], conversation.loss_mask, [0]])))
    return [
        tokenizer.decode(conversation.ids[a:b], skip_special_tokens=False)
        for a, b in zip(edges[::2], edges[1::2])
    ]


def load(tmp_path, rows, tokenizer, **settings):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_conversations(SftSection(path=str(path)), tokenizer, **settings)[0]


def test_conversations_of_several_files_are_taken_together(tmp_path, tokenizer):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": TALK, "env": name}) + "\n")
    section = SftSection(files=f"a={tmp_path}/a.jsonl,b={tmp_path}/b.jsonl")
    conversations, report = load_conversations(section, tokenizer)
    assert len(conversations) == report.kept == 2 and report.source == section.files
    assert conversations[0].ids.tolist() == conversations[1].ids.tolist()


def test_only_assistant_turns_and_their_end_tokens_are_trained(tmp_path, tokenizer):
    conversation, = load(tmp_path, [{"messages": TALK}], tokenizer)
    assert trained_text(conversation, tokenizer) == ["4<|im_end|>", "\n5, so five<|im_end|>"]
    whole = tokenizer.render_text(TALK, generation_prompt=False)
    assert tokenizer.decode(conversation.ids, skip_special_tokens=False) == whole
    assert conversation.ids.dtype == conversation.loss_mask.dtype == np.int32


def test_an_end_id_that_has_no_text_ends_no_turn(tmp_path, tokenizer):
    (tmp_path / "tokenizer" / "config.json").write_text(json.dumps({"eos_token_id": len(tokenizer.hf) + 5}))
    padded = load_tokenizer(str(tmp_path / "tokenizer"))
    assert trained_text(mask_conversation(TALK, [False, False, True, False, True], padded), padded) == [
        "4<|im_end|>", "\n5, so five<|im_end|>"]


def test_what_comes_before_a_trained_turn_has_the_ids_that_the_engine_would_see(tmp_path, tokenizer):
    conversation, = load(tmp_path, [{"messages": TALK}], tokenizer)
    starts = np.flatnonzero(np.diff(np.concatenate([[0], conversation.loss_mask])) == 1)
    for start, count in zip(starts, (2, 4)):
        assert conversation.ids[:start].tolist() == tokenizer.render(TALK[:count]).tolist()


def test_a_message_that_asks_for_no_loss_is_not_trained(tmp_path, tokenizer):
    talk = [message | ({"loss": False} if message["content"] == "4" else {}) for message in TALK]
    conversation, = load(tmp_path, [{"messages": talk}], tokenizer)
    assert trained_text(conversation, tokenizer) == ["\n5, so five<|im_end|>"]


def test_agent_trajectories_train_only_turns_with_loss_true(tmp_path, tokenizer):
    turns = [{"from": "human", "loss": None, "value": "Rules"}, {"from": "gpt", "loss": False, "value": "OK"},
             {"from": "human", "loss": None, "value": "You see a door"},
             {"from": "gpt", "loss": True, "value": "Action: open"},
             {"from": "human", "loss": None, "value": "It opens"},
             {"from": "gpt", "loss": None, "value": "Action: wait"},
             {"from": "human", "loss": None, "value": "More"},
             {"from": "gpt", "loss": True, "value": "Action: go"}]
    conversation, = load(tmp_path, [{"item_id": "x_1", "conversations": turns}], tokenizer)
    assert trained_text(conversation, tokenizer) == ["Action: open<|im_end|>", "Action: go<|im_end|>"]


def test_gsm8k_rows_lose_their_calculator_spans_and_share_the_prompt_of_the_rl_phase(tmp_path, tokenizer):
    row = {"question": "Half of 48?", "answer": "48/2 = <<48/2=24>>24.\n#### 24"}
    conversation, = load(tmp_path, [row], tokenizer, system_prompt="Think.", suffix=" End in ####.")
    assert trained_text(conversation, tokenizer) == ["48/2 = 24.\n#### 24<|im_end|>"]
    text = tokenizer.decode(conversation.ids, skip_special_tokens=False)
    assert text.startswith("<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\nHalf of 48? End in "
                           "####.<|im_end|>")


@pytest.mark.parametrize("row",
                         [{"prompt": "2?", "answer": "two <<x>>"},
                          {"prompt": "2?", "completion": "two <<x>>"},
                          {"prompt": [{"role": "user", "content": "2?"}], "answer": "two <<x>>"}])
def test_prompt_and_answer_rows_train_the_answer_as_it_stands(tmp_path, tokenizer, row):
    conversation, = load(tmp_path, [row], tokenizer)
    assert trained_text(conversation, tokenizer) == ["two <<x>><|im_end|>"]


def test_a_template_that_treats_only_the_last_turn_differently_keeps_the_mask_right(tokenizer):
    tokenizer.hf.chat_template = REASONING_TEMPLATE
    conversation = mask_conversation(TALK, [False, False, True, False, True], tokenizer)
    assert trained_text(conversation, tokenizer) == ["4<|im_end|>",
                                                     "<think>\n\n</think>\n\n\n5, so five<|im_end|>"]


def test_a_template_that_rewrites_earlier_turns_is_an_error_that_says_how_to_split(tokenizer):
    tokenizer.hf.chat_template = REWRITING_TEMPLATE
    with pytest.raises(DataError, match="row 7: .*before message 2.*one row per assistant turn"):
        mask_conversation(TALK, [False, False, True, False, True], tokenizer, "row 7")


def test_long_conversations_are_left_out_and_counted(tmp_path, tokenizer):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"prompt": "2?", "answer": "x " * n}) + "\n" for n in (2, 300, 4)))
    conversations, report = load_conversations(SftSection(path=str(path), max_tokens=100), tokenizer)
    assert (len(conversations), report.rows, report.kept, report.too_long) == (2, 3, 2, 1)
    assert report.trained_tokens == sum(c.loss_mask.sum() for c in conversations)
    with pytest.raises(DataError, match="Raise sft.max_tokens"):
        load_conversations(SftSection(path=str(path), max_tokens=5), tokenizer)


@pytest.mark.parametrize("row, reason",
                         [({"text": "x"}, "is no conversation"),
                          ({"messages": TALK[:2]}, "no assistant turn"),
                          ({"messages": []}, "`messages` is empty"),
                          ({"conversations": []}, "`conversations` is not a list"),
                          ({"prompt": "x"}, "is no conversation"),
                          ({"conversations": [{"from": "dog", "value": "x"}]},
                           "turn 0 of `conversations` needs `from`"),
                          ({"conversations": [{"from": "human", "value": "x", "loss": True}]},
                           "only turns from gpt can be trained")])
def test_a_row_of_unknown_shape_is_an_error_that_names_file_and_row(tmp_path, tokenizer, row, reason):
    with pytest.raises(DataError, match=f"d.jsonl, row 2.*{reason}"):
        load(tmp_path, [{"prompt": "2?", "answer": "2"}, row], tokenizer)


def test_a_calculator_span_is_removed_whole():
    assert remove_calculator_spans("48/2 = <<48/2=24>>24 and <<1+1=2>>2") == "48/2 = 24 and 2"


@pytest.mark.skipif(not REAL.is_dir(), reason="no GSM8K files: set JAXRL_GSM8K to the folder of train.jsonl "
                                              "and test.jsonl")
def test_no_real_answer_keeps_a_calculator_span():
    lines = (REAL / "train.jsonl").read_text().splitlines()
    rows = [Row(json.loads(line), "row", index) for index, line in enumerate(lines)]
    answers = [row_messages(row)[0][-1]["content"] for row in rows]
    assert len(answers) == 7473
    assert not any("<<" in answer or ">>" in answer for answer in answers)


@pytest.mark.parametrize("row, names", [
    ({"prompt": "1?", "answer": "2", "completion": "3"}, "`answer` and `completion`"),
    ({"question": "1?", "answer": "2", "completion": "2 and more"}, "`answer` and `completion`"),
    ({"messages": TALK, "conversations": [{"from": "human", "value": "x"}]},
     "`messages` and `conversations`"),
    ({"messages": TALK, "prompt": "2 + 3?"}, "`messages` and `prompt`"),
    ({"messages": TALK, "question": "2 + 3?"}, "`messages` and `question`"),
    ({"messages": TALK, "completion": "6"}, "`messages` and `completion`"),
    ({"prompt": "1?", "question": "2?", "answer": "3"}, "`prompt` and `question`")])
def test_a_row_of_two_forms_that_differ_is_refused_with_both(row, names):
    with pytest.raises(DataError, match=f"d, row 1: {names} say different things"):
        row_messages(Row(row, "d, row 1", 0))


@pytest.mark.parametrize("more", [
    {"prompt": "2 + 2?"}, {"conversations": [{"from": "x", "value": turn["content"]} for turn in TALK]},
    {"completion": "5, so five"}, {"answer": "something else"}, {"question": None}])
def test_a_row_of_two_forms_that_agree_is_read(more):
    assert row_messages(Row({"messages": TALK} | more, "d, row 1", 0)).messages == TALK


def test_it_is_told_how_many_conversations_a_suffix_reaches(tmp_path, tokenizer):
    rows = [{"messages": TALK}, {"prompt": "2?", "answer": "3"}]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = load_conversations(SftSection(path=str(path)), tokenizer, suffix="!")[1]
    assert "data.suffix reach 1 of 2 rows" in str(report)
    assert "reach" not in str(load_conversations(SftSection(path=str(path)), tokenizer)[1])
