"""Prompts x task x engine -> groups of finished episodes."""
from collections.abc import Sequence

from jaxrl_moe.protocols import Engine
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.failures import Failures
from jaxrl_moe.rollout.play import Play
from jaxrl_moe.types import Prompt, RolloutGroup, SamplingParams

TRAIN_STREAM, EVAL_STREAM, GREEDY_STREAM, SERVED_STREAM = range(4)  # streams of noise that never meet


def collect(prompts: Sequence[Prompt], episodes: Episodes, engine: Engine, params: SamplingParams,
            first_sequence: int, stream: int = TRAIN_STREAM, step: int = 0) -> list[RolloutGroup]:
    """Plays params.n episodes of each prompt; what else the engine has in flight waits meanwhile.

    Args:
      prompts: P prompts.
      episodes: how they are played.
      engine: draws their turns, those of all episodes together, one after another.
      params: how turns are drawn; n is the group size.
      first_sequence: draw number of the first prompt; the others follow. With the seed it decides the noise.
      stream: which stream of noise, so that evaluation and training share none.
      step: of the round scheduler.

    Returns:
      P groups of n rollouts, in the order of the prompts; of a group whose environments failed in all their
      tries, what there is.
    """
    failures = Failures(episodes.settings, len(prompts) * params.n)
    play = Play(engine, episodes, params, stream, fixed=True, failures=failures, streaming=False)
    try:
        for sequence, prompt in enumerate(prompts, first_sequence):
            play.begin(prompt, sequence, step)
        return play.all()
    finally:
        play.close()
