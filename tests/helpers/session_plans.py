"""What a session of an agent is opened for, in tests."""
import numpy as np

from jaxrl_moe.rollout.agents.session import SessionPlan
from jaxrl_moe.types import Prompt, SamplingParams

PROMPT = Prompt(np.array([1], np.int32), {"question": "2 + 2?"}, 0)


def plan(**changes):
    """A plan with room for all that tests do."""
    fields = dict(prompt=PROMPT, params=SamplingParams(max_tokens=200), sequence=3, sample=1, stream=0,
                  rounds=8, longest=4000)
    return SessionPlan(**fields | changes)
