"""One tiny model and engines over it."""
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridges
from jaxrl_moe.config import RolloutSection
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.model.passes import Pass
from tests.helpers import tiny_models

SETTINGS = RolloutSection(slots=4, page_size=4, max_tokens=12, decode_steps=5)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A folder: 2 sparse layers of 4 experts, vocabulary 320, context 256."""
    folder = tmp_path_factory.mktemp("rollout") / "tiny"
    tiny_models.make_checkpoint(folder, num_hidden_layers=2)
    return folder


@pytest.fixture(scope="session")
def model(checkpoint):
    return bridges.load_model(checkpoint)


@pytest.fixture(scope="session")
def make_engine(model):
    """make_engine(slots=..., ...) with settings of RolloutSection; `options` go to JaxEngine."""
    def make(*, options=None, **settings):
        return JaxEngine(model, dataclasses.replace(SETTINGS, **settings),
                         **({
                             "max_prompt_tokens": 20,
                             "seed": 7
                         } | (options or {})))
    return make


@pytest.fixture(scope="session")
def engine(make_engine):
    """An engine that tests share (compiled once); each leaves it idle."""
    return make_engine()


@pytest.fixture(scope="session")
def prompts():
    """Prompts of lengths around the page size of 4, and some longer."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, 320, length).astype(np.int32) for length in (1, 3, 4, 5, 8, 9, 12, 17)]


@pytest.fixture(scope="session")
def forward(model):
    """forward(ids) -> (logits [T, V] float64, expert ids [T, L, A]) by one pass over the whole sequence,
    padded to 48; of the engines' model, or of another like it."""
    @nnx.jit
    def whole(model, tokens, segments):
        hidden, routing = model(tokens, Pass(jnp.arange(48)[None], segments))
        return model.logits(hidden)[0], routing.expert_ids[:, 0]

    def run(ids, model=model):
        tokens = np.zeros((1, 48), np.int32)
        tokens[0, :len(ids)] = ids
        logits, expert_ids = whole(model, tokens, (np.arange(48) < len(ids))[None].astype(np.int32))
        return np.asarray(logits, np.float64)[:len(ids)], np.asarray(expert_ids).transpose(1, 0, 2)[:len(ids)]
    return run
