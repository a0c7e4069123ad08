"""From turn to turn under templates that behave as those of well-known families: what was sampled stays, and
what stands between is the template's own, against transformers' rendering of the whole."""
import random

import numpy as np
import pytest

from jaxrl_moe.data.chat.tools.form import looking, spoken
from jaxrl_moe.data.chat.turn_bridge import TurnBridge, continues
from jaxrl_moe.data.tokenizer import Tokenizer, TokenizerError
from jaxrl_moe.types import ToolCall, UserError
from tests.helpers import templates
from tests.helpers.templates import byte_level, sentencepiece
from tests.helpers.tiny_models import CHAT_TEMPLATE

EOS = {"QWEN25": "<|im_end|>", "HERMES_TOOLS": "<|im_end|>", "QWEN3": "<|im_end|>",
       "QWEN3_TOOLS": "<|im_end|>", "NUMBERED": "<|im_end|>",
       "LLAMA3": "<|eot|>", "LLAMA3_TOOLS": "<|eot|>", "MISTRAL": "</s>", "MISTRAL_TOOLS": "</s>",
       "MISTRAL_NAMED": "</s>", "GEMMA": "<end_of_turn>", "PHI3": "<|end|>", "CHATML": "<|im_end|>",
       "DATED": "<|end|>", "OPEN_THOUGHTS": "<|end|>", "HARMONY": "<|return|>"}
REWRITES = ("QWEN3", "QWEN3_TOOLS", "OPEN_THOUGHTS", "HARMONY")
WITH_TOOLS = ("QWEN25", "HERMES_TOOLS", "QWEN3_TOOLS", "LLAMA3_TOOLS", "MISTRAL_TOOLS", "MISTRAL_NAMED")
TOKENIZERS = {
    "bytes": byte_level,
    "takes_space": lambda *args: byte_level(*args, takes_space=True),
    "first": sentencepiece,
    "always": lambda *args: sentencepiece(*args, scheme="always"),
    "legacy": lambda *args: sentencepiece(*args, legacy=True)
}
LOOK = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {
    "type": "object", "properties": {"at": {"type": "string"}}}}}
ASK = {"role": "user", "content": "2 + 2?"}
MORE = {"role": "user", "content": "and 2?"}
WALL = {"role": "tool", "content": "a wall"}
LETTERS = "ab 4.,:?\n{}\"<|é漢🙂\u200d\ufffd"
SPELT = ("<|im_end|>", "</s>", "<|im_start|>user\n", "[TOOL_CALLS]", "<|end|>", "[INST]", "\U000f0000",
         "\U000f00100", "xqz0z0zqx")


def make_tokenizer(name, make=byte_level):
    template = CHAT_TEMPLATE if name == "CHATML" else getattr(templates, name)
    return Tokenizer(make(template, EOS[name]), name)


@pytest.fixture(scope="module")
def tokenizers():
    return {(name, kind): make_tokenizer(name, make) for name in EOS for kind, make in TOKENIZERS.items()}


def end_id(tokenizer):
    return tokenizer.eos_ids[0]


def sampled(tokenizer, before, text, end=True):
    """The ids of a text as a model goes on after a prompt, with its end token."""
    ids = tokenizer.encode_hidden(tokenizer.literals.hide(text), before)
    return np.array([*ids, end_id(tokenizer)] if end else ids, np.int32)


class Episode:
    """Plays turns and keeps what a trace would."""

    def __init__(self, tokenizer, **options):
        self.tokenizer = tokenizer
        self.bridge = TurnBridge(tokenizer, **options)
        self.tools = options.get("tools", ())
        self.messages = [ASK]
        self.context = self.bridge.prompt(self.messages)
        self.prompt = self.context
        self.parts = []  # (ids, whether they were sampled)
        self.drawn = {}
        self.turns = []
        self.broken = 0

    def turn(self, text, observation, end=True):
        before = self.tokenizer.template.render(self.messages, tools=self.tools)
        ids = sampled(self.tokenizer, before, text, end)
        return self.draw(ids, observation, not end)

    def draw(self, ids, observation, truncated=False):
        turn = self.bridge.assistant(ids, truncated)
        self.turns.append(turn)
        self.drawn[len(self.messages)] = ids
        self.messages.append(turn.message)
        following = self.bridge.next_prompt(np.concatenate([self.context, ids]), self.messages, self.drawn,
                                            observation)
        self.messages += observation
        if following.bridge is None:
            self.broken += 1
        else:
            whole = np.concatenate([self.context, ids, following.bridge])
            np.testing.assert_array_equal(whole, following.ids)
            self.parts += [(ids, True), (following.bridge, False)]
        self.context = following.ids
        return following.bridge

    def own(self, **options):
        """The template's own rendering of the whole."""
        return self.tokenizer.hf.apply_chat_template(self.messages, add_generation_prompt=True,
                                                     return_dict=False, **options)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", [name for name in EOS if name not in REWRITES])
