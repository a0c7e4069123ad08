"""Calls of an agent within a session: the next one goes on from the tokens that were drawn, whatever the chat
template, and is recorded as the engine drew it."""
import asyncio
import contextlib
import time

import numpy as np
import openai
import pytest

from jaxrl_moe.data.chat.turn_bridge import TurnBridge
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.rollout.agents.tree import drafts
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.serving.openai.protocol import ChatRequest
from jaxrl_moe.serving.sessions.calls import SessionCalls
from jaxrl_moe.types import SamplingParams
from tests.helpers import templates
from tests.helpers.scripted_texts import Scripted
from tests.helpers.serving import serving
from tests.helpers.session_plans import plan
from tests.helpers.templates import byte_level
from tests.helpers.waiting import wait_until

ASK = {"role": "user", "content": "Look around."}
LOOK = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {
    "type": "object", "properties": {"at": {"type": "string"}}}}}
HERMES = 'So.\n<tool_call>\n{"name": "look", "arguments": {"at": "a wall"}}\n</tool_call>'
MISTRAL = '[TOOL_CALLS][{"name": "look", "arguments": {"at": "a wall"}, "id": "abcdefghi"}]'
RAW = {"return_token_ids": True}


@contextlib.contextmanager
def played(tokenizer, text, history="append", **changes):
    """(an openai client of a session of an engine that writes the text, the session, the server)."""
    sessions = AgentSessions()
    with (EngineFront(Scripted(tokenizer, text)) as front,
          serving(front, tokenizer, sessions=sessions, history=history) as server):
        session = sessions.open(plan(**changes))
        sessions.offer(session)
        handed = server.http.post("/sessions", json={}).json()
        with openai.OpenAI(base_url=handed["base_url"], api_key="none", max_retries=0, timeout=60) as client:
            yield client, session, server


def said(client, messages, stream=False, **options):
    """The assistant's message, as a client puts it into the next call."""
    got = client.chat.completions.create(model="tiny", messages=messages, stream=stream, **options)
    if not stream:
        return got.choices[0].message.model_dump()
    content = ""
    calls = []
    for event in got:
        delta = event.choices[0].delta
        content += delta.content or ""
        calls += [call.model_dump(exclude={"index"}) for call in delta.tool_calls or ()]
    return {"role": "assistant", "content": content} | ({"tool_calls": calls} if calls else {})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name, eos, text", [
    ("HERMES_TOOLS", "<|im_end|>", HERMES), ("QWEN25", "<|im_end|>", HERMES),
    ("MISTRAL_TOOLS", "</s>", MISTRAL)])
def test_a_call_goes_on_from_the_tokens_that_were_drawn_with_the_results_of_tools(name, eos, text, stream):
    """Against the bridge that the run's own episodes go by."""
    tokenizer = Tokenizer(byte_level(getattr(templates, name), eos), name)
    bridge = TurnBridge(tokenizer, tools=[LOOK])
    with played(tokenizer, text) as (client, session, _):
        messages = [ASK]
        talk = [ASK]
        context = bridge.prompt(talk)
        for number in range(3):
            answer = said(client, messages, stream, tools=[LOOK])
            call = session.calls[number]
            np.testing.assert_array_equal(call.prompt_ids, context)
            np.testing.assert_array_equal(call.completion.ids, client_ids(tokenizer, text))
            assert answer["tool_calls"][0]["function"]["name"] == "look"
            messages += [answer, {"role": "tool", "content": f"wall {number}",
                                  "tool_call_id": answer["tool_calls"][0]["id"]}]
            turn = bridge.assistant(call.completion.ids, False)
            result = {"role": "tool", "content": f"wall {number}"}
            context = bridge.next_prompt(call.ids, [*talk, turn.message], {len(talk): call.completion.ids},
                                         [result]).ids
            talk += [turn.message, result]
        (draft,) = drafts(session.calls)
    trace = draft.trace()
    assert len(trace.turns) == 3 and trace.loss_mask.sum() == 3 * len(client_ids(tokenizer, text))
    assert [message["content"] for message in trace.turns[1].observation] == ["wall 1"]


def client_ids(tokenizer, text):
    return Scripted(tokenizer, text).ids


@pytest.mark.parametrize("history, sequences", [("append", 1), ("branch", 2)])
def test_where_the_template_rewrites_the_history_it_is_kept_or_branches(history, sequences):
    tokenizer = Tokenizer(byte_level(templates.QWEN3, "<|im_end|>"), "qwen3")
    with played(tokenizer, "<think>\nhm\n</think>\n\n4", history) as (client, session, _):
        messages = [ASK]
        messages += [said(client, messages), {"role": "user", "content": "and?"}]
        said(client, messages)
    assert len(drafts(session.calls)) == sequences
    text = tokenizer.decode(session.calls[1].prompt_ids)
    assert text.count("hm") == 2 - sequences


