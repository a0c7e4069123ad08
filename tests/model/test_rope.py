"""Rotary embeddings of packed rows: each segment has the angles that it has by itself."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed.collectives import inside
from jaxrl_moe.distributed.context import from_devices, to_devices
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.model.config import ModelConfig, RopeConfig
from jaxrl_moe.model.rope import rotary
from tests.helpers import oracles

CONFIG = ModelConfig("qwen3", 64, 16, 1, 2, 1, 8, 32, (False,), (0,), max_position_embeddings=8,
                     rope=RopeConfig(type="dynamic", factor=3.0, original_max_position_embeddings=8))
LENGTHS = (5, 14, 8, 9)


angles = jax.jit(rotary, static_argnums=0)


def packed(*counts, tokens=40):
    """(positions, segments), each [1, tokens], of segments of these lengths and padding behind them."""
    counts = (*counts, tokens - sum(counts))
    positions = np.concatenate([np.arange(count) for count in counts])
    segments = np.repeat([*range(1, len(counts)), 0], counts)
    return positions[None].astype(np.int32), segments[None].astype(np.int32)


@pytest.mark.parametrize("kind", ["default", "dynamic"])
def test_a_packed_segment_has_the_angles_of_the_segment_alone(kind):
    config = dataclasses.replace(CONFIG, rope=dataclasses.replace(CONFIG.rope, type=kind))
    together = angles(config, *packed(*LENGTHS))
    first = 0
    for length in LENGTHS:
        for mine, want in zip(together, angles(config, *packed(length))):
            np.testing.assert_array_equal(mine[:, first:first + length], want[:, :length])
        first += length


@pytest.mark.parametrize("length", LENGTHS)
def test_dynamic_angles_are_those_of_transformers_for_the_sequence_alone(length):
    torch = oracles.torch()
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding
    theirs = Qwen3RotaryEmbedding(Qwen3Config(
        hidden_size=16, num_attention_heads=2, head_dim=8, max_position_embeddings=8,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0}))
    want = theirs(torch.zeros(1, length, 16), torch.arange(length)[None])
    segment = 1 + LENGTHS.index(length)
    positions, segments = packed(*LENGTHS)
    for mine, expected in zip(angles(CONFIG, positions, segments), want):
        np.testing.assert_allclose(mine[:, segments[0] == segment, 0], expected.numpy(), atol=2e-6)


def test_a_row_that_is_split_over_devices_has_the_angles_of_the_whole_row():
    positions, segments = packed(*LENGTHS)
    place = make_placement({"context": 2})
    tokens = PartitionSpec(None, "context")

    def local(positions_BT, segments_BT):
        with inside(place.layout):
            return rotary(CONFIG, positions_BT, segments_BT)

    split = jax.jit(jax.shard_map(local, mesh=place.mesh, in_specs=(tokens, tokens),
                                  out_specs=(tokens, tokens), check_vma=False))
    there = split(*(jnp.asarray(to_devices(x, 1, 2)) for x in (positions, segments)))
    for mine, want in zip(there, angles(CONFIG, positions, segments)):
        np.testing.assert_allclose(from_devices(mine, 1, 2), want, atol=1e-6)
