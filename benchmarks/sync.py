"""Weight sync to real servers on this machine's CPU: seconds and bytes of each backend, both engines, in
turn."""
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence

import jax
from flax import nnx

import bridges
from benchmarks import table as markdown
from bridges.engines.assembly import KINDS
from bridges.engines.pool import Member, Pool
from bridges.engines.probe import Probe
from bridges.engines.sync import WeightWriter
from bridges.servers.http import Http
from bridges.servers.launch import LaunchPlan, Process
from jaxrl_moe.config import ConfigError
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer
from tests.engines import real
from tests.helpers.tiny_models import make_checkpoint

SHAPE = dict(num_hidden_layers=6, hidden_size=512, head_dim=64, num_attention_heads=8, num_key_value_heads=4,
             num_experts=16, moe_intermediate_size=320, max_position_embeddings=128)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
LORA = LoraConfig(8, 16.0, targets=TARGETS)
WHOLE = ("disk", "stream", "distributed", "delta")
BUCKET_BYTES = 32 * 10**6


def table(rounds: int) -> str:
    """Medians over `rounds` syncs of each backend, after one that is not counted; each sync is probed.

    Raises ConfigError where an engine is not installed.
    """
    missing = [str(python) for python in real.PYTHON.values() if not python.exists()]
    if missing:
        raise ConfigError(f"--case=sync needs SGLang and vLLM, and {', '.join(missing)} is not there: run "
                          "make test-engines once.")
    os.environ.update(real.ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        files = pathlib.Path(folder)
        make_checkpoint(files / "model", std=0.05, **SHAPE)
        model = bridges.load_model(files / "model", lora=LORA)
        rows = [row for kind in sorted(KINDS) for backends in (WHOLE, ("adapter",))
                for row in _measure(kind, backends, model, files, rounds)]
        size = sum(file.stat().st_size for file in (files / "model").glob("*.safetensors"))
    return _text(rows, size, rounds)


def _measure(kind: str, backends: Sequence[str], model: Transformer, files: pathlib.Path,
             rounds: int) -> Iterator[tuple]:
    """One row for each backend, of one server."""
    adapter = backends == ("adapter",)
    plan = LaunchPlan(kind, str(real.PYTHON[kind]), str(files / "model"), "float32", 128,
                      lora_rank=LORA.rank if adapter else 0, lora_targets=TARGETS if adapter else (),
                      flags=real.FLAGS[kind] + (real.LORA_FLAGS[kind] if adapter else ""))
    process = Process(plan, files / f"{kind}_{backends[0]}.log")
    process.start()
    try:
        process.wait(Http(process.url).is_up, 300)
        server = KINDS[kind](Http(process.url), model.config)
        probe = Probe(model, 128)
        published = {}
        server.check(adapter)
        pool = Pool([Member(server)],
                    lambda server, weights: probe(server, published[weights.version], weights))
        writers = {
            backend: WeightWriter(model, str(files / "model"), backend, "", BUCKET_BYTES)
            for backend in backends
        }
        try:
            # each sends what the server does not have yet
            syncs = [(backend, *_sync(pool, writers[backend], _moved(model, len(published)), published))
                     for _ in range(rounds + 1) for backend in backends]
        finally:
            for writer in writers.values():
                writer.close()
    finally:
        process.stop()
    counted = syncs[len(backends):]
    for backend in backends:
        mine = [sync for sync in counted if sync[0] == backend]
        yield (kind, backend, *(statistics.median(column)
                                for column in list(zip(*mine))[1:5]), max(sync[5] for sync in mine))


def _moved(model: Transformer, number: int) -> nnx.State:
    """The weights with adapters that were drawn anew, as different from those before as training makes
    them."""
    graphdef, state = nnx.split(model)
    for index, (path, variable) in enumerate(nnx.to_flat_state(state)):
        if path[-1] == "lora_b":
            key = jax.random.fold_in(jax.random.key(number), index)
            variable.set_value(0.05 * jax.random.normal(key, variable.shape, variable.dtype))
    return jax.block_until_ready(nnx.state(nnx.merge(graphdef, state)))


def _sync(pool: Pool, writer: WeightWriter, params: nnx.State,
          published: dict[int, nnx.State]) -> tuple[int, float, float, float, float]:
    """(bytes, seconds of writing, of loading, of both, the probe's error)."""
    version = len(published) + 1
    published[version] = params
    start = time.perf_counter()
    weights = writer(params, version)
    written = time.perf_counter() - start
    error = pool.update(weights)
    writer.remove(weights)
    [member] = pool.live
    return member.server.taken, written, member.seconds[0], written + member.seconds[0], error


def _text(rows: Sequence[tuple], size: int, rounds: int) -> str:
    header = ("engine", "servers.weight_sync_backend", "MB sent", "write s", "load s", "both s",
              "probe, nats")
    cells = [(kind, backend, f"{taken / 1e6:.1f}", f"{write:.3f}", f"{load:.3f}", f"**{both:.3f}**",
              f"{error:.0e}") for kind, backend, taken, write, load, both, error in rows]
    return markdown.rows(header, cells) + (
        f"\nA Mixture of Experts of {size / 1e6:.0f} MB in float32, LoRA on attention; medians of {rounds} "
        f"syncs to one server, the backends in turn, buckets of {BUCKET_BYTES / 1e6:.0f} MB. stream, "
        "distributed and delta merge while the server loads, so that all their time is in the loading; under "
        "delta the sets without an adapter are neither read nor sent. The last column is the largest error "
        "of the probe after any of the syncs.\n")
