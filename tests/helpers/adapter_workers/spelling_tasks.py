"""A taskset of verifiers: words are to be spelled backwards."""
from collections.abc import Iterable

import verifiers.v1 as vf
from verifiers.v1 import Task as Asked

__all__ = ["Spelling"]


class SpellingConfig(vf.TasksetConfig):
    count: int = 4


class Word(vf.TaskData):
    backwards: str


class Backwards(Asked[Word]):
    @vf.reward(weight=0.75)
    async def exact(self, trace: vf.Trace) -> float:
        print("scoring")
        return float(trace.last_reply == self.data.backwards)

    @vf.reward(weight=0.25)
    async def length(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) == len(self.data.backwards))

    @vf.metric
    async def letters(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply))


class Spelling(vf.Taskset[Backwards, SpellingConfig]):
    def load(self) -> Iterable[Backwards]:
        for word in ("loop", "stone", "river", "chair")[:self.config.count]:
            yield Backwards(Word(prompt=f"Write {word!r} backwards.", system_prompt="Say the word alone.",
                                 backwards=word[::-1]))
