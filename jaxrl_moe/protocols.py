"""The protocols at the loop's borders: engines, environments and the bridges."""
import pathlib
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol

from jaxrl_moe.types import Completion, Grade, Request

if TYPE_CHECKING:
    from jaxrl_moe.config import Config
    from jaxrl_moe.data.tokenizer import Tokenizer
    from jaxrl_moe.distributed.sharding import Placement
    from jaxrl_moe.model.config import LoraConfig, ModelConfig
    from jaxrl_moe.model.transformer import Transformer
    from jaxrl_moe.model.value_head import Critic


class Engine(Protocol):
    """Token ids in, token ids and log-probs out; text is never re-tokenised on the way.

    One thread drives it at a time. generate() draws a batch from beginning to end; submit, step, cancel and cut draw requests that
    come and go, through updates of the weights too.
    """

    @property
    def devices(self) -> Set[Any]:
        """The devices of this process's JAX that it draws on. While a trainer on one of them updates, nothing may be drawn."""

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Returns request.params.n completions for each request, in order. What was submitted before may wait meanwhile."""

    def submit(self, request: Request) -> Hashable:
        """Queues a request and returns its handle. Raises UserError for one that cannot be met."""

    def step(self) -> Mapping[Hashable, list[Completion]]:
        """Goes on for a moment with what was submitted; returns the requests that are done by now, each once, by handle."""

    def cancel(self, handle: Hashable) -> None:
        """Drops a request with what it has drawn; one that is done is left alone."""

    def cut(self, handle: Hashable) -> list[Completion] | None:
        """Ends a request at what its samples have by now, as if they had come to their token limit. None, and nothing is done, where a
        sample has no token yet, or the engine cannot do it."""

    def publish(self, params: Any, version: int) -> Mapping[str, float] | None:
        """Hands the engine the weights to draw from, for requests in flight too; what that took, for the log, if it was work."""

    def release(self) -> None:
        """Frees the memory (KV pool) that an update needs; the next generate or step takes it back. Requests in flight keep their tokens,
        whose keys and values are computed anew."""

    def stats(self) -> Mapping[str, float]:
        """Totals since the engine was made: "tokens" drawn, and, if the engine knows, "kept_mass", their mean probability left by
        top-p and such."""

    def close(self) -> None:
        """Ends what the engine started, and frees what it holds."""


class Env(Protocol):
    """A single-turn task: grades completion texts. It never sees the prompt's text mixed into the completion.

    It may have an attribute `lowest_reward`, the least reward that it gives: an algorithm that needs rewards of 0 or more is then
    refused before the run where that is below 0, and not by the first such reward. Above rollout.max_staleness = 0 several threads
    grade at once, as many as rollout.graders says.
    """

    def grade(self, row: Mapping[str, Any], completion: str, num_tokens: int, truncated: bool) -> Grade:
        """Scores one completion of one data row."""


class Bridge(Protocol):
    """The functions of the `bridges` package that a run needs; this package must not import it."""

    def load_model(self, path, *, lora: "LoraConfig | None", dtype, seed: int, attention: str,
                   grouped_matmul: str, placement: "Placement | None") -> "Transformer": ...
    def export_model(self, model, path, *, source=None, overwrite=False) -> pathlib.Path: ...
    def export_adapter(self, model, path, base, overwrite=False, critic=None) -> pathlib.Path: ...
    def export_critic(self, critic, path, base, overwrite=False) -> pathlib.Path: ...
    def load_critic(self, path) -> "Critic": ...
    def model_config(self, path) -> "ModelConfig": ...
    def check_tensors(self, path) -> None: ...
    def check_adapters(self, config: "ModelConfig", lora: "LoraConfig") -> None: ...
    def read_lora(self, path) -> "LoraConfig": ...
    def import_adapter(self, model, path) -> None: ...
    def check_way_to_servers(self, config: "Config", shape: "ModelConfig") -> None: ...
    def check_servers(self, config: "Config", placement: "Placement | None" = None) -> str: ...
    def make_engine(self, config: "Config", model: "Transformer", tokenizer: "Tokenizer",
                    placement: "Placement | None" = None) -> Engine: ...
