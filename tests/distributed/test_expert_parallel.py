"""Transports against a loop over experts, forward and gradient, on virtual devices; what runs where, and what
is refused."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed.collectives import inside
from jaxrl_moe.distributed.expert_axis import check_transport, warn_of_gather
from jaxrl_moe.distributed.expert_parallel import dispatch
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.distributed.selftest import check_collectives
from jaxrl_moe.distributed.sharding import MeshError
from tests.helpers.close import assert_close
from tests.helpers.emulated import ragged_all_to_all

E = 8
A = 2
D = 6
M = 32  # tokens of all devices
DEVICES = 4
RNG = np.random.default_rng(0)
X, W, EXPERTS = (RNG.normal(size=shape).astype(np.float32) for shape in ((M, D), (M, A), (E, D, D)))
ROUTES = {"random": RNG.permuted(np.tile(np.arange(E), (M, 1)), axis=1)[:, :A],
          "all to one": np.tile([5, 6], (M, 1)),
          "empty experts": RNG.integers(0, 2, (M, A)) * 3,
          "padding": np.where(np.arange(M)[:, None] % 3 == 0, E, RNG.integers(0, E, (M, A)))}
# room for all
WAYS = {name: {"transport": name} | ({"capacity_factor": float(E)} if name == "capacity" else {})
        for name in ("gather", "capacity", "ragged", "replicated")}
HYBRID = {
    f"{name}, {8 // devices} hosts of {devices}": WAYS[name] | {
        "devices": 8,
        "dispatch": "hybrid",
        "host_devices": devices
    } for name in ("gather", "capacity") for devices in (2, 4)
}


def loop(x_MD, weights_MA, experts, ids_MA, kept_MA=None):
    """sum over kept slots of weight * tanh(x W_e)."""
    outs = jnp.tanh(jnp.einsum("md,edf->emf", x_MD, experts))
    picked = jax.nn.one_hot(ids_MA, experts.shape[0])
    if kept_MA is not None:
        picked = picked * kept_MA[..., None]
    return jnp.einsum("mae,ma,emd->md", picked, weights_MA, outs)


def on_devices(x, weights, experts, ids, devices=DEVICES, **options):
    place = make_placement({"expert": devices}, **options)
    tokens = PartitionSpec() if options["transport"] == "replicated" else PartitionSpec("expert")

    def local(x, weights, experts, ids):
        with inside(place.layout):
            def compute(x, w, i, share):
                return loop(x, w, experts, i)  # an id past the last has no one-hot

            y, dropped = dispatch(x, weights, ids, E, compute)
            return y, jax.lax.psum(dropped, "expert")

    return jax.shard_map(local, mesh=place.mesh, in_specs=(tokens, tokens, PartitionSpec("expert"), tokens),
                         out_specs=(tokens, PartitionSpec()), check_vma=False)(x, weights, experts, ids)


@pytest.mark.parametrize("routes", ROUTES)
@pytest.mark.parametrize("way", WAYS | HYBRID)
def test_every_transport_equals_the_loop_over_experts(way, routes, monkeypatch):
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", ragged_all_to_all)
    ids = ROUTES[routes]
    probe = RNG.normal(size=(M, D)).astype(np.float32)

    def weighed(function, x, weights, experts):
        y = function(x, weights, experts)
        return jnp.sum(y * probe), y

    results = []
    for function in (lambda *a: on_devices(*a, ids, **(WAYS | HYBRID)[way])[0], lambda *a: loop(*a, ids)):
        grad = jax.jit(jax.grad(functools.partial(weighed, function), argnums=(0, 1, 2), has_aux=True))
        results.append(grad(X, W, EXPERTS))
    assert_close(*results)


@pytest.mark.parametrize(
    "routes, options", [("random", {}), ("all to one", {}), ("padding", {}), ("random", {"host_devices": 2})],
    ids=str)
def test_a_capacity_keeps_the_first_of_each_device_and_counts_what_it_drops(routes, options):
    ids = ROUTES[routes]
    factor = 1.0
    places = int(np.ceil(factor * M / DEVICES * A / E))
    kept = np.zeros(ids.shape, bool)
    dropped = 0
    for device in range(DEVICES):
        taken = np.zeros(E + 1, int)
        for token in range(device * M // DEVICES, (device + 1) * M // DEVICES):
            for slot in range(A):
                expert = ids[token, slot]
                kept[token, slot] = expert < E and taken[expert] < places
                dropped += expert < E and taken[expert] >= places
                taken[expert] += 1
    call = functools.partial(on_devices, ids=ids, transport="capacity", capacity_factor=factor, **options)
    y, counted = jax.jit(call)(X, W, EXPERTS)
    assert counted == dropped and dropped > 0
    assert_close(y, loop(X, W, EXPERTS, ids, kept))


@pytest.mark.parametrize("options, names", [({"transport": "ragged"}, 7), ({"host_devices": 2}, 7)], ids=str)
def test_the_self_test_runs_what_the_transport_needs(options, names, monkeypatch):
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", ragged_all_to_all)
    results = list(check_collectives(make_placement({"expert": 4}, **options)))
    assert len(results) == names and all(difference == 0 for _, _, difference in results), results


def test_ragged_compiles_for_gpus_to_the_exchange_there_and_back_and_no_other():
    call = jax.jit(lambda *a: on_devices(*a, ROUTES["random"], transport="ragged")[0])
    text = call.trace(X, W, EXPERTS).lower(lowering_platforms=("cuda",)).as_text()
    # tokens, weights, numbers; sums
    assert text.count("@ragged_all_to_all(") == 4 and "@all_to_all" not in text


@pytest.mark.parametrize("sizes, host_devices, in_host", [({
    "expert": 8
}, 0, 0), ({
    "expert": 8
}, 4, 4), ({
    "expert": 8
}, 2, 2), ({
    "expert": 4,
    "data": 2
}, 4, 0), ({
    "expert": 4,
    "tensor": 2
}, 4, 2), ({
    "expert": 2,
    "tensor": 4
}, 4, 0), ({
    "expert": 8
}, 1, 0), ({
    "data": 8
}, 2, 0)], ids=str)
def test_stages_follow_from_where_the_expert_axis_lies(sizes, host_devices, in_host):
    assert make_placement(sizes, host_devices=host_devices).layout.in_host == in_host


@pytest.mark.parametrize(
    "sizes, options, message",
    [({"expert": 4}, {"dispatch": "single"}, "mesh.expert = 4 splits the experts: set mesh.expert=1"),
     ({"data": 4}, {"dispatch": "ipc"}, "which has one device"),
     ({"data": 4}, {"dispatch": "hybrid"}, "which has one device"),
     ({"expert": 8}, {"dispatch": "ipc", "host_devices": 2},
      "lie on 4 hosts: set mesh.dispatch=hybrid or auto, or mesh.expert=2"),
     ({"expert": 4}, {"dispatch": "hybrid", "host_devices": 4}, "lie on one host: set mesh.dispatch=ipc"),
     ({"expert": 3}, {"host_devices": 2}, r"spread unevenly over hosts .*\[\[0, 0, 1\]\]"),
     ({"expert": 6}, {"host_devices": 4}, r"spread unevenly over hosts .*\[\[0, 0, 0, 0, 1, 1\]\]"),
     ({"data": 2, "expert": 4}, {"host_devices": 3},
      r"spread unevenly over hosts .*\[\[0, 0, 0, 1\], \[1, 1, 2, 2\]\]")],
    ids=str)
def test_a_dispatch_that_the_devices_do_not_allow_is_refused(sizes, options, message):
    with pytest.raises(MeshError, match=message):
        make_placement(sizes, **options)


@pytest.mark.parametrize("platform, size, options, flags, message", [
    ("cpu", 4, {}, "", "no ragged all-to-all for CPUs"), ("cuda", 4, {"in_host": 2}, "", "goes in one stage"),
    ("cuda", 64, {}, "", "over more than 32 devices"),
    ("cuda", 4, {}, "--xla_gpu_enable_latency_hiding_scheduler=true", "wrong gradients")])
def test_ragged_is_refused_where_it_does_not_run_or_is_wrong(platform, size, options, flags, message):
    layout = make_placement({"expert": 2}, transport="ragged").layout
    check_transport(layout, "cuda", "")
    with pytest.raises(MeshError, match=f"{message}.*Set mesh.transport=gather"):
        check_transport(layout.of({"expert": size}, transport="ragged", **options), platform, flags)


def test_auto_stays_dropless_and_says_what_it_costs_on_a_wide_axis(recwarn):
    layout = make_placement({"expert": 8}).layout
    warn_of_gather(layout)
    assert layout.transport == "gather" and not recwarn
    with pytest.warns(UserWarning, match="mesh.expert = 16"):
        warn_of_gather(layout.of({"expert": 16}))
