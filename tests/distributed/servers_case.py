"""Weights on a mesh published to a server, and what it draws from them: run by test_servers.py, in one
process or in several."""
import json
import pathlib

import numpy as np
from absl import flags
from flax import nnx

import bridges
from jaxrl_moe import cli
from jaxrl_moe.config import resolve
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.make import lora_config
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers.parity import randomise_adapters
from tests.helpers.tiny_run import settings

FILES = flags.DEFINE_string("files", None, "folder of tiny_run.make_files")
URL = flags.DEFINE_string("url", None, "of the server")
KIND = flags.DEFINE_string("kind", "delta", "servers.weight_sync_backend")
MESH = flags.DEFINE_string("mesh", "", "sizes of axes as JSON; empty: one device")
OUTPUT = flags.DEFINE_string("output", None, "file that process 0 writes what was drawn to")


def main():
    place = make_placement(json.loads(MESH.value)) if MESH.value else None
    config = resolve(
        settings(pathlib.Path(FILES.value), "unused", rollout__backend="vllm", servers__urls=(URL.value,),
                 servers__weight_sync_backend=KIND.value, servers__bucket_bytes=50_000,
                 lora__targets=("all-linear",)))
    model = bridges.load_model(config.model.path, lora=lora_config(config))
    engine = bridges.make_engine(config, model, load_tokenizer(config.model.path), place)
    found = []
    for version in (1, 2):
        randomise_adapters(model, std=0.1 * version)
        params = nnx.state(model)
        took = engine.publish(place.put(params) if place else params, version)
        asked = [
            Request(np.array([5 + number, 7, 9], np.int32), SamplingParams(12, n=3), number)
            for number in range(3)
        ]
        drawn = engine.generate(asked)
        assert all((one.policy_version == version).all() and one.logprobs.dtype == np.float32
                   for group in drawn for one in group)
        found.append({
            "took": took,
            "ids": [[one.ids.tolist() for one in group] for group in drawn],
            "logprobs": [[one.logprobs.tolist() for one in group] for group in drawn],
            "stats": engine.stats()
        })
    if hosts.several():  # the same bits everywhere
        assert hosts.from_leader(lambda: found[-1]["logprobs"]) == found[-1]["logprobs"]
    if hosts.leads():
        pathlib.Path(OUTPUT.value).write_text(json.dumps(found))
    engine.close()


if __name__ == "__main__":
    cli.run(main, recipe=False, hosts=True)
