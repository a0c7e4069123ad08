"""For runs that need no download: data made on the spot, and a small random model with a tokenizer of its
own."""
import contextlib
import itertools
import json
import pathlib
import shutil
from collections.abc import Iterable, Iterator

import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.config import Config
from jaxrl_moe.data.prompts import prompt_messages, rows_of
from jaxrl_moe.data.rows import read_files
from jaxrl_moe.data.sft import row_messages
from jaxrl_moe.data.tokenizer import import_transformers
from jaxrl_moe.log_files import only_process
from jaxrl_moe.model.families.registry import from_scratch
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.protocols import Bridge
from jaxrl_moe.runs.generated import write_data

PAD = "<|endoftext|>"
START = "<|im_start|>"
END = "<|im_end|>"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def ensure_data(config: Config) -> None:
    """Makes the data that data.generate asks for, in each folder that is not there; whole or not at all."""
    for made, folder in config.data.generated.values():
        with made_once(folder) as partial:
            if partial:
                write_data(made, partial, config.seed)


def to_be_made(config: Config) -> bool:
    """Whether model and tokenizer are still to be made: the scratch section asks for them, and no folder is
    there."""
    return config.scratch.vocab_size > 0 and not pathlib.Path(config.model.path).exists()


def ensure_model(config: Config, bridge: Bridge, *, conversations: bool) -> None:
    """Makes the model at model.path if it is to be made; whole or not at all, and once, whoever else starts
    with it.

    Args:
      config: whose model, data and sizes.
      bridge: writes it.
      conversations: whether its tokenizer is also trained on those of SFT.
    """
    if config.scratch.vocab_size:
        with made_once(pathlib.Path(config.model.path)) as partial:
            if partial:
                _make_model(partial, config, bridge, conversations)


def _make_model(partial: pathlib.Path, config: Config, bridge: Bridge, conversations: bool) -> None:
    tokenizer = train_tokenizer(texts(config, conversations), config.scratch.vocab_size)
    shape = from_scratch(config.scratch, len(tokenizer))
    model = Transformer(shape, rngs=nnx.Rngs(config.seed), dtype=jnp.float32)
    bridge.export_model(model, partial)
    tokenizer.save_pretrained(partial)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    (partial / "generation_config.json").write_text(json.dumps(ends) + "\n")


@contextlib.contextmanager
def made_once(folder: pathlib.Path) -> Iterator[pathlib.Path | None]:
    """A name beside the folder to make it under, which is then renamed; None where it is there. Where another
    process makes it, that is waited for; what a killed one left is removed."""
    partial = folder.with_name(f".{folder.name}.new")
    lock = folder.with_name(f".{folder.name}.lock")
    if folder.exists() and not partial.exists() and not lock.exists():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_process(lock):
        shutil.rmtree(partial, ignore_errors=True)  # its maker, who held the lock, is no more
        if folder.exists():
            yield None
            return
        try:
            yield partial
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def texts(config: Config, conversations: bool) -> Iterable[str]:
    """What the tokenizer is trained on: the messages of the SFT data if they are used, and the RL prompts."""
    if conversations:
        for row in itertools.chain.from_iterable(read_files(config.sft.conversation_files).values()):
            yield from (message["content"] for message in row_messages(row)[0])
    if config.data.source:
        for row in itertools.chain.from_iterable(rows_of(config.data).values()):
            yield from (message["content"]
                        for message in prompt_messages(row, config.data.system_prompt,
                                                       config.data.suffix).messages)
    yield "user\nassistant\nsystem\n"


def train_tokenizer(corpus: Iterable[str], vocab_size: int):
    """A byte-level BPE tokenizer with a ChatML template, as a transformers tokenizer."""
    import tokenizers
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, START, END], show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    bpe.train_from_iterator(corpus, trainer)
    tokenizer = import_transformers().PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False)
    tokenizer.chat_template = CHATML
    return tokenizer
