"""Does a server compute what we do? Its log-probs of what it draws against ours, after every sync: HTTP 200
is no evidence."""
import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from bridges.servers.http import EngineError, Unavailable
from bridges.servers.receiver import Weights
from bridges.servers.server import DrawnSample, Server
from jaxrl_moe.distributed.collectives import AXES, inside
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.hosts import hosts
from jaxrl_moe.hosts.turns import alone
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import SamplingParams

TEMPERATURE = 0.7  # not 1, so that a server that leaves the temperature out shows
PROMPT = 24
DRAWN = 8
SAMPLES = 4
SEED = 20
# until a probe's answer must be there; the first one may have to wait for a server to compile
SECONDS = 120.0
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}


class Probe:
    """Draws from a fixed prompt of random tokens, and scores what comes back with the policy.

    Args:
      model: the policy; its weights come with each call.
      context: most tokens of a sequence.
      tolerance: of the mean |difference| in nats; 0: 1e-4 in float32, 0.1 in bfloat16, in which two right
        programs differ by some hundredths.
      score: what scorer() gives; None: that of a single device.
    """

    def __init__(self, model: Transformer, context: int, tolerance: float = 0.0,
                 score: Callable | None = None):
        self._score = score or scorer(model)
        self.tolerance = tolerance or TOLERANCES[str(model.dtype)]
        length = min(PROMPT, context - DRAWN)
        self._prompt = np.random.default_rng(SEED).integers(0, model.config.vocab_size,
                                                            length).astype(np.int32)

    def __call__(self, server: Server, params: nnx.State, weights: Weights | None = None) -> float:
        """The mean |difference| of log-probs.

        Raises:
          EngineError: it is above the tolerance; the message says what the server seems to do instead.
          Unavailable: the server failed.
        """
        drawn = SamplingParams(DRAWN, TEMPERATURE, n=SAMPLES)
        samples = server.draw(self._prompt, drawn, weights=weights, seed=SEED, stop_ids=(), timeout=SECONDS)
        error = self._error(samples, params, TEMPERATURE)
        if not error <= self.tolerance:
            untempered = self._error(samples, params, 1.0) <= self.tolerance
            version = f" of version {weights.version}" if weights else ""
            raise EngineError(f"{server.url} disagrees with the policy{version}: its log-probs of the "
                              f"probe's tokens differ from ours by {error:.2e} nats on average, and "
                              f"{self.tolerance:.0e} is allowed "
                              "(servers.tolerance). " + (_UNTEMPERED[server.kind] if untempered else _OTHER))
        return error

    def _error(self, samples: list[DrawnSample], params: nnx.State, temperature: float):
        """Mean |theirs - ours|; rows are padded at the end, which changes nothing before it."""
        start = len(self._prompt)
        tokens_BT = np.zeros((SAMPLES, start + DRAWN), np.int32)
        for row, sample in enumerate(samples):
            tokens_BT[row, :start] = self._prompt
            tokens_BT[row, start:start + len(sample.ids)] = sample.ids
        ours_BT = self._score(params, tokens_BT, temperature)
        gaps = [
            np.abs(sample.logprobs - ours_T[start - 1:start - 1 + len(sample.ids)])
            for sample, ours_T in zip(samples, ours_BT)
        ]
        return float(np.concatenate(gaps).mean())


class Verifier:
    """Has a probe compare servers with the weights that were published last, as long as training has not
    taken these.

    Attributes:
      params: of the policy, as published.
    """

    def __init__(self, probe: Probe):
        self._probe = probe
        self.params = None

    def __call__(self, server: Server, weights: Weights) -> float:
        """As Probe; raises Unavailable for a server that comes back when the weights are gone."""
        later = (f"{server.url} comes back with the next weights: training has gone on, and cannot probe the "
                 "present ones")
        if self._gone():
            raise Unavailable(later)
        try:
            return self._probe(server, self.params, weights)
        except RuntimeError as error:
            if self._gone():  # an update of another thread took the arrays meanwhile
                raise Unavailable(later) from error
            raise

    def _gone(self) -> bool:
        """Whether training has taken the weights that were published last."""
        return any(leaf.is_deleted() for leaf in jax.tree.leaves(self.params) if hasattr(leaf, "is_deleted"))


def scorer(model: Transformer,
           placement: Placement | None = None) -> Callable[[nnx.State, np.ndarray, float], np.ndarray]:
    """(params, tokens_BT, temperature) -> [B, T] float32 log-probs of the tokens that follow; the last one of
    a row means nothing.

    Args:
      model: the policy; its weights come with each call.
      placement: the mesh that these lie on, or None on one device. All devices score all rows, so any number
        of rows does.
    """
    graphdef, _ = nnx.split(model)

    def score(params: nnx.State, tokens_BT: np.ndarray, temperature: float):
        model = nnx.merge(graphdef, params)
        positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
        hidden_BTD, _ = model(tokens_BT, Pass(positions_BT, jnp.ones_like(positions_BT)))
        logprobs, _ = token_logprobs(hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), model.head_DV(),
                                     jnp.roll(tokens_BT, -1, axis=1).reshape(-1), temperature,
                                     vocabulary=model.vocabulary())
        return logprobs.reshape(tokens_BT.shape)

    compiled = jax.jit(score if placement is None else functools.partial(_on_mesh, score, placement))

    def precisely(params: nnx.State, tokens_BT: np.ndarray, temperature: float):
        with jax.default_matmul_precision("highest"), alone():
            return hosts.fetch(compiled(params, tokens_BT, temperature))
    return precisely


def _on_mesh(score: Callable, placement: Placement, params: nnx.State, tokens_BT: np.ndarray,
             temperature: float):
    """Every device with its part of the weights and the same rows, whole."""
    sizes = tuple(1 if axis == "context" else size for axis, size in zip(AXES, placement.layout.sizes))
    layout = dataclasses.replace(placement.layout, sizes=sizes, transport="replicated")

    def local(*inputs):
        with inside(layout):
            return score(*inputs)

    whole = PartitionSpec()
    mapped = jax.shard_map(local, mesh=placement.mesh, in_specs=(placement.specs(params), whole, whole),
                           out_specs=whole, check_vma=False)
    return mapped(params, tokens_BT, temperature)


_UNTEMPERED = {
    "vllm": "They are those of temperature 1: start the vLLM server with --logprobs-mode processed_logprobs.",
    "sglang": "They are those of temperature 1: start the SGLang server without "
              "SGLANG_RETURN_ORIGINAL_LOGPROB in its environment."}
_OTHER = ("It has other weights than it says, or computes otherwise (another dtype, quantisation, a penalty "
          "on tokens): nothing that it draws can be trained on. Check that it serves this very model; its "
          "own log may tell more.")
