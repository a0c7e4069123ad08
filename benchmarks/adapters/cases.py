"""The adapters that others are to read: of several targets, ranks and scales, on two tiny models, one with
experts."""
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

import bridges
from benchmarks.adapters.words import in_one_line
from bridges.compare.score import logprobs
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer
from tests.helpers.parity import randomise_adapters
from tests.helpers.tiny_models import make_checkpoint

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MOE = "qwen3_moe"
DENSE = "qwen3"
# Sizes that the CPU kernels of vLLM and SGLang take.
SIZES = {MOE: {"moe_intermediate_size": 32}, DENSE: {"intermediate_size": 64}}
SHARED = {"num_hidden_layers": 2, "hidden_size": 64, "head_dim": 32, "max_position_embeddings": 128}
# of the sequences that are scored
ROWS = 4
LENGTH = 24
STD = 0.1  # of the values of A and B


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of adapter. group: what a server must be able to do for it; attention, experts or dense."""
    name: str
    group: str
    lora: LoraConfig

    @property
    def family(self) -> str:
        return DENSE if self.group == "dense" else MOE


CASES = (
    Case("attention", "attention", LoraConfig(8, 16.0, targets=ATTENTION)),
    Case("attention, rank 1", "attention", LoraConfig(1, 2.0, targets=ATTENTION)),
    Case("attention, rslora", "attention", LoraConfig(8, 16.0, rslora=True, targets=ATTENTION)),
    Case(r"regular expression `attention\.[qv]_proj`", "attention",
         LoraConfig(8, 16.0, targets=(r"attention\.[qv]_proj",))),
    Case("all-linear, experts too", "experts", LoraConfig(8, 16.0)),
    Case("all-linear, experts too, rank 1", "experts", LoraConfig(1, 2.0)),
    Case("all-linear, experts too, rslora", "experts", LoraConfig(8, 16.0, rslora=True)),
    Case(r"regular expression `mlp\..+_proj`", "experts", LoraConfig(8, 16.0, targets=(r"mlp\..+_proj",))),
    Case("experts' gate_proj and up_proj, no down_proj", "experts",
         LoraConfig(8, 16.0, targets=("gate_proj", "up_proj"))),
    Case("experts' gate_proj, no up_proj", "experts", LoraConfig(8, 16.0, targets=("q_proj", "gate_proj"))),
    Case("dense model, all-linear", "dense", LoraConfig(8, 16.0)),
    Case("dense model, all-linear, rslora", "dense", LoraConfig(8, 16.0, rslora=True)),
)
# Groups that each reader must read, and on a CPU draw from: see scripts/engines and tests/engines.
EXPECTED = {"peft": ("attention", "experts", "dense"), "vllm": ("attention", "dense"),
            "sglang": ("attention",)}


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A case's model and the folder that was exported of it.

    Attributes:
      base: folder of the base model.
      folder: of the adapter; None where our export refuses it, in the words of `refusal`.
      moves: largest difference that the adapter makes to a log-prob, in nats.
    """
    case: Case
    base: pathlib.Path
    model: Transformer
    folder: pathlib.Path | None
    refusal: str = ""
    moves: float = 0.0


def make(cases: Sequence[Case], folder: pathlib.Path) -> list[Adapter]:
    """Makes the base models in the folder, and exports an adapter of each case there."""
    for family in {case.family for case in cases}:
        make_checkpoint(folder / family, family=family, **SHARED, **SIZES[family])
    return [export(case, folder, number) for number, case in enumerate(cases)]


def export(case: Case, folder: pathlib.Path, number: int) -> Adapter:
    """The adapter of a case, with random values."""
    base = folder / case.family
    model = bridges.load_model(base, lora=case.lora)
    without = logprobs(model, sequences(model))  # B is 0: the base model
    randomise_adapters(model, std=STD * max(1.0, 2.0 / case.lora.scale), seed=number)
    try:
        path = bridges.export_adapter(model, folder / f"adapter_{number}", base=base)
    except bridges.BridgeError as error:
        return Adapter(case, base, model, None, refusal=in_one_line(error))
    return Adapter(case, base, model, path, moves=largest(logprobs(model, sequences(model)), without))


def sequences(model: Transformer) -> list[np.ndarray]:
    """Random ids of the model's vocabulary."""
    return list(np.random.default_rng(0).integers(0, model.config.vocab_size, (ROWS, LENGTH), np.int32))


def largest(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The largest difference of rows of log-probs, in nats; infinite where one is not a number.

    Raises:
      ValueError: they have not the same lengths.
    """
    differences = [np.abs(one.astype(np.float64) - other) for one, other in zip(ours, theirs, strict=True)]
    return float(np.nan_to_num(np.concatenate(differences), nan=np.inf).max())
