"""Sections that say what a run starts from: the model, its adapters, the data and the task."""
import dataclasses
import pathlib
from fractions import Fraction

from jaxrl_moe.config.named import NamedError, named_values, shares
from jaxrl_moe.config.setting import setting

_GENERATED = {
    "": "none", "word_problems": "grade-school word problems, of seed",
    "textcraft": "goals of TextCraft's small recipes, of seed, and how a planner makes them",
    "textcraft_terse": "its goals of one kind of craft, with answers that are the command alone",
    "babyai": "missions of BabyAI, of seed, and how a bot fulfils them",
    "babyai_terse": "the same, with answers that are the command alone",
    "sciworld": "short tasks of ScienceWorld, of seed, and the game's own paths; needs Java",
    "sciworld_terse": "its tasks of life spans, with answers that are the command alone; needs Java",
    "alfworld": "rooms of our own in ALFWorld's rules, of seed, and how an expert plays them (make alfworld)",
    "alfworld_terse": "small ones that are won in eight turns, with answers that are the command alone",
    "webshop": "goals of our own small shop, of seed, and how an oracle buys what they ask for",
    "webshop_terse": "the same, with answers that are the command alone",
    "kernel_choices": "kernels that are a few choices, and the attempts of pupils, of seed"}
_DTYPES = {"": "float32 on CPU, bfloat16 elsewhere", "float32": "", "bfloat16": ""}


@dataclasses.dataclass(frozen=True)
class ModelSection:
    """The model that is trained, and the kernels that compute it."""
    path: str = setting("", "HF checkpoint folder or hub name", kind="path")
    dtype: str = setting("", "of the weights that are computed with", choices=_DTYPES)
    attention: str = setting("auto", "how attention is computed, see kernels/attention.py",
                             choices={"auto": "what suits the device"}, table="kernels.attention.BACKENDS")
    grouped_matmul: str = setting(
        "auto", "how the experts' products are computed, see kernels/grouped_matmul.py",
        choices={"auto": "what suits the device"}, table="kernels.grouped_matmul.BACKENDS")


@dataclasses.dataclass(frozen=True)
class ScratchSection:
    """A random model with its own tokenizer, made where model.path is no folder yet; vocab_size 0: none."""
    vocab_size: int = setting(
        0, "size of a byte-level BPE tokenizer trained on the run's own data; 0: no model is made",
        at_least=0, unit="tokens")
    hidden_size: int = setting(128, "width of the residual stream", at_least=1)
    num_layers: int = setting(4, "transformer layers", at_least=1)
    num_heads: int = setting(4, "query heads", at_least=1)
    num_kv_heads: int = setting(2, "key and value heads, a divisor of num_heads", at_least=1)
    head_dim: int = setting(32, "width of a head", at_least=2)
    num_experts: int = setting(8, "experts in each layer; 0: a dense model", at_least=0)
    num_experts_per_tok: int = setting(2, "experts that a token is routed to", at_least=1)
    router_bias: bool = setting(False, "routers get a selection bias, which moe.bias_rate moves")
    intermediate_size: int = setting(128, "hidden width of an expert, or of a dense layer's MLP", at_least=1)
    context: int = setting(1024, "longest sequence", at_least=2, unit="tokens")
    initializer_range: float = setting(0.02, "standard deviation of the random weights", above=0)


@dataclasses.dataclass(frozen=True)
class LoraSection:
    """Adapters of low rank, which are trained in place of the weights."""
    rank: int = setting(16, "of the adapters; 0: full fine-tuning", at_least=0)
    alpha: float = setting(32.0, "scale of the adapters: their product is weighed by alpha / rank", above=0)
    rslora: bool = setting(False, "scale alpha / sqrt(rank) instead of alpha / rank")
    dropout: float = setting(0.0, "share of the adapters' inputs that is zeroed while training",
                             at_least=0, at_most=0.99)
    targets: tuple[str, ...] = setting(
        ("all-linear",), '"all-linear" (attention, MLPs and experts), names such as q_proj,v_proj, or '
        "regular expressions on paths", kind="text")


