"""How fast the update computes: model FLOPs a second, and their share of what the device could do (MFU, arXiv
2204.02311)."""
import re
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from jaxrl_moe.distributed.chips import CHIPS
from jaxrl_moe.learning.batch import MicroBatch
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.families.family import Cost, CountedArray
from jaxrl_moe.model.families.registry import family_of

# Peak bfloat16 FLOP/s of dense products, from the makers' data sheets; the first row whose words are all in
# the device's kind.
PEAKS = (("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", CHIPS["H100"].flops), ("H200 NVL", 835e12),
         ("H200", CHIPS["H200"].flops), ("B200", CHIPS["B200"].flops), ("A100", CHIPS["A100"].flops),
         ("L40S", CHIPS["L40S"].flops), ("RTX 3090", CHIPS["RTX3090"].flops))


def model_cost(config: ModelConfig, trainable: nnx.State, frozen: nnx.State) -> Cost:
    """The cost of a model, by its matrices: 2 FLOPs a weight forward, 2 backward for its input, 2 more if it
    is trained.

    What recomputes (remat) is left out; the rest its family says.
    """
    states = ((trainable, 6), (frozen, 4))
    weights = (CountedArray(".".join(map(str, path)), variable.shape, flops)
               for state, flops in states for path, variable in nnx.to_flat_state(state))
    return family_of(config).cost(config, weights)


def update_flops(config: ModelConfig, cost: Cost, batches: Sequence[MicroBatch]) -> float:
    """FLOPs of the updates over some micro-batches; padding counts nothing, and the output matrix for trained
    tokens alone."""
    total = 0.0
    for batch in batches:
        seen_M = np.asarray(batch.positions_BT)[np.asarray(batch.segments_BT) > 0] + 1
        total += cost.token * len(seen_M) + cost.read * float(np.asarray(batch.mask_BT).sum())
        for window in set(config.windows):
            pairs = float((np.minimum(seen_M, window) if window else seen_M).sum())
            total += cost.pair * config.windows.count(window) * pairs
    return total


def peak_flops(kind: str) -> float | None:
    """The peak of a device by its kind, such as "NVIDIA H200"; None for one that is not in the table, or a
    slice of one (MIG)."""
    words = re.findall(r"\w+", kind)
    if "MIG" in words:
        return None
    return next((peak for name, peak in PEAKS if set(name.split()) <= set(words)), None)


class FlopMeter:
    """Turns updates and seconds into perf/tflops_per_s and, where the devices' peak is known, perf/mfu."""

    def __init__(self, learner: Learner):
        self._config = learner.config
        self._cost = model_cost(learner.config, learner.state.trainable, learner.parts.frozen)
        devices = jax.tree.leaves(learner.state.trainable)[0].devices()
        peaks = [peak_flops(device.device_kind) for device in devices]
        self._peak = None if None in peaks else sum(peaks)

    def metrics(self, batches: Sequence[MicroBatch], seconds: float) -> dict[str, float]:
        """Of all micro-batches of a step's updates, over the seconds of the whole step."""
        rate = update_flops(self._config, self._cost, batches) / seconds
        return {
            "perf/tflops_per_s": rate / 1e12
        } | ({} if self._peak is None else {
            "perf/mfu": rate / self._peak
        })
