"""The protocols at the loop's borders: engines, tasks with their environments, the bridges and the endpoint.

A class says which of them it keeps by inheriting it; what is abstract here must be there, or no object can be
made. A test calls every method of every class that claims one.
"""
import abc
import contextlib
import os
import pathlib
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from jaxrl_moe.types import Action, Completion, Messages, Request, Step

if TYPE_CHECKING:
    from jaxrl_moe.config import Config
    from jaxrl_moe.data.tokenizer import Tokenizer
    from jaxrl_moe.distributed.sharding import Placement
    from jaxrl_moe.engine.engine import JaxEngine
    from jaxrl_moe.model.config import LoraConfig, ModelConfig
    from jaxrl_moe.model.transformer import Transformer
    from jaxrl_moe.model.value_head import Critic
    from jaxrl_moe.rollout.agents.sessions import AgentSessions

Path = str | os.PathLike


class Engine(Protocol):
    """Token ids in, token ids and log-probs out; text is never re-tokenised on the way. It draws batches from
    beginning to end.

    One thread drives it at a time.
    """

    @abc.abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order. What was submitted before may wait
        meanwhile.

        Raises:
          UserError: a request cannot be met.
        """

    @abc.abstractmethod
    def publish(self, params: Any, version: int) -> Mapping[str, float] | None:
        """Hands the engine the weights to draw from, for requests in flight too; what that took, for the log,
        if it was work."""

    @abc.abstractmethod
    def release(self) -> None:
        """Frees the memory (KV pool) that an update needs; the next generate or step takes it back. Requests
        in flight keep their tokens, whose keys and values are computed anew."""

    @abc.abstractmethod
    def stats(self) -> Mapping[str, float]:
        """Totals since the engine was made: "tokens" drawn, and, if the engine knows, "kept_mass", their mean
        probability left by top-p and such."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends what the engine started, and frees what it holds."""


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that also draws requests which come and go, through updates of the weights too."""

    @property
    @abc.abstractmethod
    def devices(self) -> Set[Any]:
        """The devices of this process's JAX that it draws on. While a trainer on one of them updates, nothing
        may be drawn."""

    @abc.abstractmethod
    def submit(self, request: Request) -> Hashable:
        """Queues a request and returns its handle. Raises UserError for one that cannot be met."""

    @abc.abstractmethod
    def step(self) -> Mapping[Hashable, list[Completion]]:
        """Goes on for a moment with what was submitted; returns the requests that are done by now, each once,
        by handle."""

    @abc.abstractmethod
    def cancel(self, handle: Hashable) -> None:
        """Drops a request with what it has drawn; one that is done is left alone."""

    @abc.abstractmethod
    def cut(self, handle: Hashable) -> list[Completion] | None:
        """Ends a request at what its samples have by now, as if they had come to their token limit. None, and
        nothing is done, where a sample has no token yet, or the engine cannot do it."""


class Env(Protocol):
    """One episode: reset() once, then step() until one says that it is done, and close() in any case. One
    thread uses it at a time.

    Where an environment itself fails, as a server that cannot be reached, it raises EnvError: the episode is
    then tried again with a fresh one. Whatever the policy did wrong is no failure but a Step that says so.
    """

    @abc.abstractmethod
    def reset(self) -> Messages:
        """Begins; returns the messages that the policy is shown after those of the row's own prompt, if
        any."""

    @abc.abstractmethod
    def step(self, action: Action) -> Step:
        """Takes one turn of the policy's. Raises UserError after the end."""

    @abc.abstractmethod
    def close(self) -> None:
        """Frees what the episode holds; a second time it does nothing."""


@runtime_checkable
class AgentEpisode(Protocol):
    """One episode that an agent elsewhere plays: it calls the policy at a session of the run's endpoint."""

    @abc.abstractmethod
    def play(self, base_url: str) -> Step | tuple[Step, ...] | None:
        """Has it played by an agent that calls the policy at this base_url, as of OpenAI's clients; waits for
        it, and returns what came of the whole, or of each call of the policy, in their order: the last step
        ends the episode. None: it is left to the next agent that asks by POST /sessions, which finishes it
        itself.

        Raises:
          EnvError: the agent failed, or cannot be reached.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Frees what the episode holds; a second time it does nothing."""