def test_prompt_turns_and_bridges_are_the_templates_own_rendering_of_the_whole(tokenizers, name, kind):
    episode = Episode(tokenizers[name, kind])
    for text in ("4", "Hello 6", "is 4."):
        text = f" {text}" if name == "MISTRAL" or name == "MISTRAL_TOOLS" else text
        episode.turn(text, [MORE])
    assert episode.context.tolist() == episode.own()
    assert len(episode.parts) == 6


@pytest.mark.parametrize("name", EOS)
def test_what_was_sampled_is_never_changed_whatever_it_says(tokenizers, name):
    generator = random.Random(0)
    tokenizer = tokenizers[name, "bytes"]
    for number in range(6):
        tools = [LOOK] if name in WITH_TOOLS and number % 2 else ()
        episode = Episode(tokenizer, tools=tools)
        trace = [episode.prompt]
        for _ in range(3):
            ids = np.array([*generator.choices(range(len(tokenizer.hf)), k=generator.randint(1, 12)),
                            *[end_id(tokenizer)] * generator.randint(0, 1)], np.int32)
            seen = "".join(generator.choices(LETTERS, k=8)) + generator.choice(SPELT)
            bridge = episode.draw(ids, [{"role": "user", "content": seen}])
            trace += [ids, bridge]
            ended = ids[-1] == end_id(tokenizer)  # the end once: sampled, or supplied
            writes = "<|end|>" if name == "HARMONY" else EOS[name]
            assert ended != (bridge[0] == tokenizer.hf.convert_tokens_to_ids(writes))
            assert seen.strip() in tokenizer.decode(bridge, skip_special_tokens=False)
            expected = Episode(tokenizer, tools=tools)  # the same observation after a plain turn
            plain = expected.turn("so", [{"role": "user", "content": seen}])
            if name != "NUMBERED":
                np.testing.assert_array_equal(bridge if ended else bridge[1:], plain)
        np.testing.assert_array_equal(np.concatenate(trace), episode.context)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", WITH_TOOLS)
def test_calls_and_results_are_the_templates_own_rendering(tokenizers, name, kind):
    tokenizer = tokenizers[name, kind]
    for calls in ([looking(0)], [looking(0), looking(1)]):
        if name == "LLAMA3_TOOLS" and len(calls) > 1:
            continue
        episode = Episode(tokenizer, tools=[LOOK])
        talk = [ASK, {"role": "assistant", "content": "", "tool_calls": calls}]
        whole = tokenizer.template.render(talk, generation_prompt=False, tools=[LOOK])
        before = tokenizer.template.render([ASK], tools=[LOOK])
        ids = tokenizer.encode_hidden(whole[len(before):whole.rindex(EOS[name]) + len(EOS[name])], before)
        bridge = episode.draw(ids, [WALL] * len(calls))
        assert episode.turns[0].action.tool_calls == tuple(map(spoken, calls))
        assert not episode.turns[0].action.malformed and episode.turns[0].action.text.strip() in (
            "", "<think>\n\n</think>")
        episode.messages[2:] = [
            {**message, "tool_call_id": call["id"], "name": "look"}
            for message, call in zip(episode.messages[2:], episode.messages[1]["tool_calls"])]
        own = episode.own(tools=[LOOK])
        if name == "QWEN3_TOOLS":  # which drops the empty thoughts once a result follows
            assert own[-len(bridge):] == bridge.tolist()
        else:
            assert episode.context.tolist() == own


