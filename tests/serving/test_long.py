"""A whole run that is asked for completions all the while, and a fuzzer on the schema."""
import concurrent.futures
import json
import subprocess
import sys
import threading

import httpx2
import openai
import pytest

import bridges
from jaxrl_moe.config import resolve
from jaxrl_moe.serving import launch
from jaxrl_moe.training import pipeline
from tests.helpers import tiny_run
from tests.helpers.serving import serving

pytestmark = pytest.mark.slow


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_run.make_files(tmp_path_factory.mktemp("files"))


def run(files, run_dir, monkeypatch, clients, **changes):
    """A run of three steps whose policy is served meanwhile; `clients` threads ask it without a break.
    Returns their answers."""
    config = resolve(settings(files, run_dir, endpoint__serve=True, endpoint__port=0, **changes))
    server_class = launch.HttpServer
    train = pipeline.train
    over = threading.Event()
    answers = []
    servers = []

    def watched(*arguments, **options):
        servers.append(server_class(*arguments, **options))
        return servers[-1]

    def ask(number):
        with openai.OpenAI(base_url=f"{servers[0].url}/v1", api_key="none", max_retries=0,
                           timeout=120) as client:
            while not over.is_set():
                answers.append(client.completions.create(model="policy", prompt="1 + 2 = ?", max_tokens=20,
                                                         n=2, seed=len(answers), user=f"client {number}",
                                                         logprobs=0, extra_body={"return_token_ids": True}))

    def asked(config, learner, front, *rest):
        with concurrent.futures.ThreadPoolExecutor(max(clients, 1)) as pool:
            jobs = [pool.submit(ask, number) for number in range(clients)]
            try:
                done = train(config, learner, front, *rest)
            finally:
                front.resume()  # the clients are waited for here, before the endpoint ends
                over.set()
            for job in jobs:
                job.result()
        return done

    monkeypatch.setattr(launch, "HttpServer", watched)
    monkeypatch.setattr(pipeline, "train", asked)
    assert pipeline.run_all(config, bridges, launch.beside_training) and len(servers) == 1
    return answers


def settings(files, run_dir, **changes):
    short = dict(train__steps=3, eval__every=0, eval__at_start=False, checkpoint__every=0)
    return tiny_run.settings(files, run_dir, **(short | changes))


def assert_recorded(answers, served):
    """Every answer is on record as the client got it, and no other call."""
    by_id = {row["id"]: row for row in served}
    for answer in answers:
        recorded = by_id.pop(answer.id)["completions"]
        assert [choice.token_ids for choice in answer.choices] == [one["ids"] for one in recorded]
        assert [choice.logprobs.token_logprobs
                for choice in answer.choices] == [one["logprobs"] for one in recorded]
        assert [choice.policy_version
                for choice in answer.choices] == [one["policy_version"] for one in recorded]
    assert not by_id


def test_a_run_that_serves_its_policy_trains_as_one_that_does_not(files, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        run(files, tmp_path / "quiet", patch, clients=0)
    with monkeypatch.context() as patch:
        answers = run(files, tmp_path / "busy", patch, clients=3)
    pipeline.run_all(resolve(settings(files, tmp_path / "plain")), bridges)
    plain, quiet, busy = (rows(tmp_path / name / "trajectories.jsonl") for name in ("plain", "quiet", "busy"))
    assert plain == quiet  # with nobody asking, to the bit
    first = [row for row in busy if row["step"] == 0 and row["phase"] == "train"]
    assert [row["completion_ids"] for row in first] == [row["completion_ids"] for row in plain[:len(first)]]
    assert len(busy) == len(plain)
    assert all(row["mismatch/kl"] < 1e-8 for row in rows(tmp_path / "busy" / "metrics.jsonl")
               if "mismatch/kl" in row)

    served = rows(tmp_path / "busy" / "served.jsonl")
    versions = {
        version for answer in answers for choice in answer.choices for version in choice.policy_version
    }
    assert len(versions) > 1 and versions <= {0, 1, 2, 3}
    assert_recorded(answers, served)


@pytest.mark.parametrize("meshes", [{}, {"rollout_mesh__data": 1}])
def test_a_run_that_draws_ahead_trains_on_every_draw_once_while_it_serves(
        files, tmp_path, monkeypatch, meshes):
    """On the trainer's devices and on its own; with an evaluation between."""
    answers = run(files, tmp_path / "run", monkeypatch, clients=2, rollout__max_staleness=1,
                  algorithm__corrections=("tis",), eval__every=2, **meshes)
    rollouts = rows(tmp_path / "run" / "trajectories.jsonl")
    train = [row for row in rollouts if row["phase"] == "train"]
    assert sorted((row["sequence"], row["sample"]) for row in train) == [
        (sequence, sample) for sequence in range(9) for sample in range(4)]
    assert all(0 <= row["step"] - 1 - version <= 1 for row in train for version in row["policy_version"])
    assert [row for row in rollouts if row["phase"] == "eval"]
    assert_recorded(answers, rows(tmp_path / "run" / "served.jsonl"))
    versions = {
        version for answer in answers for choice in answer.choices for version in choice.policy_version
    }
    assert len(versions) > 1 and versions <= {0, 1, 2, 3}


def test_a_fuzzer_on_the_schema_finds_no_server_error(front, policy, tokenizer, tmp_path):
    """The schema's model is the one that is served and its completions are short, so that many requests reach
    the engine."""
    with serving(front, tokenizer, load=policy[1], api_key="k") as server:
        schema = server.http.get("/openapi.json").json()
        for name in ("CompletionRequest", "ChatRequest"):
            body = schema["components"]["schemas"][name]
            body["properties"] |= {
                "model": {
                    "const": "tiny"
                },
                "max_tokens": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 3
                }
            }
            body["required"].append("max_tokens")
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(schema))
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(path), f"--url={server.url}",
                   "--header=Authorization: Bearer k", "--checks=not_a_server_error",
                   "--phases=examples,coverage,fuzzing", "--max-examples=60", "--request-timeout=60",
                   "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        assert sum(server.service.counters.calls.values()) > 50 and server.service.in_flight == 0
        assert httpx2.get(f"{server.url}/health").status_code == 200
