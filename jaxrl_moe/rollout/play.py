"""Many episodes at once over one engine: each turn is a request, each answer of an environment leads to the
next one, and whoever is slow holds nobody else up.

In fixed order (episodes.order) the turns are drawn as their draw numbers and the steps of the engine have it,
whichever environment answers first: those that may go on are waited for before the engine draws again.
"""
import dataclasses
import time
from collections.abc import Hashable, Sequence
from typing import Any

from jaxrl_moe.hosts import hosts
from jaxrl_moe.protocols import Engine, StreamingEngine
from jaxrl_moe.rollout.agents.agents import Agents
from jaxrl_moe.rollout.answers import Answer, Key, from_plain
from jaxrl_moe.rollout.batches import Batches
from jaxrl_moe.rollout.environments import Environments
from jaxrl_moe.rollout.episode import Episode
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.failures import Failures
from jaxrl_moe.rollout.grades import GradeError
from jaxrl_moe.rollout.open_group import OpenGroup
from jaxrl_moe.types import (
    Action,
    Completion,
    Prompt,
    Request,
    RolloutGroup,
    SamplingParams,
    Status,
    Step,
)

PAUSE = 0.05  # seconds that a step waits for environments while there is nothing to draw


@dataclasses.dataclass
class Times:
    """Seconds: that environments took, of all threads together; and that Play waited for them."""
    environments: float = 0.0
    waited: float = 0.0


