"""Whole runs whose episodes are played by agents in processes of their own, with the real openai client: what
is trained is what they were answered."""
import collections
import os
import signal
import subprocess
import sys
import threading

import pytest

import bridges
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.runs.stopping import Ending
from jaxrl_moe.serving.launch import beside_training
from jaxrl_moe.training import pipeline
from tests.helpers import tiny_run
from tests.helpers.processes import ROOT, free_port
from tests.helpers.runs import rows
from tests.helpers.settings import refuse_settings

KEY = "the-key-of-the-run"
END = 2  # <|im_end|>
AGENT = dict(env__name="agent(max_turns=4)", episodes__max_tokens=300, data__max_prompt_tokens=32,
             rollout__max_tokens=6, train__steps=2, train__tokens_per_micro_batch=2048, eval__prompts=2,
             eval__samples=2, eval__every=2, eval__greedy=False, lora__dropout=0.0, endpoint__serve=True,
             endpoint__api_key_env="AGENT_TEST_KEY")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_talking_files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("how, bound", [
    ("chats", 0), pytest.param("chats", 1, marks=pytest.mark.slow),
    pytest.param("texts", 0, marks=pytest.mark.slow), pytest.param("rewrites", 0, marks=pytest.mark.slow),
    pytest.param("fails", 1, marks=pytest.mark.slow),
    pytest.param("leaves", 0, marks=pytest.mark.slow)])
def test_what_agents_are_answered_is_what_a_run_trains_on(files, tmp_path, monkeypatch, how, bound):
    monkeypatch.setenv("AGENT_TEST_KEY", KEY)
    port = free_port()
    settings = AGENT | {"endpoint__port": port, "rollout__max_staleness": bound}
    settings |= {"episodes__retries": 9}  # whoever is unlucky with one agent meets the next
    if how == "leaves":
        settings |= {"episodes__step_timeout": 5.0, "eval__at_start": False}  # they leave in the training
    if how == "fails":
        settings |= {"episodes__max_error_rate": 0.5}
    agents = [subprocess.Popen([sys.executable, "tests/helpers/agent_client.py", f"http://127.0.0.1:{port}",
                                KEY, str(tmp_path / f"{number}.jsonl"), how], cwd=ROOT,
                               stdout=subprocess.PIPE, text=True) for number in range(3)]
    try:
        config = resolve(tiny_run.settings(files, tmp_path / "run", **settings))
        assert pipeline.run_all(config, bridges, beside_training)
        said = [agent.communicate(timeout=60)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert all(text.startswith("410") for text in said), said  # each learnt that the run is over
    records = [record for number in range(3) for record in rows(tmp_path / f"{number}.jsonl")]
    drawn = rows(tmp_path / "run/trajectories.jsonl")
    check_rows(drawn, records)
    metrics = rows(tmp_path / "run/metrics.jsonl")
    tried = sum(row.get("episodes/failed_frac", 0) for row in metrics)
    assert (tried > 0) == (how in ("leaves", "fails"))
    if not bound:  # else tokens of older weights are among them
        assert all(row["mismatch/kl"] < 1e-9 for row in metrics[1:])
    assert metrics[-1]["rollout/turns_mean"] == 3
    for row in drawn:
        assert len(row["branches"]) == {"rewrites": 2, "texts": unshown_ends(row)}.get(how, 0)


@pytest.mark.parametrize("bound", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_sigterm_ends_a_run_that_waits_for_agents(files, tmp_path, monkeypatch, bound):
    monkeypatch.setenv("AGENT_TEST_KEY", KEY)
    settings = AGENT | {"endpoint__port": free_port(), "rollout__max_staleness": bound,
                        "eval__at_start": bound == 0}
    config = resolve(tiny_run.settings(files, tmp_path / "run", **settings))
    offer = AgentSessions.offer
    offered = threading.Event()

    def offer_and_tell(self, session):
        offer(self, session)
        offered.set()

    def terminate():
        offered.wait(120)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(AgentSessions, "offer", offer_and_tell)
    threading.Thread(target=terminate).start()
    assert pipeline.run_all(config, bridges, beside_training) is Ending.STOPPED
    assert rows(tmp_path / "run/trajectories.jsonl") == []


def check_rows(drawn, records):
    """Each turn that was trained or evaluated was answered to an agent, token by token, and no other."""
    answered = collections.Counter()
    for record in records:
        answered.update((tuple(prompt), tuple(ids)) for prompt, ids in record["calls"])
    turns = collections.Counter()
    for row in drawn:
        assert row["outcome"] in ("finished", "truncated"), row["message"]
        for prompt, ids, spans in sequences(row):
            turns.update((tuple(prompt + ids[:first]), tuple(ids[first:last])) for first, last, _ in spans)
    assert turns and turns <= answered
    assert len([row for row in drawn if row["phase"] == "train"]) == 2 * 3 * 4
    rewards = collections.Counter(record["body"].get("reward") for record in records)
    assert collections.Counter(row["reward"] for row in drawn) <= rewards


def unshown_ends(row):
    """Turns, but for the last, that ended by a token of which a text shows nothing."""
    ends = [ids[last - 1] for _, ids, spans in sequences(row) for _, last, _ in spans]
    return ends[:-1].count(END)


def sequences(row):
    """(prompt ids, completion ids, spans of turns) of an episode's sequences."""
    last = [(row["prompt_ids"], row["completion_ids"], row["turns"])]
    return [(each["prompt_ids"], each["completion_ids"], each["turns"]) for each in row["branches"]] + last


@pytest.mark.parametrize("settings, message", [
    (dict(endpoint__serve=False, endpoint__api_key_env=""), "endpoint.serve = False must be true: agents"),
    (dict(episodes__order="fixed"), "episodes.order = 'fixed' cannot be: agents play"),
    (dict(endpoint__public_url="nowhere"), "is no address of a server"),
    (dict(env__name="agent(max_turns=1)"), "must be at least 2"),
    (dict(env__name="gsm8k", endpoint__public_url="http://h:1"), "endpoint.public_url .* has no effect")])
def test_settings_that_agents_cannot_play_under_are_refused(files, tmp_path, monkeypatch, settings, message):
    monkeypatch.setenv("AGENT_TEST_KEY", KEY)
    given = AGENT | {"endpoint__port": 0} | settings
    if not given["env__name"].startswith("agent"):
        given |= {"episodes__max_tokens": 0}
    config = resolve(tiny_run.settings(files, tmp_path / "run", **given))
    with pytest.raises(ConfigError, match=message):
        refuse_settings(config)
