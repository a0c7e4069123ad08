"""The loss mask "qwen": what is trained and the ids, against pieces written and tokenised by hand."""
import json

import numpy as np
import pytest

from jaxrl_moe.config import SftSection
from jaxrl_moe.data.message_turns import mask_messages
from jaxrl_moe.data.rows import DataError
from jaxrl_moe.data.sft import load_conversations, mask_conversation
from jaxrl_moe.data.tokenizer import Tokenizer
from tests.helpers import templates
from tests.helpers.templates import byte_level

SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"},
        {"role": "user", "content": "and 2?"}, {"role": "assistant", "content": "6"}]
THOUGHT = [TALK[0], {"role": "assistant", "content": "<think>\n2 and 2\n</think>\n\n4"}, TALK[2], TALK[3]]
INJECTED = ("{% if messages[0].role != 'system' %}<|im_start|>system\nI am Qwen.<|im_end|>\n{% endif %}"
            + templates.QWEN25)
# As Qwen3's own does, a message that no question stands before is no answer to the last one.
QWEN3 = templates.QWEN3.replace("namespace(asked=-1)", "namespace(asked=messages | length - 1)")


def tokenizer_of(template, eos="<|im_end|>"):
    return Tokenizer(byte_level(template, eos), "here")


def masked(messages, tokenizer, **options):
    return mask_messages(messages, [message["role"] == "assistant" for message in messages], tokenizer,
                         **options)


def by_hand(tokenizer, *pieces):
    """Pieces (text, whether it is trained), each tokenised by itself."""
    ids = [tokenizer.hf.encode(text, add_special_tokens=False) for text, _ in pieces]
    mask = [trained for each, (_, trained) in zip(ids, pieces) for _ in each]
    return sum(ids, []), mask


def assert_is(conversation, expected):
    assert conversation.ids.tolist() == expected[0]
    assert conversation.loss_mask.tolist() == expected[1]


@pytest.mark.parametrize("template", [templates.QWEN25, QWEN3])
def test_all_assistant_turns_are_trained_with_their_end_and_without_the_generation_prompt(template):
    tokenizer = tokenizer_of(template)
    assert_is(masked([SYSTEM, *TALK], tokenizer), by_hand(
        tokenizer, ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n"
                    "<|im_start|>assistant\n", 0), ("4<|im_end|>", 1),
        ("\n<|im_start|>user\nand 2?<|im_end|>\n<|im_start|>assistant\n", 0), ("6<|im_end|>", 1), ("\n", 0)))


def test_a_system_message_of_the_templates_own_stands_once_at_the_beginning():
    tokenizer = tokenizer_of(INJECTED)
    assert_is(masked(TALK, tokenizer), by_hand(
        tokenizer, ("<|im_start|>system\nI am Qwen.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n"
                    "<|im_start|>assistant\n", 0), ("4<|im_end|>", 1),
        ("\n<|im_start|>user\nand 2?<|im_end|>\n<|im_start|>assistant\n", 0), ("6<|im_end|>", 1), ("\n", 0)))
    assert "I am Qwen" not in tokenizer.decode(masked([SYSTEM, *TALK], tokenizer).ids)


def test_reasoning_of_earlier_turns_is_kept_and_trained_where_the_whole_would_be_refused():
    tokenizer = tokenizer_of(QWEN3)
    with pytest.raises(DataError, match="differently when later messages follow"):
        mask_conversation(THOUGHT, [False, True, False, True], tokenizer)
    assert_is(masked(THOUGHT, tokenizer), by_hand(
        tokenizer, ("<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n", 0),
        ("<think>\n2 and 2\n</think>\n\n4<|im_end|>", 1),
        ("\n<|im_start|>user\nand 2?<|im_end|>\n<|im_start|>assistant\n", 0), ("6<|im_end|>", 1), ("\n", 0)))
    apart = [TALK[0], {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}, *TALK[2:]]
    assert masked(apart, tokenizer).ids.tolist() == masked(THOUGHT, tokenizer).ids.tolist()


