"""Transports against a loop over experts, forward and gradient, on four virtual devices."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed.collectives import inside
from jaxrl_moe.distributed.expert_parallel import TRANSPORTS, dispatch
from jaxrl_moe.distributed.mesh import make_placement

E, A, D, M, DEVICES = 8, 2, 6, 32, 4  # M tokens of all devices
RNG = np.random.default_rng(0)
X, W, EXPERTS = (RNG.normal(size=shape).astype(np.float32) for shape in ((M, D), (M, A), (E, D, D)))
ROUTES = {"random": RNG.permuted(np.tile(np.arange(E), (M, 1)), axis=1)[:, :A], "all to one": np.tile([5, 6], (M, 1)),
          "empty experts": RNG.integers(0, 2, (M, A)) * 3,
          "padding": np.where(np.arange(M)[:, None] % 3 == 0, E, RNG.integers(0, E, (M, A)))}


def loop(x_MD, weights_MA, experts, ids_MA, kept_MA=None):
    """sum over kept slots of weight * tanh(x W_e)."""
    outs = jnp.tanh(jnp.einsum("md,edf->emf", x_MD, experts))
    picked = jax.nn.one_hot(ids_MA, experts.shape[0])
    if kept_MA is not None:
        picked = picked * kept_MA[..., None]
    return jnp.einsum("mae,ma,emd->md", picked, weights_MA, outs)


def on_devices(transport, x, weights, experts, ids, **options):
    place = make_placement({"expert": DEVICES}, transport=transport, **options)
    tokens = PartitionSpec() if transport == "replicated" else PartitionSpec("expert")

    def local(x, weights, experts, ids):
        with inside(place.layout):
            compute = lambda x, w, i: loop(x, w, experts, i)  # noqa: E731  (an id past the last has no one-hot)
            y, dropped = dispatch(x, weights, ids, E, compute)
            return y, jax.lax.psum(dropped, "expert")

    return jax.shard_map(local, mesh=place.mesh, in_specs=(tokens, tokens, PartitionSpec("expert"), tokens),
                         out_specs=(tokens, PartitionSpec()), check_vma=False)(x, weights, experts, ids)


@pytest.mark.parametrize("routes", ROUTES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_transport_equals_the_loop_over_experts(transport, routes):
    ids, probe = ROUTES[routes], RNG.normal(size=(M, D)).astype(np.float32)
    options = {"capacity_factor": float(E)} if transport == "capacity" else {}  # room for all

    def weighed(function, x, weights, experts):
        y = function(x, weights, experts)
        return jnp.sum(y * probe), y

    results = []
    for function in (lambda *a: on_devices(transport, *a, ids, **options)[0], lambda *a: loop(*a, ids)):
        grad = jax.jit(jax.grad(functools.partial(weighed, function), argnums=(0, 1, 2), has_aux=True))
        results.append(grad(X, W, EXPERTS))
    assert_close(*results)


@pytest.mark.parametrize("routes", ["random", "all to one", "padding"])
def test_a_capacity_keeps_the_first_of_each_device_and_counts_what_it_drops(routes):
    ids, factor = ROUTES[routes], 1.0
    places = int(np.ceil(factor * M / DEVICES * A / E))
    kept, dropped = np.zeros(ids.shape, bool), 0
    for device in range(DEVICES):
        taken = np.zeros(E + 1, int)
        for token in range(device * M // DEVICES, (device + 1) * M // DEVICES):
            for slot in range(A):
                expert = ids[token, slot]
                kept[token, slot] = expert < E and taken[expert] < places
                dropped += expert < E and taken[expert] >= places
                taken[expert] += 1
    y, counted = on_devices("capacity", X, W, EXPERTS, ids, capacity_factor=factor)
    assert counted == dropped and dropped > 0
    assert_close(y, loop(X, W, EXPERTS, ids, kept))
