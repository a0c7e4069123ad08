"""The tokenizer: a Hugging Face tokenizer behind the few calls that the loop needs."""
import functools
import logging
import pathlib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.data import tokenizer_files
from jaxrl_moe.data.chat.literals import Literals
from jaxrl_moe.data.chat.reach import Message
from jaxrl_moe.data.chat.template import ChatTemplate, TokenizerError
from jaxrl_moe.data.encoder import Encoder
from jaxrl_moe.data.tokenizer_files import EOS, DeclaredIds
from jaxrl_moe.foreign_errors import first_sentence
from jaxrl_moe.outside import OutsideError

__all__ = ["Message", "Tokenizer", "TokenizerError", "import_transformers", "load_tokenizer"]

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


class Tokenizer:
    """Text to ids and back, under the model's own chat template.

    Attributes:
      hf: the transformers tokenizer.
      path: where it was read from, for messages.
      eos_ids: ids that end a completion: the tokenizer's end token, and those that generation_config.json and
        config.json name.
      declared: the ids of special tokens that these two files name.
    """

    def __init__(self, hf: Any, path: str, declared: DeclaredIds = types.MappingProxyType({})) -> None:
        ends = [] if hf.eos_token_id is None else [hf.eos_token_id]
        for (_, key), ids in declared.items():
            ends += ids if key == EOS else ()
        self.hf = hf
        self.path = path
        self.eos_ids = tuple(dict.fromkeys(ends))
        self.declared = declared
        if not self.eos_ids:
            raise TokenizerError(f"The tokenizer in {path!r} names no end token, so no completion could ever "
                                 "end. Set eos_token in tokenizer_config.json or eos_token_id in "
                                 "generation_config.json.")

    def check_vocabulary(self, size: int) -> None:
        """Refuses ids that a model with a vocabulary of `size` has no embedding for.

        Raises:
          TokenizerError: naming the token, or the file and field, and its id.
        """
        last, number = max(self.hf.get_vocab().items(), key=lambda token: token[1])
        named = {f"the token {last!r}": (number,)}
        named |= {f"{key} in {file}": ids for (file, key), ids in self.declared.items()}
        for name, ids in named.items():
            if max(ids) >= size:
                raise TokenizerError(f"The tokenizer in {self.path!r} does not fit the model: {name} has the "
                                     f"id {max(ids)}, and the model's vocabulary holds 0 to {size - 1} "
                                     "(vocab_size in its config.json). Use the tokenizer that belongs to the "
                                     "model, or a model whose embedding was enlarged for it.")

    def encode(self, text: str) -> np.ndarray:
        """Returns the [T] int32 ids of `text`; nothing (such as a start token) is added.

        Raises:
          TokenizerError: it is no Unicode text, but holds half of a surrogate pair, as JSON can.
        """
        return self._encoder.encode(text)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Returns the text of the ids; special tokens are left out unless asked for."""
        return self.hf.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens,
                              clean_up_tokenization_spaces=False)

    def check_stop_strings(self, strings: Sequence[str], name: str = "rollout.stop_strings") -> None:
        """Refuses stop strings that no completion's text can hold, because it has no special tokens. `name`
        says whose they are.

        Raises:
          TokenizerError: naming the string, the token and its id.
        """
        special = {str(token): i for i, token in self.hf.added_tokens_decoder.items() if token.special}
        for string in strings:
            for token in (token for token in special if token in string):
                fix = "it ends completions anyway, so leave it out" if special[token] in self.eos_ids else (
                    f"add its id to eos_token_id in generation_config.json of {self.path!r} instead")
                raise TokenizerError(f"{name} holds {string!r}, which would never match: {token!r} is a "
                                     f"special token (id {special[token]}), and the text of a completion has "
                                     f"none. To stop at it, {fix}.")

    def render_text(self, messages: Sequence[Message], *, generation_prompt: bool = True,
                    tools: Sequence[Mapping[str, Any]] = (), variables: Mapping[str, Any] | None = None,
                    continue_final: bool = False) -> str:
        """Returns the messages as one string under the chat template, for people to read.

        Args:
          generation_prompt: whether an assistant's turn is begun at the end.
          tools: descriptions of functions, {"type": "function", "function": {"name", "description",
            "parameters"}}.
          variables: of the template's own, such as enable_thinking.
          continue_final: leaves the last message, which is an assistant's, open at its end; there is no
            generation prompt then.

        Raises:
          TokenizerError: there is no chat template, it refuses these messages, it reads no tools or not
            these variables, or there is nothing to continue.
        """
        return self.literals.show(
            self.template.render(messages, generation_prompt=generation_prompt, tools=tools,
                                 variables=variables, continue_final=continue_final))

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = True,
               tools: Sequence[Mapping[str, Any]] = (), variables: Mapping[str, Any] | None = None,
               continue_final: bool = False) -> np.ndarray:
        """Returns the [T] int32 ids of the messages under the chat template; see render_hidden."""
        return self.encode_hidden(
            self.render_hidden(messages, generation_prompt=generation_prompt, tools=tools,
                               variables=variables, continue_final=continue_final))

    def render_hidden(self, messages: Sequence[Message], *, generation_prompt: bool = True,
                      tools: Sequence[Mapping[str, Any]] = (), variables: Mapping[str, Any] | None = None,
                      continue_final: bool = False) -> str:
        """Returns what encode_hidden encodes. Control tokens are those that the template writes: what
        messages spell like one is encoded as the text that it is. The arguments are those of render_text.

        Raises:
          TokenizerError: as render_text; or the template leaves out something that the messages or tools
            say; or the tokenizer cannot encode the spelling of a control token as text.
        """
        options = {"tools": tools, "variables": variables}
        text = self.template.render(messages, generation_prompt=generation_prompt,
                                    continue_final=continue_final, **options)
        self.template.check(messages, generation_prompt=generation_prompt and not continue_final, **options)
        return text

    def encode_hidden(self, text: str, before: str = "") -> np.ndarray:
        """Returns the [T] int32 ids of a hidden text that follows another; see Encoder.encode_hidden."""
        return self._encoder.encode_hidden(text, before)

    def decode_hidden(self, ids: Sequence[int]) -> str:
        """Returns the hidden text of ids that follow others; see Encoder.decode_hidden."""
        return self._encoder.decode_hidden(ids)

    @property
    def literals(self) -> Literals:
        """Tells control tokens of the template from text that spells them."""
        return self._encoder.literals

    @functools.cached_property
    def template(self) -> ChatTemplate:
        """The chat template."""
        return ChatTemplate(self.hf, self.path, self.literals)

    @functools.cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.hf, self.path, self.eos_ids)


def load_tokenizer(path: str) -> Tokenizer:
    """Loads the tokenizer of a checkpoint folder or of a hub name; needs neither torch nor the weights.

    Raises:
      TokenizerError: the folder has no tokenizer files, one is damaged, or the name cannot be fetched.
    """
    folder = pathlib.Path(path)
    if folder.is_dir():
        if not any((folder / name).exists() for name in _FILES):
            raise TokenizerError(f"{str(folder)!r} has no tokenizer files (looked for {', '.join(_FILES)}). "
                                 "Copy those of the model that the checkpoint was made from into it.")
        path = str(folder)
    elif not _HUB_NAME.fullmatch(path):
        raise TokenizerError(f"{path!r} is neither a folder nor a hub name such as Qwen/Qwen3-0.6B. Check "
                             "the path.")
    try:
        return _load(path)
    except OutsideError as error:
        raise TokenizerError(f"The tokenizer cannot be read. {error} Copy or download it again.") from error


def _load(path: str) -> Tokenizer:
    folder = pathlib.Path(path)
    transformers = import_transformers()
    if folder.is_dir():
        tokenizer_files.check(folder)
    try:
        hf = transformers.AutoTokenizer.from_pretrained(path)
    except BaseException as error:  # transformers and the hub client raise many unrelated classes here
        if not (isinstance(error, Exception) or _is_panic(error)):
            raise
        raise TokenizerError(f"No tokenizer could be loaded from {_culprit(folder)}: {first_sentence(error)} "
                             "Give a folder with a whole tokenizer, or a hub name that can be "
                             "reached.") from error
    return Tokenizer(hf, path, tokenizer_files.declared_ids(functools.partial(_find, path)))


def _is_panic(error: BaseException) -> bool:
    """Whether Rust code gave up; its class is no Exception, and not to be imported."""
    return type(error).__name__ == "PanicException"


def import_transformers() -> Any:
    """The transformers package, without its notice that PyTorch is missing: tokenizers need none. Takes
    seconds the first time."""
    logging.getLogger("transformers").addFilter(_not_of_torch)
    import transformers
    return transformers


def _not_of_torch(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("PyTorch was not found")


def _find(path: str, name: str) -> str | None:
    """A file of a folder or of a hub's repository."""
    if pathlib.Path(path).is_dir():
        file = pathlib.Path(path, name)
        return str(file) if file.exists() else None
    from transformers.utils import cached_file
    return cached_file(path, name, _raise_exceptions_for_missing_entries=False,
                       _raise_exceptions_for_connection_errors=False)


def _culprit(folder: pathlib.Path) -> str:
    """The file that keeps a tokenizer from being loaded, as far as that can be told."""
    file = folder / "tokenizer.json"
    if not file.exists():
        return repr(str(folder))
    import tokenizers
    try:
        tokenizers.Tokenizer.from_file(str(file))
    except BaseException as error:  # tokenizers raises Exception itself
        if not (isinstance(error, Exception) or _is_panic(error)):
            raise
        return repr(str(file))
    others = set(tokenizer_files.present(folder)) - {file.name}
    return f"{str(folder)!r}, whose tokenizer.json is sound, but not {' or '.join(sorted(others))}"