@pytest.mark.parametrize("kind", ["bytes", "first"])
@pytest.mark.parametrize("name", [name for name in EOS if name not in REWRITES])
def test_the_context_is_the_rendering_of_the_whole_whatever_is_said(tokenizers, name, kind):
    tokenizer = tokenizers[name, kind]
    generator = random.Random(1)
    compared = 0
    for _ in range(15):
        episode = Episode(tokenizer)
        canonical = True
        for _ in range(2):
            answer, seen = ("".join(generator.choices(LETTERS, k=number)) for number in (4, 9))
            answer = " " * (name in ("MISTRAL", "MISTRAL_TOOLS")) + answer
            before = tokenizer.template.render(episode.messages)
            episode.turn(answer, [{"role": "user", "content": seen}])
            text = before + tokenizer.literals.hide(answer)
            whole = tokenizer.encode_hidden(text).tolist()
            start = tokenizer.encode_hidden(before).tolist()
            ids = episode.drawn[len(episode.messages) - 2].tolist()[:-1]
            canonical = canonical and whole == start + ids
            canonical = canonical and tokenizer.template.render(episode.messages).startswith(text)
        if canonical:
            compared += 1
            assert episode.context.tolist() == tokenizer.render(episode.messages).tolist()
    assert compared >= 3


@pytest.mark.parametrize("observation", [[MORE], [WALL], [WALL, MORE], [MORE, MORE]])
@pytest.mark.parametrize("end", [True, False])
def test_the_newline_after_the_end_token_is_there_at_every_boundary(tokenizers, observation, end):
    tokenizer = tokenizers["QWEN25", "bytes"]
    for text in ('<tool_call>\n{"name": "look"}\n</tool_call>', "so", "so\n", "<tool_call>{bad"):
        bridge = Episode(tokenizer, tools=[LOOK]).turn(text, observation, end)
        begins = "\n<|im_start|>" if end else "<|im_end|>\n<|im_start|>"
        written = tokenizer.decode(bridge, skip_special_tokens=False)
        assert written.startswith(begins) and written.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert written.count("<|im_end|>") == len(observation) + (not end)


def test_a_turn_that_another_stop_token_ended_gets_no_second_end():
    hf = byte_level(templates.QWEN25)
    tokenizer = Tokenizer(hf, "here", {("generation_config.json", "eos_token_id"): [
        hf.convert_tokens_to_ids("<|endoftext|>")]})
    assert len(tokenizer.eos_ids) == 2
    ids = np.array([*tokenizer.encode("4"), tokenizer.eos_ids[1]])
    bridge = TurnBridge(tokenizer).bridge([ASK, {"role": "assistant", "content": "4"}], ids, [MORE])
    assert tokenizer.decode(bridge, skip_special_tokens=False) == (
        "\n<|im_start|>user\nand 2?<|im_end|>\n<|im_start|>assistant\n")


def test_an_end_token_that_is_no_stop_token_is_supplied_after_the_limit_alone():
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|endoftext|>"), "here")
    end = tokenizer.hf.convert_tokens_to_ids("<|im_end|>")
    message = {"role": "assistant", "content": "4"}
    four = tokenizer.encode("4").tolist()
    for ids, supplied in ((four, 1), ([*four, end], 0), ([*four, tokenizer.eos_ids[0]], 0)):
        bridge = TurnBridge(tokenizer).bridge([ASK, message], np.array(ids), [MORE])
        assert (bridge == end).sum() == 1 + supplied


THOUGHT = "<think>\ntwo and two\n</think>\n\n4"


def test_append_keeps_reasoning_that_the_template_drops_and_branch_begins_a_new_sample(tokenizers):
    tokenizer = tokenizers["QWEN3", "bytes"]
    kept = Episode(tokenizer)
    kept.turn(THOUGHT, [MORE])
    kept.turn(THOUGHT, [MORE])
    assert tokenizer.decode(kept.context).count("two and two") == 2
    assert tokenizer.decode(kept.own()).count("two and two") == 0
    branched = Episode(tokenizer, history="branch")
    branched.turn(THOUGHT, [MORE])
    assert branched.turns[0].message == {"role": "assistant", "content": "4",
                                         "reasoning_content": "two and two"}
    assert branched.broken == 1 and branched.context.tolist() == branched.own()
    branched.turn(THOUGHT, [MORE])
    assert branched.broken == 2 and branched.context.tolist() == branched.own()