def test_an_agent_that_changes_what_was_said_or_retries_makes_branches():
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    with played(tokenizer, "so") as (client, session, _):
        first = said(client, [ASK])
        said(client, [ASK])
        said(client, [ASK, {**first, "content": "changed"}, ASK])
        said(client, [ASK, first, ASK])
    sequences = [draft.trace() for draft in drafts(session.calls)]
    assert [len(trace.turns) for trace in sequences] == [1, 1, 2]  # what was drawn twice begins with both
    assert sum(int(trace.loss_mask.sum()) for trace in sequences) == 4 * len(client_ids(tokenizer, "so"))
    assert "changed" in tokenizer.decode(sequences[1].prompt_ids)


@pytest.mark.parametrize("written, ending, goes_on", [
    ("ab", "", False), ("ab", "<|im_end|>", True), ("a<|im_start|>b", "", False)])
def test_a_text_goes_on_from_its_completion_or_without_the_token_that_ended_it(written, ending, goes_on):
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    with played(tokenizer, written) as (client, session, _):
        text = client.completions.create(model="tiny", prompt="x y").choices[0].text
        client.completions.create(model="tiny", prompt=f"x y{text}{ending}\nz")
    first, second = session.calls
    assert text == "ab"  # special tokens are drawn, and not shown
    ids = first.ids if goes_on else first.ids[:-1]
    np.testing.assert_array_equal(second.prompt_ids, [*ids, *tokenizer.encode("\nz")])
    assert (second.parent is first) == goes_on


def test_ids_go_on_from_ids():
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    with played(tokenizer, "ab") as (client, session, _):
        first = client.completions.create(model="tiny", prompt=[5, 6], extra_body=RAW).choices[0]
        client.completions.create(model="tiny", prompt=[5, 6, *first.token_ids, 7])
    (draft,) = drafts(session.calls)
    assert draft.trace().prompt_ids.tolist() == [5, 6] and len(draft.turns) == 2


def test_each_call_has_the_noise_of_its_turn_and_the_runs_sampling():
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    params = SamplingParams(max_tokens=30, temperature=0.7, return_routed_experts=True, n=8,
                            stop_strings=("zzz",))
    with played(tokenizer, "so", params=params, longest=60) as (client, session, server):
        requests = []
        check = server.service.front._engine.check
        server.service.front._engine.check = lambda request, name: (requests.append(request),
                                                                    check(request, name))
        for limit in (None, 3):
            said(client, [ASK], max_tokens=limit, stop="qq", temperature=0.7)
    requests = requests[::2]  # each is looked at twice
    assert [(one.stream, one.sequence, one.sample) for one in requests] == [(0, 3, 1)] * 2
    assert [one.turn for one in requests] == [0, 1]
    assert [one.params.max_tokens for one in requests] == [min(30, 60 - len(requests[0].ids)), 3]
    for one in requests:
        assert (one.params.n, one.params.temperature, one.params.return_routed_experts) == (1, 0.7, True)
        assert one.params.stop_strings == ("zzz", "qq")


def test_an_agent_that_reads_no_further_is_idle_once_all_is_drawn():
    """Else one that hangs in mid-stream would never time out."""
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    sessions = AgentSessions()
    session = sessions.open(plan())
    body = ChatRequest(model="tiny", messages=[ASK], stream=True)
    with (EngineFront(Scripted(tokenizer, "so")) as front,
          serving(front, tokenizer, sessions=sessions) as server):
        calls = SessionCalls(server.service, sessions, "append")

        async def admitted():
            return await calls.chat(session.id, body)

        generation = asyncio.run(admitted())
        wait_until(lambda: session.idle > 0)
        assert server.service.in_flight == 1
        generation.close()
        assert not server.service.in_flight and not session.calls


def test_a_call_whose_client_goes_away_is_not_trained_on(monkeypatch):
    tokenizer = Tokenizer(byte_level(templates.QWEN25, "<|im_end|>"), "qwen25")
    step = Scripted.step
    monkeypatch.setattr(Scripted, "step", lambda self: time.sleep(0.05) or step(self))
    with played(tokenizer, "a long story of a walk to a wall") as (client, session, server):
        with client.chat.completions.create(model="tiny", messages=[ASK], stream=True) as events:
            next(iter(events))
        wait_until(lambda: not server.service.in_flight)
        assert not session.calls and session.idle > 0
        said(client, [ASK])
    assert len(session.calls) == 1
