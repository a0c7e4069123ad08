"""Adapters over HTTP: swapped in while requests are in flight, refused with what is served left alone, and
served by the script."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import openai
import pytest

import bridges
from jaxrl_moe.hosts import keys
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.serving import launch
from jaxrl_moe.serving.front import EngineFront
from jaxrl_moe.types import UserError
from tests.helpers.parity import relative
from tests.helpers.scripted_texts import Scripted
from tests.helpers.serving import adapter, serving

ROOT = pathlib.Path(__file__).resolve().parents[2]
IDS = [5, 17, 100, 42, 250, 33]
BODY = {"model": "tiny", "prompt": IDS, "max_tokens": 100, "seed": 1}
KEY = "s3cret-0123456789"


def damage(path, copy, changes):
    """A copy of an adapter's folder with other values in its adapter_config.json."""
    shutil.copytree(path, copy, dirs_exist_ok=True)
    file = pathlib.Path(copy) / "adapter_config.json"
    file.write_text(json.dumps(json.loads((pathlib.Path(path) / file.name).read_text()) | changes))
    return str(copy)


def forward_logprobs(model, prompt, completion):
    """By one pass over the whole sequence."""
    ids = np.array([[*prompt, *completion]])
    whole = jax.jit(lambda model, ids, *rows: model(ids, Pass(*rows)))
    hidden, _ = whole(model, ids, np.arange(ids.size)[None], np.ones_like(ids))
    logits = np.asarray(jax.nn.log_softmax(model.logits(hidden)[0], axis=-1))
    return logits[len(prompt) - 1:-1][np.arange(len(completion)), completion]


def broken(tmp_path, path):
    """A copy of the adapter whose scale is beyond all floats."""
    copied = shutil.copytree(path, tmp_path / "broken")
    config = json.loads((copied / "adapter_config.json").read_text()) | {"lora_alpha": float("inf")}
    (copied / "adapter_config.json").write_text(json.dumps(config).replace("Infinity", "1e999"))
    return str(copied)


def test_an_adapter_is_swapped_in_while_requests_are_in_flight(front, engine, folder, tokenizer, policy,
                                                               tmp_path, slow):
    path, adapted = adapter(folder, tmp_path / "adapter")
    load = policy[1]
    ask = dict(prompt=IDS, max_tokens=12, seed=1, logprobs=0, extra_body={"return_token_ids": True})
    with serving(front, tokenizer, load=load, api_key=KEY) as server:
        before = server.openai.completions.create(model="tiny", **ask).choices[0]
        stream = iter(server.openai.completions.create(model="tiny", stream=True, **ask | {"max_tokens": 60}))
        flying = [next(stream)]
        answer = server.http.post("/v1/load_lora_adapter", json={"lora_name": "sums", "lora_path": path})
        assert answer.status_code == 200 and "'sums' is served in place of 'tiny'" in answer.text
        events = [*flying, *stream]
        versions = [v for event in events for v in event.choices[0].policy_version]
        assert set(versions) == {front.version - 1, front.version} and versions == sorted(versions)
        assert len(versions) == sum(len(event.choices[0].token_ids) for event in events)
        (card,) = server.openai.models.list().data
        assert (card.id, card.parent, card.root, card.policy_version) == ("sums", "tiny", path, front.version)
        got = server.openai.completions.create(model="sums", **ask).choices[0]
        assert relative(got.logprobs.token_logprobs, forward_logprobs(adapted, IDS, got.token_ids)) < 1e-5
        assert relative(forward_logprobs(adapted, IDS, before.token_ids),
                        before.logprobs.token_logprobs) > 0.01
        with pytest.raises(openai.NotFoundError, match="'tiny'.*'sums'"):
            server.openai.completions.create(model="tiny", **ask)

        for body, status, message in [
            ({"lora_name": "sums", "lora_path": path}, 400, "load_inplace"),
            ({"lora_name": "tiny", "lora_path": path}, 400, "in use"),
            ({"lora_name": "b", "lora_path": str(tmp_path / "none")}, 400, "no folder"),
            ({"lora_name": "b", "lora_path": "a" * 5000}, 400, "no folder"),
            ({"lora_name": "b", "lora_path": "a\0b"}, 400, "no folder"),
            ({"lora_name": "b", "lora_path": broken(tmp_path, path)}, 400, "1e999 is beyond"),
            ({"lora_name": "b", "lora_path": str(folder)}, 400, "adapter_config.json"),
            ({"lora_name": "b", "lora_path": adapter(folder, tmp_path / "big", rank=8)[0]}, 400, "rank 8"),
            ({"lora_name": "b"}, 400, "lora_path")]:
            answer = server.http.post("/v1/load_lora_adapter", json=body)
            assert answer.status_code == status and message in answer.json()["error"]["message"], answer.text
        for config in ({"rank_pattern": "("}, {"rank_pattern": {"(": 2}}, {"r": 0},
                       {"lora_alpha": float("nan")}, {"lora_alpha": None}, {"lora_alpha": 1e39},
                       {"rank_pattern": 0}, {"r": "x"}, {"target_modules": 5}, {"target_modules": None}):
            damaged = damage(path, tmp_path / "damaged", config)
            body = {"lora_name": "sums", "lora_path": damaged, "load_inplace": True}
            answer = server.http.post("/v1/load_lora_adapter", json=body)
            assert answer.status_code == 400 and answer.json()["error"]["message"], (config, answer.text)
        for odd in ("", "\t", "x" * 5000, "a\0b", "\ud800", "/dev/null", "/" * 5000, " "):
            body = {"lora_name": "b", "lora_path": odd}
            answer = server.http.post("/v1/load_lora_adapter", content=json.dumps(body),
                                      headers={"Content-Type": "application/json"})
            assert answer.status_code == 400 and len(answer.text) < 1000, answer.text
        again = server.openai.completions.create(model="sums", **ask).choices[0]
        assert again.logprobs.token_logprobs == got.logprobs.token_logprobs
        assert again.policy_version == got.policy_version

        other, adapted = adapter(folder, tmp_path / "other", ("v_proj",), 4)
        body = {"lora_name": "sums", "lora_path": other, "load_inplace": True}
        assert server.http.post("/v1/load_lora_adapter", json=body).status_code == 200
        got = server.openai.completions.create(model="sums", **ask).choices[0]
        assert relative(got.logprobs.token_logprobs, forward_logprobs(adapted, IDS, got.token_ids)) < 1e-5
        assert server.http.post("/v1/unload_lora_adapter", json={"lora_name": "nought"}).status_code == 404
        assert server.http.post("/v1/unload_lora_adapter", json={"lora_name": "sums"}).status_code == 200
        after = server.openai.completions.create(model="tiny", **ask).choices[0]
        assert after.logprobs.token_logprobs == before.logprobs.token_logprobs