@dataclasses.dataclass(frozen=True)
class DataSection:
    """The prompts of RL, and those held out for evaluations."""
    path: str = setting("", "prompts: a jsonl, json or parquet file, or a hub data set such as openai/gsm8k",
                        kind="path")
    files: str = setting(
        "", "in place of path: several such files, each under a name that its rows get as their column env, "
        "such as textcraft=a.jsonl,babyai=b.jsonl", kind="files")
    weights: str = setting(
        "", "how often each of the files is drawn from, in their order or by name, such as 2,1 or "
        "textcraft=2,babyai=1; empty: all alike", kind="text")
    split: str = setting("train", "of a hub data set", kind="text")
    seeds: str = setting(
        "", "in place of path: the numbers of the instances that the task makes by itself, such as 0-999 or "
        '3,5,8-12; each is a row with the prompt "Task N." and N as its `seed`', kind="text")
    eval_path: str = setting("", "held-out prompts, in the same forms", kind="path")
    eval_files: str = setting("", "in place of eval_path: several, as files names them", kind="files")
    eval_split: str = setting("test", "of a hub data set of held-out prompts", kind="text")
    eval_seeds: str = setting("", "in place of eval_path: held-out instances, as seeds names them",
                              kind="text")
    system_prompt: str = setting("", "put before a bare string prompt; messages are taken as they are",
                                 kind="text")
    suffix: str = setting("", "appended to a bare string prompt; messages are taken as they are", kind="text")
    generate: str = setting(
        "", "data made on the spot in the folder of data.path, if it is absent; by name, as in "
        "textcraft=textcraft_terse, in the folder of that one of data.files", choices=_GENERATED,
        by_name=True)
    max_prompt_tokens: int = setting(512, "longest prompt; longer ones are left out, and counted",
                                     at_least=1, unit="tokens")
    shuffle: bool = setting(True, "draw the prompts of each epoch in a random order, of seed")

    @property
    def source(self) -> str:
        """What the prompts of RL come from, for messages; empty: nothing."""
        return self.files or self.path or f"seeds {self.seeds}" * bool(self.seeds)

    @property
    def eval_source(self) -> str:
        """What the held-out prompts come from, for messages; empty: nothing."""
        return self.eval_files or self.eval_path or f"seeds {self.eval_seeds}" * bool(self.eval_seeds)

    @property
    def field(self) -> str:
        """The setting that says what the prompts of RL are."""
        return "data.files" if self.files else "data.seeds" if self.seeds else "data.path"

    @property
    def eval_field(self) -> str:
        """The setting that says what the held-out prompts are."""
        return "data.eval_files" if self.eval_files else "data.eval_seeds" if self.eval_seeds else (
            "data.eval_path")

    @property
    def prompt_files(self) -> dict[str, str]:
        """{name: path} of the prompts of RL; the name of path alone is empty."""
        return files_of(self.files, self.path)

    @property
    def held_out_files(self) -> dict[str, str]:
        """The same of the held-out prompts."""
        return files_of(self.eval_files, self.eval_path)

    @property
    def shares(self) -> dict[str, Fraction]:
        """{name of files: its weight}; none where there are no several. Raises NamedError, see
        config.named.shares."""
        return shares(self.weights, named_values(self.files)) if self.files else {}

    @property
    def generated(self) -> dict[str, tuple[str, pathlib.Path]]:
        """{name of the file of prompts: (what is made, its folder)}; raises NamedError for a name that is
        none of data.files."""
        if not self.generate or not self.source:
            return {}
        chosen = named_values(self.generate) if "=" in self.generate else {"": self.generate}
        files = self.prompt_files
        for name in chosen:
            if name not in files:
                raise NamedError(f"has {f'the name {name!r}' if name else 'no name'}, and the prompts are "
                                 f"those of {self.field} = {self.source!r}",
                                 "give data.files one by name, as in textcraft=textcraft_terse, and "
                                 "data.path one without")
        return {name: (made, pathlib.Path(files[name]).parent) for name, made in chosen.items()}


def files_of(files: str, path: str) -> dict[str, str]:
    """{name: path} of a setting that names files, or of one path, whose name is empty."""
    return named_values(files) or ({"": path} if path else {})


@dataclasses.dataclass(frozen=True)
class EnvSection:
    """The task that the policy works on, and that grades it."""
    name: str = setting(
        "", "a task with its own settings in brackets, such as gsm8k(binary=true), or package.module:Name",
        table="envs.TASKS", brackets=True)
