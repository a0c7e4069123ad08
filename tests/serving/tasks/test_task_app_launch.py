"""A task app as scripts/serve.py starts it."""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import httpx
import pytest

from jaxrl_moe.judges.rubrics import read_rubrics
from jaxrl_moe.serving.tasks.agora.pages import AgoraPages
from jaxrl_moe.serving.tasks.agora.texts import AgoraTexts
from jaxrl_moe.serving.tasks.judging import JudgeOptions
from jaxrl_moe.serving.tasks.launch import APPS, TaskAppOptions, app_kind, make_server
from jaxrl_moe.types import UserError
from tests.helpers.task_apps import KEY, good_text, policy, request, task_app

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("options, reason", [
    (dict(name="agora_x"), "There is no task app 'agora_x'. Did you mean 'agora_ex'"),
    (dict(name="agora_ex", browser="/nowhere"), "not at /nowhere.*bubblewrap.*--name=agora_ex_text"),
    (dict(name="agora-ex-text", host="0.0.0.0"), "no API key"),
    (dict(name="agora_ex_text", allow_policy=["x.org"]), "--allow_policy = 'x.org' is no address"),
    (dict(name="agora_ex_text", judge=JudgeOptions(url="judge")), "--judge_url = 'judge' is no address"),
    (dict(name="agora_ex_text", judge=JudgeOptions(model="m")), "--judge_model changes nothing"),
    (dict(name="agora_ex_text", judge=JudgeOptions(rubric_id="r")), "--judge_rubric changes nothing")])
def test_what_cannot_be_served_is_refused_at_the_start(options, reason):
    with pytest.raises(UserError, match=reason):
        make_server(TaskAppOptions(port=0, **options))


def test_keys_stand_in_no_options_that_are_printed():
    options = TaskAppOptions("agora_ex_text", keys=("the-key",), judge=JudgeOptions(api_key="judges-key"))
    assert "-key" not in repr(options) and "-key" not in str(options.judge)


@pytest.mark.parametrize("name, rubric", [("agora_ex", "agora_page"), ("agora_ex_text", "agora_text")])
def test_a_task_is_judged_by_the_rubric_of_its_name_in_the_library(name, rubric):
    task = {"agora_ex": AgoraPages, "agora_ex_text": AgoraTexts}[name]
    assert task.rubric == read_rubrics()[rubric]


def test_names_have_hyphens_too_and_ports_of_their_own():
    assert app_kind("agora-ex-ai-judge") is APPS["agora_ex_ai_judge"]
    assert (app_kind("agora-ex").port, app_kind("agora-ex-ai-judge").port) == (8101, 8102)
    assert (app_kind("agora-ex").provider, app_kind("agora-ex-ai-judge").provider) == ("human", "model")


@contextlib.contextmanager
def started(*options, **environment):
    """(process, its first line) of the script."""
    command = [sys.executable, "scripts/serve.py", "task-app", "--port=0", "--grace=1", *options]
    bare = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    process = subprocess.Popen(command, cwd=ROOT, env=bare | {"PYTHONPATH": str(ROOT)} | environment,
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.wait()


def test_the_script_serves_by_the_seeds_variables_and_ends_with_code_0():
    keys = {"ENVIRONMENT_API_KEY": KEY, "ENVIRONMENT_API_KEY_ALIASES": "old-key"}
    with started("--name=agora-ex-text", **keys) as (process, line), policy(good_text()) as (url, _):
        served = re.fullmatch(r"Serving agora_ex_text at (http://127.0.0.1:\d+), judged by rules: .*\n", line)
        for key, status in ((KEY, 200), ("old-key", 200), ("other", 401)):
            answer = httpx.post(f"{served[1]}/rollout", json=request(url), headers={"X-API-Key": key},
                                timeout=60)
            assert answer.status_code == status, answer.text
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and rest == "Stopped; all rollouts were ended.\n" and KEY not in line


@pytest.mark.slow
def test_the_judge_is_that_of_the_environment_where_none_is_named():
    with started("--name=agora_ex_text", EAMES_JUDGE_URL="http://127.0.0.1:9/") as (process, line):
        assert line.endswith("judged by http://127.0.0.1:9 (human)\n")
        assert "every call is refused with 503: set ENVIRONMENT_API_KEY" in process.stdout.readline()


@pytest.mark.slow
def test_a_fuzzer_on_the_schema_finds_no_server_error(tmp_path):
    with policy(good_text()) as (url, _), task_app(timeout=20.0) as (http, service):
        schema = http.get("/openapi.json").json()
        # so that many requests reach the policy
        for name, narrower in (
                ("PolicyConfig", {"inference_url": {"enum": [url, url + "/"]}, "base_url": {"enum": [None]}}),
                ("EnvSpec", {"env_name": {"enum": [None, "agora-ex-text", "x"]},
                             "seed": {"type": "integer", "minimum": 0, "maximum": 3600}}),
                ("RecordSpec", {"logprobs": {"enum": [False]}, "value": {"enum": [False]}}),
                ("RolloutRequest", {"ops": {"enum": [None, [], ["agent", "env"]]},
                                    "synth_base_url": {"enum": [None, ""]}})):
            schema["components"]["schemas"][name]["properties"] |= narrower
        schema["components"]["schemas"]["PolicyConfig"]["required"].append("inference_url")
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(schema))
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(path), f"--url={http.base_url}",
                   f"--header=X-API-Key: {KEY}", "--checks=not_a_server_error",
                   "--phases=examples,coverage,fuzzing", "--max-examples=100", "--request-timeout=60",
                   "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-5000:]
        assert service.rollouts.ended["answered"] and service.rollouts.held == 0
        assert http.get("/health").status_code == 200