ODD_ERRORS = (ValueError("no number"), re.error("missing )"), OSError(36, "too long a name"), KeyError("r"),
              ZeroDivisionError("division by zero"), RecursionError("deep"), UserError("NaN in it"),
              TypeError("unhashable"))


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
def test_an_adapter_that_fails_to_load_leaves_the_one_that_is_served(tokenizer, error):
    def load(path):
        if path == "bad":
            raise error
        return path

    with (EngineFront(Scripted(tokenizer, "fine")) as front,
          serving(front, tokenizer, load=load, api_key=KEY) as server):
        published = []
        front._engine.publish = lambda params, version: published.append(params)
        for name, path, status in (("good", "good", 200), ("good", "bad", 400), ("other", "bad", 400)):
            body = {"lora_name": name, "lora_path": path, "load_inplace": True}
            answer = server.http.post("/v1/load_lora_adapter", json=body)
            assert answer.status_code == status, answer.text
        assert str(error).strip("'") in answer.json()["error"]["message"]
        assert published == ["good"] and front.version == 1
        (card,) = server.openai.models.list().data
        assert card.id == "good" and card.policy_version == 1
        assert server.openai.completions.create(**BODY | {"model": "good"}).choices[0].text == "fine"


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", " a", "x" * 300, "\ud800", "\u202e", 5, None])
def test_a_name_that_nobody_could_type_is_refused(front, tokenizer, policy, name):
    with serving(front, tokenizer, load=policy[1], api_key=KEY) as server:
        for route in ("load", "unload"):
            body = {"lora_name": name} | ({"lora_path": "/nowhere"} if route == "load" else {})
            answer = server.http.post(f"/v1/{route}_lora_adapter", content=json.dumps(body),
                                      headers={"Content-Type": "application/json"})
            assert answer.status_code == 400 or route == "unload" and answer.status_code == 404


def test_what_an_adapter_changed_beside_its_layers_is_gone_with_it(folder):
    """As the routers, which not every adapter brings."""
    class Bridge:
        load_model = staticmethod(bridges.load_model)
        draw_adapters = staticmethod(lambda model, seed: None)

        @staticmethod
        def import_adapter(model, path, subset):
            bridges.peft.adapters.routers(model)
            for variable in bridges.peft.adapters.routers(model).values():
                variable.set_value(variable.get_value() + 1.0)

    options = launch.Options(model=str(folder), max_lora_rank=4)
    _, load = launch.load_policy(options, Bridge)
    before = jax.tree.leaves(load(""))
    changed = jax.tree.leaves(load(str(folder)))
    assert any(new is not old for new, old in zip(changed, before))
    assert all(new is old for new, old in zip(jax.tree.leaves(load("")), before))


def test_adapters_need_a_key_and_room(front, tokenizer, policy, tmp_path):
    body = {"lora_name": "a", "lora_path": str(tmp_path)}
    with serving(front, tokenizer, load=policy[1]) as server:
        answer = server.http.post("/v1/load_lora_adapter", json=body)
        assert answer.status_code == 403 and "API key" in answer.text
    with serving(front, tokenizer, api_key=KEY) as server:
        answer = server.http.post("/v1/load_lora_adapter", json=body)
        assert answer.status_code == 400 and "no adapters" in answer.text


@pytest.mark.slow
def test_the_script_serves_an_adapter_and_ends_with_code_0_after_sigterm(folder, tmp_path):
    command = [
        sys.executable, "scripts/serve.py", f"--model={folder}",
        f"--adapter={adapter(folder, tmp_path / 'sums')[0]}", "--port=0", "--slots=2", "--max_tokens=64",
        "--max_prompt_tokens=64", f"--record={tmp_path / 'calls.jsonl'}"
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), keys.KEY_VARIABLE: KEY}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        url = next(match[1] for line in lines if (match := re.search(r"'sums' at (\S+)", line)))
        client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
        events = client.completions.create(model="sums", prompt=IDS, max_tokens=120, stream=True, seed=0,
                                           temperature=0, extra_body={"return_token_ids": True})
        drawn = len(next(events).choices[0].token_ids)
        process.send_signal(signal.SIGTERM)
        drawn += sum(len(event.choices[0].token_ids) for event in events)
        rest = process.stdout.read()
        assert process.wait(30) == 0 and "Stopped" in rest and "Traceback" not in rest
    finally:
        process.kill()
    (row,) = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert len(row["completions"][0]["ids"]) == drawn and row["completions"][0]["finish_reason"] in (
        "stop", "length")