def test_turns_that_are_not_to_be_trained_are_shown_and_not_trained():
    tokenizer = tokenizer_of(templates.QWEN25)
    first = mask_messages(TALK, [False, False, False, True], tokenizer)
    whole = masked(TALK, tokenizer)
    assert first.ids.tolist() == whole.ids.tolist() and 0 < first.loss_mask.sum() < whole.loss_mask.sum()


@pytest.mark.parametrize("template, eos", [("QWEN25", "<|im_end|>"), ("LLAMA3", "<|eot|>"),
                                           ("GEMMA", "<end_of_turn>")])
def test_where_a_template_rewrites_nothing_both_masks_are_the_same(template, eos):
    tokenizer = tokenizer_of(getattr(templates, template), eos)
    trained = [False, True, False, True]
    whole = mask_conversation(TALK, trained, tokenizer)
    alone = mask_messages(TALK, trained, tokenizer)
    assert np.array_equal(whole.ids, alone.ids) and np.array_equal(whole.loss_mask, alone.loss_mask)


def test_text_that_spells_a_control_token_is_text():
    tokenizer = tokenizer_of(templates.QWEN25)
    talk = [{"role": "user", "content": "say <|im_end|>"}, {"role": "assistant", "content": "<|im_end|>!"}]
    end = tokenizer.hf.convert_tokens_to_ids("<|im_end|>")
    conversation = masked(talk, tokenizer)
    assert conversation.ids.tolist().count(end) == 2
    assert conversation.ids[conversation.loss_mask == 1].tolist().count(end) == 1


@pytest.mark.parametrize("messages, template, wrong", [
    ([TALK[0]], "QWEN25", "no assistant turn"), ([TALK[1]], "QWEN25", "message 0 is the assistant's"),
    ([TALK[0], {"role": "tool", "content": "3"}, TALK[1]], "QWEN3", "message 1 is of the role 'tool'"),
    ([TALK[0], SYSTEM, TALK[1]], "QWEN25", "message 1 is of the role 'system'"),
    ([TALK[0], {"role": "assistant", "content": "", "tool_calls": [{}]}], "QWEN25", "has tools"),
    (TALK, "MISTRAL", "roles must alternate")])
def test_what_cannot_be_written_message_by_message_is_refused(messages, template, wrong):
    eos = "</s>" if template == "MISTRAL" else "<|im_end|>"
    with pytest.raises(DataError, match=wrong):
        masked(messages, tokenizer_of(getattr(templates, template), eos), where="row 1")


@pytest.mark.parametrize("template, wrong", [
    ("", "has no chat template"),
    ("{% for m in messages %}<|im_start|>{{ loop.length }} {{ m.content }}<|im_end|>{% endfor %}",
     "does not write messages one after the other"),
    ("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
     "{% if add_generation_prompt %}<|im_start|>now{% endif %}", "own generation prompt"),
    ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
     "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "no control token"),
    ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if m.role == 'assistant' }}<|im_end|>"
     "{% endfor %}" + templates.PROMPT, "leaves out part of message 0")])
def test_a_template_that_does_not_write_by_messages_is_refused(template, wrong):
    with pytest.raises(DataError, match=wrong):
        masked(TALK, tokenizer_of(template), where="row 1")


def test_the_setting_chooses_the_mask_of_the_files_rows(tmp_path):
    path = tmp_path / "sft.jsonl"
    path.write_text(json.dumps({"messages": THOUGHT}) + "\n")
    tokenizer = tokenizer_of(QWEN3)
    (conversation,), _ = load_conversations(SftSection(path=str(path), loss_mask="qwen"), tokenizer)
    assert_is(conversation, (masked(THOUGHT, tokenizer).ids.tolist(),
                             masked(THOUGHT, tokenizer).loss_mask.tolist()))
    with pytest.raises(DataError, match="differently"):
        load_conversations(SftSection(path=str(path)), tokenizer)
