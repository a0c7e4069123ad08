"""What a family of models tells the rest of the house."""
import abc
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from jaxrl_moe.config import ScratchSection
from jaxrl_moe.distributed.parameters import ParameterRow
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.families.rows import TensorRow
from jaxrl_moe.outside import Fields

if TYPE_CHECKING:
    from jaxrl_moe.model.layer import LayerKind
    from jaxrl_moe.model.scoring import Scoring


class Cost(NamedTuple):
    """FLOPs of a forward and backward pass: of a token through the matrices of all layers, of a log-prob
    through the output matrix, and of a query that sees a key in one layer."""
    token: float
    read: float
    pair: float


class CountedArray(NamedTuple):
    """An array as its cost is counted: path, shape, and the FLOPs for each number that a token meets."""
    path: str
    shape: tuple[int, ...]
    flops: int


class Kept(NamedTuple):
    """How many numbers of a token the backward pass keeps at least, in all layers together: of the mixers
    (what enters and leaves them), and of the MLPs (their hidden products). Both are split over the tensor
    axis."""
    mixers: int
    mlps: int


class Family(abc.ABC):
    """All that depends on which kind of model it is. One object serves all models of the family; it holds no
    state.

    Attributes:
      name: of ModelConfig.family, and model_type of its config.json.
      title: what people call it; architectures: what config.json does.
      parameters: a row for every parameter that a model of the family can have (distributed.parameters).
      spellings: tables of the weight map. The first has experts one by one, as adapters and servers do; a
        checkpoint is read in that which its tensors show. Each needs a row for "embed.weight".
      joins_dense_names: whether PEFT takes the MLP's names in such a model to mean experts alone, so that
        dense MLPs beside them must be named as parameters.
    """
    name: ClassVar[str]
    title: ClassVar[str]
    architectures: ClassVar[tuple[str, ...]]
    parameters: ClassVar[tuple[ParameterRow, ...]]
    spellings: ClassVar[tuple[tuple[TensorRow, ...], ...]]
    joins_dense_names: ClassVar[bool] = False

    @abc.abstractmethod
    def from_hf(self, fields: Fields) -> ModelConfig:
        """Reads config.json; raises OutsideError, such as ModelConfigError, on whatever could not be
        honoured."""

    @abc.abstractmethod
    def to_hf(self, config: ModelConfig) -> dict[str, Any]:
        """A config.json that transformers reads as this model; from_hf gives it back."""

    @abc.abstractmethod
    def kinds(self, config: ModelConfig) -> tuple["LayerKind", ...]:
        """What each layer is."""

    @abc.abstractmethod
    def scoring(self, config: ModelConfig) -> "Scoring":
        """How its routers choose; asked only of a model with sparse layers."""

    @abc.abstractmethod
    def cache(self) -> type:
        """Its cache: PagedCache, or another as described there."""

    @abc.abstractmethod
    def splits(self, config: ModelConfig) -> dict[str, dict[str, int]]:
        """{mesh axis: {what it splits, as users know it: how many there are}}; the axis's size must divide
        each."""

    @abc.abstractmethod
    def cost(self, config: ModelConfig, weights: Iterable[CountedArray]) -> Cost:
        """FLOPs, given the arrays that a model has."""

    @abc.abstractmethod
    def kept(self, config: ModelConfig) -> Kept:
        """What training keeps of a token in memory."""

    @abc.abstractmethod
    def from_scratch(self, section: ScratchSection, vocab_size: int) -> ModelConfig | None:
        """A model of these sizes; None where the family makes none such."""
