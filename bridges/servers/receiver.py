"""How a server comes to new weights, whichever engine runs it: paused, labelled as unfinished, given what it
lacks, labelled, resumed."""
import abc
import contextlib
import dataclasses
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from bridges.hf.streaming import TensorSet
from bridges.servers.buckets import Bucket, Delivery, write_bucket
from bridges.servers.group import BroadcastGroup
from bridges.servers.http import EngineError, Unavailable

LOADING_SECONDS = 600.0  # until a server must have taken new weights, or a bucket of them
UNFINISHED = "unfinished-"  # begins the label of a server whose weights are being replaced


@dataclasses.dataclass(frozen=True)
class Weights:
    """A version of the policy, as servers get it.

    Attributes:
      label: unique; what servers call this version.
      version: the policy version.
      folder: a PEFT folder if `adapter`; with `walk` the place for buckets; else a whole Hugging Face
        checkpoint.
      bytes: in it.
      walk: if the weights are streamed: from what all readers hold already ({set: digest} each) to the
        version's sets.
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


class Receiver(abc.ABC):
    """The side of a server that takes weights.

    Attributes:
      held: (label, {set's name: digest}) of streamed weights that it has, as far as is known.
      taken: bytes that it was given by the last load.
    """

    def __init__(self, url: str):
        self.url = url
        self.taken = 0
        self._group = None
        self.held: tuple[str, Mapping[str, bytes]] = "", {}

    def load(self, weights: Weights, sets: Iterable[TensorSet] | None = None) -> None:
        """Brings the server to these weights: an adapter is loaded under its label; else all weights are
        replaced, or those that differ, while requests are paused, and the prefix cache is dropped.

        From the first byte to the last the server's label is one that nobody takes tokens of: what it draws
        from a mixture of versions, should the sync end half-way, is never trained on.

        Args:
          sets: where the sets of streamed weights are read from; None: from a walk of the server's own.

        Raises:
          Refused: the server rejects them.
          Unavailable: it failed, or answered what makes no sense; it must get all weights then.
        """
        if weights.adapter:
            self._load_adapter(weights)
            self.taken = weights.bytes
            return
        try:
            self._load_all(weights, sets)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(f"{self.url} answered new weights in an unknown shape ({type(error).__name__}: "
                              f"{error})") from error

    def _load_all(self, weights: Weights, sets: Iterable[TensorSet] | None):
        held = self._still_held() if weights.changed_only else {}
        self.held = "", {}
        with self._paused():
            self._label(UNFINISHED + uuid.uuid4().hex[:8])
            if weights.walk is None:
                self._replace([pathlib.Path(weights.folder)])
                self.taken = weights.bytes
            else:
                delivery = Delivery(iter(weights.walk([held]) if sets is None else sets), held,
                                    weights.bucket_bytes)
                self._take(delivery, weights)
                self.held = (weights.label, delivery.digests)
                self.taken = delivery.bytes
            self._drop_cache()
            self._label(weights.label)

    def _still_held(self) -> Mapping[str, bytes]:
        """Digests of what the server has; none where it was started anew or got something else meanwhile."""
        label, digests = self.held
        return digests if digests and self.label() == label else {}

    def _take(self, delivery: Delivery, weights: Weights):
        if not weights.distributed:
            return self._replace(_left_in(pathlib.Path(weights.folder), delivery))
        try:
            self._group = self._group or BroadcastGroup.open(self.url, self.workers(), self._join)
            self._receive(delivery, self._group)
        except BaseException:
            self._leave_group()
            raise

    def _leave_group(self):
        if self._group:
            self._group.close()
        self._group = None

    @contextlib.contextmanager
    def _paused(self):
        """Requests wait, or are aborted, until the block ends; a server that cannot be asked to go on is not
        waited for."""
        self._pause()
        try:
            yield
        except BaseException:
            with contextlib.suppress(EngineError, Unavailable):
                self._resume()
            raise
        self._resume()

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
        """Loads folders of safetensors, one after the other; each may hold a part of the tensors, and is gone
        after its turn."""

    @abc.abstractmethod
    def _join(self, group: BroadcastGroup) -> None:
        """Has the server's workers join the group; returns when they have."""

    @abc.abstractmethod
    def _receive(self, buckets: Iterable[Bucket], group: BroadcastGroup) -> None:
        """Broadcasts the buckets to the server, which loads each."""


def _left_in(folder: pathlib.Path, buckets: Iterable[Bucket]) -> Iterator[pathlib.Path]:
    """Folders with a bucket each; one is removed when the next is asked for."""
    for bucket in buckets:
        left = write_bucket(folder / uuid.uuid4().hex[:12], bucket)
        try:
            yield left
        finally:
            shutil.rmtree(left, ignore_errors=True)
