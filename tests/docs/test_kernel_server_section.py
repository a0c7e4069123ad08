"""The page on kernels says of the evaluation server what it has: fields, defaults, statuses and options."""
import pathlib
import re

import httpx

from jaxrl_moe.envs.kernels.verdicts.timing import QUARANTINE
from jaxrl_moe.envs.kernels.verdicts.told import said
from jaxrl_moe.serving.kernels.bodies import EvalBody
from jaxrl_moe.serving.kernels.launch import KernelServerOptions
from tests.helpers.kernel_workers import VERDICT, ScriptedWorker, kernel_server

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "kernels.md").read_text()
SECTION = PAGE.partition("## The evaluation server")[2].partition("\n## ")[0]


def test_the_fields_of_a_call_and_their_defaults_are_those_of_the_server():
    sentence = SECTION.partition("`POST /eval` takes ")[2].partition("It answers")[0]
    told = dict(re.findall(r"`([a-z_]+)`(?: \((\d+)\))?", sentence))
    fields = EvalBody.model_fields
    assert told.keys() - {"triton", "cuda"} == fields.keys()
    for name, value in told.items():
        assert not value or fields[name].default == int(value)


def test_what_a_verdict_holds_is_what_is_told():
    answer = said(VERDICT)
    named = set(re.findall(r"`([a-z_]+)`", SECTION.partition("`metadata` has")[2].partition("|")[0]))
    assert named <= answer["metadata"].keys() and {"basis", "baseline_missing"} <= named
    whole = SECTION.partition("It answers `{")[2].partition("}`")[0]
    assert set(re.findall(r'"([a-z_]+)"', whole)) == answer.keys()


def test_routes_and_options_that_are_named_are_there():
    with kernel_server(ScriptedWorker()) as (url, _):
        for method, path in re.findall(r"`(GET|POST) (/\w+)`", SECTION):
            answer = httpx.request(method, url + path, json={} if method == "POST" else None)
            assert answer.status_code == (400 if path == "/eval" else 200), path
    options = set(re.findall(r"--(\w+)", SECTION))
    assert options <= KernelServerOptions.__dataclass_fields__.keys()
    assert {"queue", "cache", "gpus"} <= options
    assert "more than ten" in SECTION and QUARANTINE == 10
