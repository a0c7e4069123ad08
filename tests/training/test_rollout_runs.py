"""Whole runs whose episodes environment servers play by POST /rollouts, calling the policy back: what is
trained is what the engine drew for them, rewarded as the games say."""
import json
import threading

import numpy as np
import pytest

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.serving.launch import beside_training
from jaxrl_moe.training import pipeline
from jaxrl_moe.types import Step
from tests.helpers import tiny_run
from tests.helpers.env_servers import EnvProcess
from tests.helpers.games import Guessing, GuessingGame
from tests.helpers.processes import free_port
from tests.helpers.rollout_servers import rollout_server
from tests.helpers.runs import rows
from tests.helpers.waiting import wait_until

STEPS = 2
EPISODES = 3 * 4  # of a step
ROUNDS = 3
SHOWN = ({"role": "user", "content": "Go on."},)
PLAYED = dict(episodes__max_tokens=400, data__max_prompt_tokens=400, rollout__max_tokens=6,
              train__steps=STEPS,
              train__tokens_per_micro_batch=4096, data__eval_path="", eval__every=0, eval__at_start=False,
              eval__greedy=False, lora__dropout=0.0, algorithm__minibatches=2, endpoint__serve=True,
              logging__tensorboard=False)
# TextCraft is told of at length, which the tiny tokenizer spells in short tokens
TEXTCRAFT = dict(episodes__max_tokens=1500, data__max_prompt_tokens=1600)


class Letters(Guessing):
    """Rewards a turn by its letters, and notes each: a tiny random model finds no number."""

    def __post_init__(self):
        super().__post_init__()
        self.games = []

    def open(self, row, seed):
        super().open(row, seed)
        game = Lettered(self, row["id"])
        self.games.append(game)
        return game


class Lettered(GuessingGame):
    def __init__(self, task, number):
        super().__init__(task, number)
        self.number = number
        self.said = []

    def step(self, action):
        self.said.append((action.text, len(action.text) % 3 / 2))
        ended = len(self.said) == 2 and len(action.text) % 2 == 0
        return Step(self.said[-1][1], ended, {}, () if ended else SHOWN)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tiny_run.make_talking_files(tmp_path_factory.mktemp("files"))
    config = json.loads((folder / "model/config.json").read_text())
    (folder / "model/config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    (folder / "ids.jsonl").write_text("".join(json.dumps({"prompt": f"Game {number}.", "id": number}) + "\n"
                                              for number in range(12)))
    return folder


def run(files, folder, url, env, task="", **changes):
    """(metrics, trajectories) of a run over a server."""
    name = f"remote_rollouts(url='{url}', env='{env}', max_round={ROUNDS}{task})"
    own = PLAYED | {"env__name": name, "data__path": str(files / "ids.jsonl"), "endpoint__port": free_port()}
    config = resolve(tiny_run.settings(files, folder, **own | changes))
    assert pipeline.run_all(config, bridges, beside_training)
    return rows(folder / "metrics.jsonl"), rows(folder / "trajectories.jsonl")


def assert_trained_as_drawn(metrics, drawn):
    """Each sample is trained once, and the trainer's log-probs of its tokens are those of the engine."""
    taken = [(row["sequence"], row["sample"]) for row in drawn]
    assert len(taken) == len(set(taken)) == STEPS * EPISODES
    assert all(row["mismatch/kl"] < 1e-9 for row in metrics[1:])
    for row in drawn:
        assert row["reward"] is not None and not row["branches"]
        for start, end, _ in row["turns"]:
            np.testing.assert_allclose(row["trainer_logprobs"][start:end], row["logprobs"][start:end],
                                       atol=1e-5)


def test_a_run_trains_on_the_turns_that_a_server_asked_for(files, tmp_path):
    task = Letters()
    with rollout_server(task) as (http, service):
        metrics, drawn = run(files, tmp_path / "run", str(http.base_url).rstrip("/"), "guessing",
                             algorithm__returns="turns", algorithm__turn_gamma=1.0)
        assert service.sessions.held == 0
    assert_trained_as_drawn(metrics, drawn)
    played = sorted((game.number, *game.said) for game in task.games)
    assert len(played) == task.closed == STEPS * EPISODES
    tokenizer = load_tokenizer(str(files / "model"))
    trained = sorted((row["prompt_index"], *((tokenizer.decode(row["completion_ids"][start:end]), reward)
                                             for start, end, reward in row["turns"])) for row in drawn)
    assert trained == played and len({reward for _, *said in played for _, reward in said}) > 2
    for row in drawn:
        rewards = [turn[2] for turn in row["turns"]]
        assert row["reward"] == sum(rewards)
        np.testing.assert_allclose(row["used_reward"], np.cumsum(rewards[::-1])[::-1])
    assert {len(game.said) for game in task.games} == {2, ROUNDS}


@pytest.mark.slow
@pytest.mark.parametrize("answers, bound", [("react", 0), ("functions", 0), ("react", 1)])
def test_a_run_is_played_by_a_servers_process(files, tmp_path, answers, bound):
    """By scripts/serve.py; a random model wins nothing, and each turn is told of."""
    with EnvProcess(f"textcraft(recipes='small', answers='{answers}')") as server:
        metrics, drawn = run(files, tmp_path / "run", server.url, "textcraft", rollout__max_staleness=bound,
                             **TEXTCRAFT)
        assert server.metric("env_sessions_ended_total") == STEPS * EPISODES == len(drawn)
        assert server.metric("env_rollouts ") == server.metric("env_sessions ") == 0
    assert {len(row["turns"]) for row in drawn} == {ROUNDS}
    assert {row["reward"] for row in drawn} == {0.0} and {row["info"]["correct"] for row in drawn} == {0.0}
    if not bound:
        assert_trained_as_drawn(metrics, drawn)


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_costs_tries_and_no_run(files, tmp_path):
    with EnvProcess("textcraft(recipes='small')") as server:
        killer = threading.Thread(target=_restart, args=(server,))
        killer.start()
        metrics, drawn = run(files, tmp_path / "run", server.url, "textcraft", ", patience=300",
                             episodes__retries=6, episodes__max_error_rate=0.9, **TEXTCRAFT)
        killer.join()
    sound = [row for row in drawn if row["reward"] is not None]
    assert len({(row["sequence"], row["sample"]) for row in sound}) == STEPS * EPISODES
    assert sum(row.get("episodes/failed_frac", 0) for row in metrics) > 0


def _restart(server):
    """Once episodes are at work."""
    wait_until(lambda: server.metric("env_rollouts ") > 0, 240)
    server.kill()
    server.start()
