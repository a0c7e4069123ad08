"""What the pool asks of a server, whichever engine runs it: tokens in and out, weights in."""
import abc
import contextlib
import dataclasses
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bridges.engines.buckets import Bucket, Delivery, write_bucket
from bridges.engines.group import Group
from bridges.engines.http import EngineError, Http, Refused, Unavailable
from bridges.streaming import TensorSet
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.types import SamplingParams

LARGEST = 1e-3  # a log-prob above 0 by more than this is no rounding
LOADING_SECONDS = 600.0  # until a server must have taken new weights, or a bucket of them
UNFINISHED = "unfinished-"  # begins the label of a server whose weights are being replaced


@dataclasses.dataclass(frozen=True)
class Sample:
    """One completion as a server gave it.

    Attributes:
      ids, logprobs: [T].
      finish_reason: "stop" or "length"; "abort" where new weights cut it short, perhaps before its first token.
      versions: labels of the weights, an adapter's own where it drew: (label, first token, one past the last).
      expert_ids: [prompt + T - 1, L, A], sparse layers alone, or None.
    """
    ids: np.ndarray
    logprobs: np.ndarray
    finish_reason: str
    versions: tuple[tuple[str, int, int], ...]
    expert_ids: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """A version of the policy, as servers get it.

    Attributes:
      label: unique; what servers call this version.
      version: the policy version.
      folder: a PEFT folder if `adapter`; with `walk` the place for buckets; else a whole Hugging Face checkpoint.
      bytes: in it.
      walk: if the weights are streamed: from what all readers hold already ({set: digest} each) to the version's sets.
      changed_only: a server that holds an earlier version gets what differs from it.
      distributed: buckets are broadcast, not left in `folder`.
      bucket_bytes: of a bucket.
    """
    label: str
    version: int
    folder: str
    adapter: bool
    bytes: int = 0
    walk: Callable[[Sequence[Mapping[str, bytes]]], Iterator[TensorSet]] | None = None
    changed_only: bool = False
    distributed: bool = False
    bucket_bytes: int = 0


