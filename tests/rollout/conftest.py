"""One tiny model, as transformers has it and as we have it, and engines over it."""
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import bridges
from jaxrl_moe.config import RolloutSection
from jaxrl_moe.rollout.engine import JaxEngine
from tests import tiny_models

SETTINGS = RolloutSection(slots=4, page_size=4, max_tokens=12, decode_steps=5)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """(transformers model, its folder): 2 sparse layers of 4 experts, vocabulary 320, context 256."""
    folder = tmp_path_factory.mktemp("rollout") / "tiny"
    return tiny_models.make_model(folder, num_hidden_layers=2), folder


@pytest.fixture(scope="session")
def model(checkpoint):
    return bridges.load_model(checkpoint[1])


@pytest.fixture(scope="session")
def make_engine(model):
    """make_engine(slots=..., ...) with settings of RolloutSection; `options` go to JaxEngine."""
    def make(*, options=None, **settings):
        return JaxEngine(model, dataclasses.replace(SETTINGS, **settings), **({"max_prompt_tokens": 20, "seed": 7} | (options or {})))
    return make


@pytest.fixture(scope="session")
def engine(make_engine):
    """An engine that tests share (compiled once); each leaves it idle."""
    return make_engine()


@pytest.fixture(scope="session")
def prompts():
    """Prompts of lengths around the page size of 4, and some longer."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, 320, length).astype(np.int32) for length in (1, 3, 4, 5, 8, 9, 17, 20)]


@pytest.fixture(scope="session")
def forward(model):
    """forward(ids) -> (log-softmax inputs [T, V], expert ids [T, L, A]) by one pass over the whole sequence."""
    def run(ids):
        tokens = jnp.asarray(ids)[None]
        hidden, routing = model(tokens, jnp.arange(len(ids))[None], jnp.ones_like(tokens))
        return np.asarray(model.logits(hidden)[0], np.float64), np.asarray(routing.expert_ids[:, 0]).transpose(1, 0, 2)
    return run