def test_branch_goes_on_where_the_template_keeps_the_reasoning(tokenizers):
    tokenizer = tokenizers["QWEN3_TOOLS", "bytes"]
    episode = Episode(tokenizer, tools=[LOOK], history="branch")
    call = '\n<tool_call>\n{"name": "look", "arguments": {"at": "it"}}\n</tool_call>'
    for _ in range(3):  # between calls and results no question of the user's own comes
        episode.turn(THOUGHT.replace("4", "") + call, [WALL])
        assert episode.turns[-1].action.tool_calls == (ToolCall("look", '{"at": "it"}'),)
    assert episode.broken == 0 and tokenizer.decode(episode.context).count("two and two") == 3
    assert episode.context.tolist() == episode.own(tools=[LOOK])
    episode.turn(THOUGHT, [MORE])
    assert episode.broken == 1 and tokenizer.decode(episode.context).count("two and two") == 0


@pytest.mark.parametrize("name", ["QWEN25", "PHI3", "GEMMA", "LLAMA3", "MISTRAL_NAMED", "QWEN3"])
def test_branch_keeps_the_sampled_ids_of_turns_that_the_template_writes_unchanged(tokenizers, name):
    tokenizer = tokenizers[name, "bytes"]
    episode = Episode(tokenizer, history="branch")
    letters = [tokenizer.hf.convert_tokens_to_ids(letter) for letter in "assistant"]
    assert len(tokenizer.encode("assistant")) < len(letters)  # a re-tokenised text would have fewer ids
    empty = tokenizer.encode("<think>\n\n</think>\n\n").tolist() if name == "QWEN3" else []
    for _ in range(3):
        episode.draw(np.array([*empty, *letters, end_id(tokenizer)], np.int32), [MORE])
    text = tokenizer.decode(episode.context, skip_special_tokens=False)
    assert text == tokenizer.decode(episode.own(), skip_special_tokens=False)
    runs = sum(letters == episode.context[at:at + 9].tolist() for at in range(len(episode.context)))
    if name == "QWEN3":  # whose turns lose their empty thoughts, and so are no longer what was sampled
        assert episode.broken == 3 and runs == 0
    else:
        assert episode.broken == 0 and runs == 3 and len(episode.parts) == 6
    cut = Episode(tokenizer, history="branch")
    cut.draw(np.array([*empty, *letters], np.int32), [MORE], truncated=True)
    assert cut.broken == (name == "QWEN3")


def test_branch_does_not_take_a_question_for_an_answer_of_the_same_words(tokenizers):
    tokenizer = tokenizers["QWEN3", "bytes"]
    bridge = TurnBridge(tokenizer, history="branch", variables={"enable_thinking": False})
    letters = [tokenizer.hf.convert_tokens_to_ids(letter) for letter in "user"]
    answer = np.array([*letters, end_id(tokenizer)], np.int32)
    asked = {"role": "user", "content": "user"}
    messages = [asked, bridge.assistant(answer, False).message, asked]
    ids = bridge.rendered(messages, {1: answer})
    starts = [at for at in range(len(ids)) if ids[at:at + 4].tolist() == letters]
    assert len(starts) == 1  # the answer alone: the questions are encoded as ever
    assert tokenizer.decode(ids[:starts[0]]).endswith("assistant\n")


def test_thoughts_that_the_prompt_opens_are_thoughts(tokenizers):
    tokenizer = tokenizers["OPEN_THOUGHTS", "bytes"]
    hidden = 'I could <tool_call>{"name": "look"}</tool_call>\n</think>\n\n'
    episode = Episode(tokenizer)
    episode.turn(hidden + "no", [MORE])
    assert episode.turns[0].action.text == hidden + "no"
    with_calls = templates.OPEN_THOUGHTS.replace("[-1] }}", "[-1] }}" + templates.CALLS) + (
        "{{ tools | tojson if not messages }}")
    tokenizer = Tokenizer(byte_level(with_calls, "<|end|>"), "here")
    turn = TurnBridge(tokenizer, tools=[LOOK]).assistant(
        tokenizer.encode(hidden + '<tool_call>{"name": "look"}</tool_call>'), False)
    assert turn.action.tool_calls == (ToolCall("look", "{}"),) and turn.action.text == hidden.rstrip()


