"""What the pool asks of a server, whichever engine runs it: tokens in and out, weights in."""
import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bridges.servers.http import EngineError, Http, Refused, Unavailable
from bridges.servers.receiver import Receiver, Weights
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.types import SamplingParams

LARGEST = 1e-3  # a log-prob above 0 by more than this is no rounding


@dataclasses.dataclass(frozen=True)
class DrawnSample:
    """One completion as a server gave it.

    Attributes:
      ids, logprobs: [T].
      finish_reason: "stop" or "length"; "abort" where new weights cut it short, perhaps before its first
        token.
      versions: labels of the weights, an adapter's own where it drew: (label, first token, one past the
        last).
      expert_ids: [prompt + T - 1, L, A], sparse layers alone, or None.
    """
    ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: str
    versions: tuple[tuple[str, int, int], ...]
    expert_ids: np.ndarray | None = None


class Server(Receiver):
    """One server of SGLang or vLLM.

    Args:
      http: the way to it.
      config: of the policy; ids outside its vocabulary are never sent, as they kill some servers.
      in_flight: what becomes of requests when all weights are replaced: "resume" on the new ones, or "abort".
    """
    kind: str

    def __init__(self, http: Http, config: ModelConfig, in_flight: str = "resume"):
        super().__init__(http.url)
        self.http = http
        self.config = config
        self.vocab_size = config.vocab_size
        self.in_flight = in_flight

    def close(self) -> None:
        """Ends the connections to it."""
        self._leave_group()
        self.http.close()

    def is_up(self) -> bool:
        return self.http.is_up()

    def draw(self, ids: Sequence[int], params: SamplingParams, *, weights: Weights | None, seed: int,
             stop_ids: Sequence[int], timeout: float | None = None,
             versions: Mapping[str, int] | None = None) -> list[DrawnSample]:
        """params.n completions of the prompt `ids`.

        Args:
          weights: what they must be drawn from; None: whatever the server has.
          versions: {label: policy version} of all weights there were; tokens may come from later ones of them
            too, which replaced `weights` meanwhile.
          seed: of the server's sampler.
          stop_ids: token ids that end a completion.
          timeout: seconds until the answer must be there; None: the usual ones.

        Raises:
          Refused: the request cannot be met.
          Unavailable: the server failed, answered garbage or has other weights.
        """
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            raise EngineError(f"A prompt has token ids from {min(ids)} to {max(ids)}, but the vocabulary "
                              f"holds 0 to {self.vocab_size - 1}.")
        try:
            samples = self._draw([int(token) for token in ids], params, weights, seed,
                                 [int(token) for token in stop_ids], timeout)
        except Refused as error:
            if weights and weights.adapter and weights.label in str(error):
                raise Unavailable(f"{self.url} has lost the adapter {weights.label}; was it "
                                  "started anew?") from error
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(f"{self.url} answered in an unknown shape ({type(error).__name__}: "
                              f"{error})") from error
        if weights and weights.adapter:  # what the server labels are the weights below it
            samples = [
                dataclasses.replace(sample, versions=((weights.label, 0, len(sample.ids)),))
                for sample in samples
            ]
        later = {
            label for label, version in (versions or {}).items() if weights and version >= weights.version
        }
        self._check(samples, params, weights and later | {weights.label}, len(ids))
        return samples

    def _check(self, samples: list[DrawnSample], params: SamplingParams, labels: set[str] | None,
               prompt: int):
        """Raises Unavailable for what no sound server answers."""
        wrong = [problem for sample in samples for problem in self._problems(sample, params, labels, prompt)]
        if len(samples) != params.n:
            wrong.append(f"{len(samples)} completions instead of {params.n}")
        if wrong:
            raise Unavailable(f"{self.url} answered {wrong[0]}")

    def _problems(self, sample: DrawnSample, params: SamplingParams, labels: set[str] | None, prompt: int):
        aborted = sample.finish_reason == "abort" and self.in_flight == "abort"
        if aborted and not len(sample.ids):
            return
        if not 0 < len(sample.ids) <= params.max_tokens or len(sample.ids) != len(sample.logprobs):
            yield (f"{len(sample.ids)} tokens with {len(sample.logprobs)} log-probs, where 1 to "
                   f"{params.max_tokens} are possible")
        elif sample.ids.min() < 0 or sample.ids.max() >= self.vocab_size:
            yield (f"token ids from {sample.ids.min()} to {sample.ids.max()} for a vocabulary of "
                   f"{self.vocab_size}")
        elif not np.isfinite(sample.logprobs).all() or sample.logprobs.max() > LARGEST:
            yield f"log-probs from {sample.logprobs.min()} to {sample.logprobs.max()}"
        if sample.finish_reason not in ("stop", "length") and not aborted:
            yield f"a completion that ended by {sample.finish_reason!r}"
        routes = None if sample.expert_ids is None else len(sample.expert_ids)
        if params.return_routed_experts and routes != prompt + len(sample.ids) - 1:
            yield f"routes of {routes} tokens for {prompt} prompt tokens and {len(sample.ids)} drawn ones"
        if labels is None:
            return
        drawn = [(label, start, end) for label, start, end in sample.versions if end > start]
        others = {label for label, *_ in drawn} - labels
        if others:
            yield (f"tokens drawn from the weights {', '.join(map(repr, sorted(others)))} instead of "
                   f"{', '.join(map(repr, sorted(labels)))}; was it started anew?")
        if [start for _, start, _ in drawn] + [len(sample.ids)] != [0] + [end for *_, end in drawn]:
            yield (f"{len(sample.ids)} tokens with the weights' labels {sample.versions}, which do not cover "
                   "each once")

    @abc.abstractmethod
    def _draw(self, ids: list[int], params: SamplingParams, weights: Weights | None, seed: int,
              stop_ids: Sequence[int], timeout: float | None) -> list[DrawnSample]:        ...

    @abc.abstractmethod
    def context(self) -> int:
        """Most tokens of a prompt with its completion."""

    @abc.abstractmethod
    def check(self, adapter: bool, routes: bool = False) -> None:
        """Raises EngineError, with the mend, where the server lacks what drawing, this kind of sync or the
        experts' routes need."""

    @abc.abstractmethod
    def unload(self, label: str) -> None:
        """Drops an adapter."""


def array(values: Any, dtype: Any) -> np.ndarray:
    """A flat array of a list out of JSON; raises TypeError or ValueError where it is none."""
    if not isinstance(values, list):
        raise TypeError(f"{type(values).__name__} instead of a list")
    return np.array(values, dtype).reshape(-1)