class Task(Protocol):
    """What the policy is trained on: opens an episode for a data row. Its parameters are its settings, as in
    env.name="gsm8k(binary=true)".

    Making one only reads and checks its settings, and costs nothing; what else it needs, a process or a
    connection, it takes at the first open(), and gives back in close(). A run makes one, and closes it.

    Attributes:
      lowest_reward: the least that an episode gives, so that an algorithm that needs rewards of 0 or more can
        be refused before the run; None: not known.
      concurrent: whether several threads may hold open episodes at once, as many as rollout.graders says;
        else one does.
      deterministic: whether the same row, seed and actions always give the same steps.
      max_turns: turns after which an episode is cut; 1: it grades one completion. Where rows differ, the most
        that any has, see turns_of.
      by_agents: whether agents elsewhere play its episodes, of at least 2 turns: open() then gives an
        AgentEpisode.
      by_calls: whether play() tells what each call of the policy came to, and not the whole alone.
      ends_itself: whether play() ends within a time of the task's own, and as many may be in it as there
        are episodes: episodes.step_timeout, episode_timeout and rollout.graders do not count.
      compared: episodes of a group that are judged against each other, so that each waits for so many; 0:
        each is by itself.
      score_range: least and most that an episode's rewards sum to, by which runs over several tasks bring
        them to one scale; None: not known.
      wire: how an environment server shows its sessions, a row of serving/envs/wires; empty: as the server's
        options say.
      envs: names of the environments that it holds, if several, of which a row names its own in a column
        `env`.
    """
    lowest_reward: ClassVar[float | None] = None
    concurrent: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    max_turns: int = 1
    by_agents: ClassVar[bool] = False
    by_calls: bool = False
    ends_itself: ClassVar[bool] = False
    compared: int = 0
    score_range: tuple[float, float] | None = None
    wire: ClassVar[str] = ""
    envs: tuple[str, ...] = ()

    def ready(self) -> None:
        """Whether what it needs elsewhere is there; asked before a run begins.

        Raises:
          UserError: it is not, or does not let the run in.
        """

    def turns_of(self, row: Mapping[str, Any]) -> int:
        """Turns after which the row's episode is cut."""
        return self.max_turns

    def scaled_from(self, row: Mapping[str, Any]) -> tuple[float, float] | None:
        """The least and most that the row's rewards sum to, where the run is to bring them from there to 0
        and 1; None: they are taken as they are."""
        return None

    def tools(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Functions that the policy may call in the row's episodes, as JSON schemas of OpenAI's form
        {"type": "function", "function": {...}}."""
        return ()

    def instructions(self, row: Mapping[str, Any]) -> str:
        """What a policy is told before the row's episode by whoever has no prompt of the row's own, as a
        system message; empty: nothing."""
        return ""

    @abc.abstractmethod
    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Raises UserError for a row that no episode can be made of; looks at the row alone and runs nothing.
        The message need not say which row: whoever reads the rows puts file and row before it. `index` is
        its position in the data set, from 0."""

    @abc.abstractmethod
    def open(self, row: Mapping[str, Any], seed: int) -> Env | AgentEpisode:
        """A new episode of a row that check_row lets pass. All episodes of one group have the same seed, so
        that they begin alike. A task that runs elsewhere connects here or in reset()."""

    @abc.abstractmethod
    def close(self) -> None:
        """Frees what the task holds, open episodes included; a second time it does nothing."""


class Bridge(Protocol):
    """The functions of the `bridges` package that a run or a server needs; this package must not import
    it."""

    def load_model(self, path: Path, *, lora: "LoraConfig | None" = None, dtype: Any = None, seed: int = 0,
                   attention: str = "auto", grouped_matmul: str = "auto",
                   placement: "Placement | None" = None) -> "Transformer": ...
    def export_model(self, model: "Transformer", path: Path, *, source: Path | None = None,
                     overwrite: bool = False) -> pathlib.Path: ...
    def export_adapter(self, model: "Transformer", path: Path, base: Path, overwrite: bool = False,
                       critic: "Critic | None" = None) -> pathlib.Path: ...
    def export_critic(self, critic: "Critic", path: Path, base: Path,
                      overwrite: bool = False) -> pathlib.Path: ...
    def check_replaceable(self, path: Path) -> None: ...
    def load_critic(self, path: Path) -> "Critic": ...
    def model_config(self, path: Path) -> "ModelConfig": ...
    def check_tensors(self, path: Path) -> None: ...
    def check_adapters(self, config: "ModelConfig", lora: "LoraConfig") -> None: ...
    def read_lora(self, path: Path) -> "LoraConfig": ...
    def import_adapter(self, model: "Transformer", path: Path, *, subset: bool = False) -> None: ...
    def draw_adapters(self, model: "Transformer", seed: int) -> None: ...
    def check_way_to_servers(self, config: "Config", shape: "ModelConfig") -> None: ...
    def check_servers(self, config: "Config", placement: "Placement | None" = None) -> str: ...
    def make_engine(self, config: "Config", model: "Transformer", tokenizer: "Tokenizer",
                    placement: "Placement | None" = None) -> Engine: ...


class Endpoint(Protocol):
    """Serves the policy over HTTP while it is trained, as the endpoint section says; scripts/train.py hands
    it in."""

    def __call__(self, config: "Config", engine: "JaxEngine", tokenizer: "Tokenizer",
                 sessions: "AgentSessions | None" = None) -> contextlib.AbstractContextManager[Engine]:
        """Within the block the loop draws by the engine that it yields, which shares the one given with the
        clients. Where there are sessions, agents take and play them."""
