"""A process that draws and trains a tiny model a little, and prints a fingerprint of every bit of what came
out."""
import hashlib

import jax
import numpy as np

from jaxrl_moe.config import RolloutSection
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.phases import NLL
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers import moe_case

if __name__ == "__main__":
    learner = moe_case.learner(moe_case.LORA)
    objective = make_policy_objective(NLL)
    for _ in range(3):
        learner.update(moe_case.batches(moe_case.conversations(), 40), objective)
    engine = JaxEngine(learner.model(), RolloutSection(slots=4, page_size=8, max_tokens=12),
                       max_prompt_tokens=70)
    ids = [np.arange(length, dtype=np.int32) % 47 for length in (1, 8, 70)]
    drawn = engine.generate(
        [Request(row, SamplingParams(max_tokens=12, n=2), number) for number, row in enumerate(ids)])
    arrays = [
        *jax.tree.leaves(learner.state),
        *(part for group in drawn for one in group for part in (one.ids, one.logprobs))
    ]
    print("fingerprint",
          hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest())
