"""The engine's device programs: prefill, decode and page copies. Each updates the KV pool in place (it is
donated).

On a mesh the rows of a call, and the pages of the pool, are split over the axes data and fsdp: part after
part stands in the arrays, each with as many rows and pages as the others, and page numbers count within the
own part. Devices along expert and tensor work on the same rows, each with its experts and its heads; those
along context all do the same.

Letters: U rows, T tokens of a prefill row, J visible pages, S decode steps, X stop ids of a row, C page
copies.
"""
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxrl_moe.distributed import collectives
from jaxrl_moe.distributed.collectives import DRAWN, inside
from jaxrl_moe.distributed.sharding import Placement, spec_of
from jaxrl_moe.engine import sampling
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer

ROWS = PartitionSpec(DRAWN)
WHOLE = PartitionSpec()


def pool_specs(cache: type) -> Any:
    """Of a cache's arrays, in its structure."""
    return cache(*(spec_of(axes) for axes in cache.axes()))


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[
        "tokens_U", "positions_U", "remaining_U", "draws_U4", "temperature_U", "top_p_U", "top_k_U",
        "min_p_U", "stop_UX", "pages_UJ"
    ], meta_fields=[])
@dataclasses.dataclass
class DecodeRows:
    """What one decode call needs to know of its rows; a row with nothing remaining is padding.

    tokens_U are the newest tokens, positions_U where they stand, remaining_U how many more may be drawn,
    draws_U4 the coordinates of the noise (see sampling.row_keys), stop_UX is filled up with -1.
    """
    tokens_U: Any
    positions_U: Any
    remaining_U: Any
    draws_U4: Any
    temperature_U: Any
    top_p_U: Any
    top_k_U: Any
    min_p_U: Any
    stop_UX: Any
    pages_UJ: Any