class Server(abc.ABC):
    """One server of SGLang or vLLM.

    Args:
      http: the way to it.
      config: of the policy; ids outside its vocabulary are never sent, as they kill some servers.
      in_flight: what becomes of requests when all weights are replaced: "resume" on the new ones, or "abort".

    Attributes:
      held: (label, {set's name: digest}) of streamed weights that it has, as far as is known.
      taken: bytes that it was given by the last load.
    """
    kind: str

    def __init__(self, http: Http, config: ModelConfig, in_flight: str = "resume"):
        self.http, self.url, self.config, self.vocab_size, self.in_flight = http, http.url, config, config.vocab_size, in_flight
        self.held: tuple[str, Mapping[str, bytes]] = "", {}
        self.taken, self._group = 0, None

    def is_up(self) -> bool:
        return self.http.is_up()

    def draw(self, ids: Sequence[int], params: SamplingParams, *, weights: Weights | None, seed: int,
             stop_ids: Sequence[int], timeout: float | None = None, versions: Mapping[str, int] | None = None) -> list[Sample]:
        """params.n completions of the prompt `ids`.

        Args:
          weights: what they must be drawn from; None: whatever the server has.
          versions: {label: policy version} of all weights there were; tokens may come from later ones of them too, which replaced
            `weights` meanwhile.
          seed: of the server's sampler.
          stop_ids: token ids that end a completion.
          timeout: seconds until the answer must be there; None: the usual ones.

        Raises:
          Refused: the request cannot be met.
          Unavailable: the server failed, answered garbage or has other weights.
        """
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            raise EngineError(f"A prompt has token ids from {min(ids)} to {max(ids)}, but the vocabulary holds 0 to {self.vocab_size - 1}.")
        try:
            samples = self._draw([int(token) for token in ids], params, weights, seed, [int(token) for token in stop_ids], timeout)
        except Refused as error:
            if weights and weights.adapter and weights.label in str(error):
                raise Unavailable(f"{self.url} has lost the adapter {weights.label}; was it started anew?") from error
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(f"{self.url} answered in an unknown shape ({type(error).__name__}: {error})") from error
        if weights and weights.adapter:  # what the server labels are the weights below it
            samples = [dataclasses.replace(sample, versions=((weights.label, 0, len(sample.ids)),)) for sample in samples]
        later = {label for label, version in (versions or {}).items() if weights and version >= weights.version}
        self._check(samples, params, weights and later | {weights.label}, len(ids))
        return samples

    def _check(self, samples, params, labels, prompt):
        """Raises Unavailable for what no sound server answers."""
        wrong = [problem for sample in samples for problem in self._problems(sample, params, labels, prompt)]
        if len(samples) != params.n:
            wrong.append(f"{len(samples)} completions instead of {params.n}")
        if wrong:
            raise Unavailable(f"{self.url} answered {wrong[0]}")

    def _problems(self, sample, params, labels, prompt):
        aborted = sample.finish_reason == "abort" and self.in_flight == "abort"
        if aborted and not len(sample.ids):
            return
        if not 0 < len(sample.ids) <= params.max_tokens or len(sample.ids) != len(sample.logprobs):
            yield f"{len(sample.ids)} tokens with {len(sample.logprobs)} log-probs, where 1 to {params.max_tokens} are possible"
        elif sample.ids.min() < 0 or sample.ids.max() >= self.vocab_size:
            yield f"token ids from {sample.ids.min()} to {sample.ids.max()} for a vocabulary of {self.vocab_size}"
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
            yield f"{len(sample.ids)} tokens with the weights' labels {sample.versions}, which do not cover each once"

    def load(self, weights: Weights, sets: Iterable[TensorSet] | None = None) -> None:
        """Brings the server to these weights: an adapter is loaded under its label; else all weights are replaced, or those that
        differ, while requests are paused, and the prefix cache is dropped.

        From the first byte to the last the server's label is one that nobody takes tokens of: what it draws from a mixture of
        versions, should the sync end half-way, is never trained on.

        Args:
          sets: where the sets of streamed weights are read from; None: from a walk of the server's own.

        Raises:
          Refused: the server rejects them.
          Unavailable: it failed; it must get all weights then.
        """
        if weights.adapter:
            self._load_adapter(weights)
            self.taken = weights.bytes
            return
        held = self._still_held() if weights.changed_only else {}
        self.held = "", {}
        with self._paused():
            self._label(UNFINISHED + uuid.uuid4().hex[:8])
            if weights.walk is None:
                self._replace([pathlib.Path(weights.folder)])
                self.taken = weights.bytes
            else:
                delivery = Delivery(iter(weights.walk([held]) if sets is None else sets), held, weights.bucket_bytes)
                self._take(delivery, weights)
                self.held, self.taken = (weights.label, delivery.digests), delivery.bytes
            self._drop_cache()
            self._label(weights.label)

    def _still_held(self) -> Mapping[str, bytes]:
        """Digests of what the server has; none where it was started anew or got something else meanwhile."""
        label, digests = self.held
        return digests if digests and self.label() == label else {}

    def _take(self, delivery, weights):
        if not weights.distributed:
            return self._replace(_left_in(pathlib.Path(weights.folder), delivery))
        try:
            self._group = self._group or Group.open(self.url, self.workers(), self._join)
            self._receive(delivery, self._group)
        except BaseException:
            if self._group:
                self._group.close()
            self._group = None
            raise

    @contextlib.contextmanager
    def _paused(self):
        """Requests wait, or are aborted, until the block ends; a server that cannot be asked to go on is not waited for."""
        self._pause()
        try:
            yield
        except BaseException:
            with contextlib.suppress(EngineError, Unavailable):
                self._resume()
            raise
        self._resume()

    @abc.abstractmethod
    def _draw(self, ids, params, weights, seed, stop_ids, timeout) -> list[Sample]: ...

    @abc.abstractmethod
    def context(self) -> int:
        """Most tokens of a prompt with its completion."""

    @abc.abstractmethod
    def check(self, adapter: bool, routes: bool = False) -> None:
        """Raises EngineError, with the mend, where the server lacks what drawing, this kind of sync or the experts' routes need."""

    @abc.abstractmethod
    def label(self) -> str:
        """What the server calls the weights that it has."""

    @abc.abstractmethod
    def workers(self) -> int:
        """Processes that hold the model."""

    @abc.abstractmethod
    def _label(self, label: str) -> None: ...

    @abc.abstractmethod
    def _pause(self) -> None: ...

    @abc.abstractmethod
    def _resume(self) -> None: ...

    @abc.abstractmethod
    def _drop_cache(self) -> None:
        """Forgets what older weights computed of prompts and of paused requests."""

    @abc.abstractmethod
    def _load_adapter(self, weights: Weights) -> None: ...

    @abc.abstractmethod
    def _replace(self, folders: Iterable[pathlib.Path]) -> None:
        """Loads folders of safetensors, one after the other; each may hold a part of the tensors, and is gone after its turn."""

    @abc.abstractmethod
    def _join(self, group: Group) -> None:
        """Has the server's workers join the group; returns when they have."""

    @abc.abstractmethod
    def _receive(self, buckets: Iterable[Bucket], group: Group) -> None:
        """Broadcasts the buckets to the server, which loads each."""

    @abc.abstractmethod
    def unload(self, label: str) -> None:
        """Drops an adapter."""


def array(values: Any, dtype) -> np.ndarray:
    """A flat array of a list out of JSON; raises TypeError or ValueError where it is none."""
    if not isinstance(values, list):
        raise TypeError(f"{type(values).__name__} instead of a list")
    return np.array(values, dtype).reshape(-1)


def _left_in(folder: pathlib.Path, buckets: Iterable[Bucket]) -> Iterator[pathlib.Path]:
    """Folders with a bucket each; one is removed when the next is asked for."""
    for bucket in buckets:
        place = write_bucket(folder / uuid.uuid4().hex[:12], bucket)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