class Play:
    """Plays groups of episodes. One thread drives it.

    Args:
      engine: what draws; through generate() alone where `streaming` is false.
      episodes: the task and its limits.
      params: how turns are drawn; n is the group size.
      stream: of noise.
      fixed: the order, see the module.
      failures: the accounts of failed tries.
    """

    def __init__(self, engine: Engine, episodes: Episodes, params: SamplingParams, stream: int, *,
                 fixed: bool, failures: Failures, streaming: bool = True):
        self._by_agents = episodes.by_agents  # their calls come to the engine by themselves
        streams = (streaming or self._by_agents) and isinstance(engine, StreamingEngine)
        self._engine: Any = engine if streams else Batches(engine)
        bounds = [bound for bound in (episodes.longest, getattr(engine, "context", 0)) if bound]
        self._longest = min(bounds, default=0)
        self._episodes = episodes
        self._params = params
        self._stream = stream
        self._fixed = fixed
        self._failures = failures
        self._asked_of: Agents | Environments | None = None  # environments are in process 0 alone
        if self._by_agents:
            self._asked_of = Agents(episodes, stream, params, self._longest)
        elif hosts.leads():
            self._asked_of = Environments(episodes, stream)
        self._groups: dict[int, OpenGroup] = {}
        self._episode: dict[Key, Episode] = {}
        self._wanted: list[list[Episode]] = []
        self._flying: dict[Hashable, list[Episode]] = {}
        self._asked: dict[Key, bool] = {}  # by environments that have not answered: whether a turn may follow
        self._ended: list[RolloutGroup] = []
        self._times = Times()

    def begin(self, prompt: Prompt, sequence: int, step: int = 0) -> None:
        """Takes a group up; `step` is that of the round scheduler."""
        size = self._params.n
        group = OpenGroup(prompt, sequence, self._episodes.rounds(step, prompt), size)
        self._groups[sequence] = group
        self._start(group, range(size))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to wait for."""
        return not (self._wanted or self._flying or self._asked or self._ended)

    @property
    def draws(self) -> bool:
        """Whether the next step has something for the engine."""
        return bool(self._wanted or self._flying)

    def drawing(self, sequence: int) -> bool:
        """Whether a further token of a group may be drawn."""
        busy = [episode for wanted in (*self._wanted, *self._flying.values()) for episode in wanted]
        return any(episode.sequence == sequence for episode in busy) or any(
            goes_on for key, goes_on in self._asked.items() if key[0] == sequence)

    def all(self) -> list[RolloutGroup]:
        """Plays what was begun to its end; groups in order of their draw numbers."""
        groups = []
        while not self.idle:
            groups += self.step(None)
        return sorted(groups, key=lambda group: group.sequence)

    def step(self, patience: float | None = PAUSE) -> list[RolloutGroup]:
        """Draws for a moment, and hears what environments have to say; returns the groups that ended, of
        which some may have failed.

        Args:
          patience: seconds to wait for environments, where there is nothing to draw; None: however long.

        Raises:
          GradeError, EpisodesError: the task breaks, or too many episodes fail.
        """
        self._submit()
        if self._flying or self._by_agents:
            done = self._engine.step()
            for handle in sorted(done, key=lambda handle: self._flying[handle][0].key):
                self._drew(self._flying.pop(handle), done[handle])
        if self._asked:
            start = time.perf_counter()
            answers = self._answers(patience)
            if not self._by_agents:  # while agents play, the engine draws for them
                self._times.waited += time.perf_counter() - start
            for answer in answers:
                self._times.environments += answer.seconds
                self._hear(answer)
        ended = self._ended
        self._ended = []
        return ended

    def cut(self, sequence: int) -> None:
        """Ends a group's episodes at what they have, as if the token limit had come; where a sample has no
        token yet, at the next call."""
        self._groups[sequence].ending = True
        for key in [key for key in self._asked if self._by_agents and key[0] == sequence]:
            self._asked_of.cut(key)
        for handle in self._handles(sequence):
            completions = self._engine.cut(handle)
            if completions is not None:
                self._drew(self._flying.pop(handle), completions)

    def abort(self, sequence: int) -> None:
        """Drops a group."""
        for handle in self._handles(sequence):
            self._engine.cancel(handle)
            del self._flying[handle]
        self._wanted = [wanted for wanted in self._wanted if wanted[0].sequence != sequence]
        for key in [key for key in self._episode if key[0] == sequence]:
            self._leave(key)
        del self._groups[sequence]

    def take_times(self) -> Times:
        """The seconds since the last call."""
        times = self._times
        self._times = Times()
        return times

    def close(self) -> None:
        """Ends everything; environments that hang are not waited for."""
        for handle in self._flying:
            self._engine.cancel(handle)
        if self._asked_of is not None:
            self._asked_of.close()

    def _handles(self, sequence: int) -> list[Hashable]:
        return [handle for handle, flying in self._flying.items() if flying[0].sequence == sequence]

    def _start(self, group: OpenGroup, samples: Sequence[int]) -> None:
        made = [self._episodes.episode(group.prompt, group.sequence, sample, group.rounds)
                for sample in samples]
        self._episode.update({episode.key: episode for episode in made})
        if self._episodes.single:
            self._wanted.append(made)
            return
        for episode in made:
            self._begin(episode)

    def _begin(self, episode: Episode) -> None:
        if self._by_agents:
            self._ask(episode, True, "give", episode.prompt, episode.rounds)
        else:
            self._ask(episode, True, "begin", episode.prompt, episode.attempt)

    def _ask(self, episode: Episode, goes_on: bool, what: str, *arguments: Any) -> None:
        self._asked[episode.key] = goes_on
        if self._asked_of is not None:
            getattr(self._asked_of, what)(episode.key, *arguments)

    def _submit(self) -> None:
        """Each list of episodes that were not drawn yet as one request; they have the same tokens so far."""
        for episodes in sorted(self._wanted, key=lambda episodes: episodes[0].key):
            first = episodes[0]
            params = dataclasses.replace(self._params, n=len(episodes), max_tokens=self._room(len(first.ids)))
            request = Request(first.ids, params, first.sequence, first.turn, self._stream, first.sample)
            self._flying[self._engine.submit(request)] = episodes
        self._wanted = []

    def _room(self, length: int) -> int:
        """Most tokens of a turn that goes on from so many."""
        if self._episodes.single or not self._longest:
            return self._params.max_tokens
        return min(self._params.max_tokens, self._longest - length)

    def _drew(self, episodes: list[Episode], completions: list[Completion]) -> None:
        for episode, completion in zip(episodes, completions, strict=True):
            action = episode.drew(completion, self._episodes.decode)
            if self._episodes.single:
                self._ask(episode, False, "grade", episode.prompt, action, episode.attempt)
            elif action.malformed:
                self._corrected(episode, action)
            else:
                ending = self._groups[episode.sequence].ending
                self._ask(episode, episode.turn < episode.rounds and not ending, "act", action)

    def _answers(self, patience: float | None) -> list[Answer]:
        """What environments say by now, the same in every process; in fixed order once all have answered that
        a turn may follow on, or where there is nothing else to do, once all have."""
        drawing = self.draws
        wanted = []
        if self._fixed:
            wanted = [key for key, goes_on in self._asked.items() if goes_on]
            if not wanted and drawing:
                return []
            wanted = wanted or list(self._asked)
            patience = None
        elif drawing:
            patience = 0.0

        def told() -> list[dict[str, Any]]:
            return [answer.plain() for answer in self._asked_of.answers(wanted, patience)]

        return [from_plain(values) for values in hosts.from_leader(told)]

    def _hear(self, answer: Answer) -> None:
        episode = self._episode.get(answer.key)
        if self._asked.pop(answer.key, None) is None or episode is None:
            return
        if answer.status is not None:
            self._failed(episode, answer)
        elif answer.step is None:
            episode.opened(answer.messages)
            self._check_room(episode)
            self._wanted.append([episode])
        else:
            if self._by_agents:
                episode.played(*self._asked_of.drafts(answer.key), self._episodes.decode)
            episode.told(answer.step)
            self._after(episode, answer.step)

    def _check_room(self, episode: Episode) -> None:
        if self._room(len(episode.ids)) < 1:
            raise GradeError(f"{episode.prompt.origin}: the episode begins with {len(episode.ids)} tokens, "
                             "the first observation included, and that leaves no room for a turn: raise "
                             "episodes.max_tokens or data.max_prompt_tokens.")

    def _corrected(self, episode: Episode, action: Action) -> None:
        """A call of a tool that is none: the policy is told so, and the environment hears nothing of the
        turn."""
        wrong = " ".join(action.malformed)
        content = f"This was no call of a tool: {wrong} Nothing was done. Try again."
        told = {"role": "user", "content": content}
        step = Step(0.0, False, observation=(told,))
        episode.told(step)
        self._after(episode, step)

    def _after(self, episode: Episode, step: Step) -> None:
        """A turn is over: the next one, or the end."""
        group = self._groups[episode.sequence]
        if step.done:
            limited = episode.action.truncated or step.truncated
            self._end(episode, Status.TRUNCATED if limited else Status.FINISHED)
            return
        if episode.turn < episode.rounds and not group.ending and episode.go_on(self._room):
            self._wanted.append([episode])
            return
        self._end(episode, Status.TRUNCATED)

    def _end(self, episode: Episode, status: Status) -> None:
        group = self._groups[episode.sequence]
        self._failures.note(status)
        group.rollouts[episode.sample] = episode.rollout(status, self._episodes.decode)
        self._leave(episode.key)
        if len(group.rollouts) == group.size:
            self._ended.append(group.group())
            del self._groups[group.sequence]

    def _failed(self, episode: Episode, answer: Answer) -> None:
        """A try came to nothing: another one, another episode, or the end of the group."""
        self._failures.note(answer.status, answer.message)
        group = self._groups[episode.sequence]
        settings = self._episodes.settings
        self._forget(episode.key)
        if episode.attempt < settings.retries and not answer.final:
            self._retry(episode)
            return
        self._leave(episode.key)
        if settings.failed == "complete" and group.spare < group.size:
            sample = group.size + group.spare
            group.spare += 1
            self._start(group, [sample])
            return
        group.failed.append(episode.rollout(answer.status, self._episodes.decode, answer.message))
        ended = group.group()
        self.abort(group.sequence)  # the others of its group would be drawn for nothing
        self._ended.append(ended)

    def _retry(self, episode: Episode) -> None:
        """With a fresh environment; a completion that was drawn already is graded again."""
        if self._episodes.single:
            episode.attempt += 1
            self._ask(episode, False, "grade", episode.prompt, episode.action, episode.attempt)
            return
        episode.again()
        self._begin(episode)

    def _forget(self, key: Key) -> None:
        """Closes the environment of an episode."""
        self._asked.pop(key, None)
        if self._asked_of is not None:
            self._asked_of.end(key)

    def _leave(self, key: Key) -> None:
        """It is over."""
        self._forget(key)
        self._episode.pop(key, None)