def test_the_environment_sees_text_without_calls_and_what_is_malformed(tokenizers):
    tokenizer = tokenizers["QWEN25", "bytes"]
    text = ('I look.\n<tool_call>\n{"name": "look", "arguments": {"at": "it"}}\n</tool_call>\n'
            "<tool_call>{bad</tool_call>")
    turn = Episode(tokenizer, tools=[LOOK])
    turn.turn(text, [WALL])
    action = turn.turns[0].action
    assert action.text == "I look.<tool_call>{bad</tool_call>" and not action.truncated
    assert action.tool_calls == (ToolCall("look", '{"at": "it"}'),)
    assert action.num_tokens == len(turn.drawn[1])
    assert len(action.malformed) == 1 and "{bad" in action.malformed[0] and "no JSON" in action.malformed[0]
    plain = Episode(tokenizer)
    plain.turn(text, [MORE])
    assert plain.turns[0].action.text == text and not plain.turns[0].action.tool_calls


def test_calls_beyond_what_the_template_can_write_are_malformed(tokenizers):
    tokenizer = tokenizers["LLAMA3_TOOLS", "bytes"]
    episode = Episode(tokenizer, tools=[LOOK])
    calls = "; ".join(f'{{"name": "look", "parameters": {{"at": "{letter}"}}}}' for letter in "ab")
    episode.turn(calls, [WALL])
    action = episode.turns[0].action
    assert action.tool_calls == (ToolCall("look", '{"at": "a"}'),)
    assert len(action.malformed) == 1 and "one call of a turn" in action.malformed[0]


@pytest.mark.parametrize("name, observation, told", [
    ("QWEN3", [{"role": "developer", "content": "x"}], "leaves out `content`.*developer"),
    ("MISTRAL", [MORE, MORE], "roles must alternate"),
    ("OPEN_THOUGHTS", [WALL], "leaves out `content`.*tool"),
    ("MISTRAL_NAMED", [{"role": "system", "content": "x"}], "leaves out `content`.*system"),
    ("QWEN25", [{"role": "user", "content": 5}], "`content` is an integer")])
def test_an_observation_that_would_not_reach_the_model_is_refused(tokenizers, name, observation, told):
    for history in ("append", "branch"):
        with pytest.raises(UserError, match=told):
            Episode(tokenizers[name, "bytes"], history=history).turn("4", observation)


def test_a_prompt_that_ends_in_the_assistants_words_is_gone_on_with(tokenizers):
    tokenizer = tokenizers["QWEN25", "bytes"]
    bridge = TurnBridge(tokenizer)
    begun = {"role": "assistant", "content": "I say"}
    prompt = bridge.prompt([ASK, begun])
    assert tokenizer.decode(prompt).endswith("assistant\nI say")
    ids = np.array([*tokenizer.encode(" 4"), end_id(tokenizer)])
    turn = bridge.assistant(ids, False, begun["content"])
    assert turn.message["content"] == "I say 4" and turn.action.text == " 4"
    context = np.concatenate([prompt, ids])
    following = bridge.next_prompt(context, [ASK, turn.message], {1: ids}, [MORE])
    assert following.ids.tolist() == tokenizer.hf.apply_chat_template(
        [ASK, turn.message, MORE], add_generation_prompt=True, return_dict=False)


def test_continues_says_whether_a_prompt_begins_with_a_context():
    assert continues([1, 2], [1, 2, 3]) and continues([], [1]) and continues([1], [1])
    assert not continues([1, 2], [1, 3, 2]) and not continues([1, 2], [1])


@pytest.mark.parametrize("given, kept", [("abcdefghi", True), ("call_1", False), ("", False)])
def test_a_call_keeps_the_id_that_the_model_gave_it_where_templates_take_it(tokenizers, given, kept):
    tokenizer = tokenizers["MISTRAL_TOOLS", "bytes"]
    episode = Episode(tokenizer, tools=[LOOK])
    label = f', "id": "{given}"' if given else ""
    call = tokenizer.encode(f' [{{"name": "look", "arguments": {{}}{label}}}]')  # of the mark, its token
    mark = tokenizer.hf.convert_tokens_to_ids("[TOOL_CALLS]")
    bridge = episode.draw(np.array([mark, *call, end_id(tokenizer)]), [WALL])
    written = tokenizer.decode(bridge)
    assert (f'"call_id": "{given}"' in written) == kept
    assert kept or '"call_id": "call00000"' in written


def test_an_unknown_history_is_refused(tokenizers):
    with pytest.raises(TokenizerError, match="'keep' is neither append nor branch"):
        TurnBridge(tokenizers["QWEN25", "bytes"], history="keep")
