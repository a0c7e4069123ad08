"""Weights into a server that runs already, and the proof that it computes what we do."""
import dataclasses
import os
import pathlib

from flax import nnx

from bridges.engines.assembly import KINDS
from bridges.engines.probe import Probe
from bridges.engines.sync import WeightWriter
from bridges.hf.folders import plain_name
from bridges.servers.http import EngineError, Http, Unavailable
from bridges.servers.receiver import Weights
from jaxrl_moe.model.transformer import Transformer


def push(model: Transformer, base: str, url: str, kind: str, *, adapter: str | os.PathLike | None = None,
         name: str = "", backend: str = "stream", folder: str = "", api_key: str = "",
         tolerance: float = 0.0) -> tuple[Weights, float]:
    """Brings a server to the model's weights.

    Args:
      model: with its adapters, if any.
      base: the checkpoint that it came from.
      url, kind: of the server; kind is "sglang" or "vllm".
      adapter: a PEFT folder that the model's adapters came from: it alone is loaded, under `name`, and the
        folder must stay where it is. None: all weights, adapters merged in.
      name: of the adapter, or of the version where all weights are sent; empty: one is made up.
      backend: how all weights get there: disk, stream or distributed, as in servers.weight_sync_backend.
      folder: where all weights are left for the server meanwhile; empty: a RAM disk of this machine.
      api_key, tolerance: see the servers section of the configuration.

    Returns:
      (what was loaded, the probe's error).

    Raises:
      EngineError: the server cannot take them, or computes something else afterwards.
    """
    if name:
        plain_name(name, "--name")  # what all weights are left under, where they go by a folder
    server = KINDS[kind](Http(url, api_key=api_key), model.config)
    try:
        server.check(adapter is not None)
        probe = Probe(model, server.context(), tolerance)
        params = nnx.state(model)
        if adapter is not None:
            weights = Weights(name or pathlib.Path(adapter).name, 0, str(pathlib.Path(adapter).absolute()),
                              True)
            server.load(weights)
            return weights, probe(server, params, weights)
        writer = WeightWriter(model, base, backend, folder)
        try:
            weights = writer(params, 0, name)
            server.load(weights)
            return dataclasses.replace(weights, bytes=server.taken), probe(server, params, weights)
        finally:
            writer.close()
    except Unavailable as error:
        raise EngineError(f"{error}. Is a {kind} server running there? Its own log may tell more.") from error
    finally:
        server.close()