class EnginePrograms:
    """Compiles on first use per shape; `compiles` counts how often that happened."""

    def __init__(self, graphdef: nnx.GraphDef, seed: int, steps: int, expert_dtype: Any,
                 placement: Placement | None = None):
        """steps: most tokens a decode call draws per row; expert_dtype: of returned expert ids; placement:
        None on one device."""
        self._graphdef = graphdef
        self._seed = seed
        self._steps = steps
        self._expert_dtype = expert_dtype
        self._placement = placement
        self.compiles = 0
        self.prefill = jax.jit(self._prefill, donate_argnums=1, static_argnames="routes")
        self.decode = jax.jit(self._decode, donate_argnums=1, static_argnames=("truncate", "routes"))
        self.copy_pages = jax.jit(self._copy_pages, donate_argnums=0)

    def empty_cache(self, config: ModelConfig, num_pages: int, page_size: int, dtype: Any) -> Any:
        """An empty cache with num_pages, trash page included, for each part of the rows."""
        kind = family_of(config).cache()
        if self._placement is None:
            return kind.zeros(config, num_pages, page_size, dtype)
        num_pages *= self._placement.drawn_shards
        zeros = functools.partial(kind.zeros, config, num_pages, page_size, dtype)
        shardings = jax.tree.map(lambda spec: NamedSharding(self._placement.mesh, spec), pool_specs(kind))
        return jax.jit(zeros, out_shardings=shardings)()

    def _mapped(self, function: Callable[..., Any], out_spec: Any, params: nnx.State, cache: Any,
                *rest):
        """function(params, cache, *rest), on a mesh by every device with its part of the weights, of the
        cache and of the rows, which all arrays in `rest` lead with. out_spec is of what is returned beside
        the cache."""
        if self._placement is None:
            return function(params, cache, *rest)
        placement = self._placement
        pool = pool_specs(type(cache))
        local_layout = dataclasses.replace(placement.layout, transport="replicated")

        def local(*inputs):
            with inside(local_layout):
                return function(*inputs)

        specs = (placement.specs(params), pool, *jax.tree.map(lambda _: ROWS, rest))
        return jax.shard_map(local, mesh=placement.mesh, in_specs=specs, out_specs=(pool, out_spec),
                             check_vma=False)(params, cache, *rest)

    def _prefill(self, params: nnx.State, cache: Any, tokens_UT: jax.Array, positions_UT: jax.Array,
                 pages_UJ: jax.Array, *, routes: bool):
        """Writes the tokens' keys and values; returns the cache, and expert ids [U, T, L, A] or None."""
        self.compiles += 1
        return self._mapped(functools.partial(self._local_prefill, routes), ROWS, params, cache, tokens_UT,
                            positions_UT, pages_UJ)

    def _local_prefill(self, routes: bool, params: nnx.State, cache: Any, tokens_UT: jax.Array,
                       positions_UT: jax.Array, pages_UJ: jax.Array):
        model = nnx.merge(self._graphdef, params)
        _, cache, routing = model.extend(tokens_UT, cache, Pass(positions_UT, pages_BJ=pages_UJ))
        if not routes:
            return cache, None
        return cache, jnp.moveaxis(routing.expert_ids, 0, 2).astype(self._expert_dtype)

    def _decode(self, params: nnx.State, cache: Any, rows: DecodeRows, *, truncate: bool,
                routes: bool):
        """Draws up to `steps` tokens per row, until every row has met a stop id or has nothing remaining.

        Returns the cache and a dict of tokens_SU (-1 where nothing was drawn), logprobs_SU, kept_U (the sum
        of kept mass over drawn tokens) and, with routes, expert_ids_SULA of the tokens fed (not of those
        drawn).
        """
        self.compiles += 1
        per_row = PartitionSpec(None, DRAWN)
        specs = {
            "tokens_SU": per_row,
            "logprobs_SU": per_row,
            "kept_U": ROWS
        } | ({
            "expert_ids_SULA": per_row
        } if routes else {})
        return self._mapped(functools.partial(self._local_decode, truncate, routes), specs, params, cache,
                            rows)

    def _local_decode(self, truncate: bool, routes: bool, params: nnx.State, cache: Any,
                      rows: DecodeRows):
        model = nnx.merge(self._graphdef, params)
        apart = model.apart()
        keys_U = sampling.row_keys(jax.random.key(self._seed), rows.draws_U4)

        def unfinished(remaining_U: jax.Array):
            """Rows that go on, of all parts: their devices gather weights from each other, so that all must
            go on as often."""
            return collectives.total(jnp.sum(remaining_U > 0, dtype=jnp.int32), *DRAWN)

        def go_on(carry: tuple):
            return (carry[0] < self._steps) & (carry[1] > 0)

        def draw_one(carry: tuple):
            step, _, cache, tokens_U, positions_U, remaining_U, out = carry
            active_U = remaining_U > 0
            fed_U1 = jnp.where(active_U, positions_U, -1)[:, None]
            call = Pass(fed_U1, pages_BJ=rows.pages_UJ)
            hidden_U1D, cache, routing = model.extend(tokens_U[:, None], cache, call, apart)
            uniforms_U2 = sampling.token_uniforms(keys_U, positions_U + 1)
            drawn_U, logprobs_U, kept_U = sampling.sample(
                model.logits(hidden_U1D)[:, 0], uniforms_U2, rows.temperature_U, rows.top_p_U, rows.top_k_U,
                rows.min_p_U, truncate=truncate)
            out = dict(out, tokens_SU=out["tokens_SU"].at[step].set(jnp.where(active_U, drawn_U, -1)),
                       logprobs_SU=out["logprobs_SU"].at[step].set(logprobs_U),
                       kept_U=out["kept_U"] + jnp.where(active_U, kept_U, 0.0))
            if routes:
                ids_ULA = jnp.moveaxis(routing.expert_ids[:, :, 0], 0, 1)
                out["expert_ids_SULA"] = out["expert_ids_SULA"].at[step].set(
                    ids_ULA.astype(self._expert_dtype))
            stopped_U = (drawn_U[:, None] == rows.stop_UX).any(axis=1)
            remaining_U = jnp.where(stopped_U, 0, remaining_U - active_U)
            return step + 1, unfinished(remaining_U), cache, drawn_U, positions_U + 1, remaining_U, out

        carry = (0, unfinished(rows.remaining_U), cache, rows.tokens_U, rows.positions_U, rows.remaining_U,
                 self._empty(model, rows, routes))
        _, _, cache, _, _, _, out = jax.lax.while_loop(go_on, draw_one, carry)
        return cache, out

    def _empty(self, model: Transformer, rows: DecodeRows, routes: bool):
        count = rows.tokens_U.shape[0]
        out = {"tokens_SU": jnp.full((self._steps, count), -1, jnp.int32),
               "logprobs_SU": jnp.zeros((self._steps, count), jnp.float32),
               "kept_U": jnp.zeros(count, jnp.float32)}
        if routes:
            shape = (self._steps, count, model.config.num_sparse_layers, model.config.num_experts_per_tok)
            out["expert_ids_SULA"] = jnp.zeros(shape, self._expert_dtype)
        return out

    def _copy_pages(self, cache: Any, sources_C: jax.Array, targets_C: jax.Array):
        """Copies whole pages; pairs of trash pages are padding."""
        self.compiles += 1

        def copy(_: Any, cache: Any, sources_C: jax.Array, targets_C: jax.Array) -> tuple[Any, None]:
            return jax.tree.map(lambda array: array.at[:, targets_C].set(array[:, sources_C]), cache), None

        return self._mapped(copy, WHOLE, {}, cache, sources_C, targets_C)[0]
