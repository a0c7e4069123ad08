"""The tokenizer: a Hugging Face tokenizer behind the few calls that the loop needs."""
import functools
import json
import logging
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe.data.encoder import Encoder
from jaxrl_moe.data.literals import Literals
from jaxrl_moe.data.reach import Message
from jaxrl_moe.data.template import ChatTemplate, TokenizerError

__all__ = ["Message", "Tokenizer", "TokenizerError", "import_transformers", "load_tokenizer"]

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


class Tokenizer:
    """Text to ids and back, under the model's own chat template.

    Attributes:
      hf: the transformers tokenizer.
      path: where it was read from, for messages.
      eos_ids: ids that end a completion: the tokenizer's end token and those of generation_config.json.
    """

    def __init__(self, hf: Any, path: str, eos_ids: Sequence[int] = ()) -> None:
        own = () if hf.eos_token_id is None else (hf.eos_token_id,)
        self.hf = hf
        self.path = path
        self.eos_ids = tuple(dict.fromkeys((*own, *eos_ids)))
        if not self.eos_ids:
            raise TokenizerError(f"The tokenizer in {path!r} names no end token, so no completion could ever "
                                 "end. Set eos_token in tokenizer_config.json or eos_token_id in "
                                 "generation_config.json.")

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
        """Returns the [T] int32 ids of the messages under the chat template; see render_text. Control tokens
        are those that the template writes: what messages spell like one is encoded as the text that it is.

        Raises:
          TokenizerError: as render_text; or the template leaves out something that the messages or tools
            say; or the tokenizer cannot encode the spelling of a control token as text.
        """
        options = {"tools": tools, "variables": variables}
        text = self.template.render(messages, generation_prompt=generation_prompt,
                                    continue_final=continue_final, **options)
        self.template.check(messages, generation_prompt=generation_prompt and not continue_final, **options)
        return self.encode_hidden(text)

    def encode_hidden(self, text: str, before: str = "") -> np.ndarray:
        """Returns the [T] int32 ids of a hidden text that follows another; see Encoder.encode_hidden."""
        return self._encoder.encode_hidden(text, before)

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
      TokenizerError: the folder has no tokenizer files, or the name cannot be fetched.
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
    transformers = import_transformers()
    try:
        hf = transformers.AutoTokenizer.from_pretrained(path)
    except Exception as error:  # transformers and the hub client raise many unrelated classes here
        raise TokenizerError(f"No tokenizer could be loaded from {path!r}: {_first_line(error)} Give a "
                             "folder with tokenizer.json, or a hub name that can be reached.") from error
    return Tokenizer(hf, path, _generation_eos(path))


def import_transformers() -> Any:
    """The transformers package, without its notice that PyTorch is missing: tokenizers need none. Takes
    seconds the first time."""
    logging.getLogger("transformers").addFilter(_not_of_torch)
    import transformers
    return transformers


def _not_of_torch(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("PyTorch was not found")


def _generation_eos(path: str) -> tuple[int, ...]:
    """The end ids of generation_config.json, where the checkpoint has that file."""
    from transformers.utils import cached_file
    name = cached_file(path, "generation_config.json", _raise_exceptions_for_missing_entries=False,
                       _raise_exceptions_for_connection_errors=False)
    if name is None:
        return ()
    eos = json.loads(pathlib.Path(name).read_text()).get("eos_token_id")
    if eos is None:
        return ()
    return tuple(eos) if isinstance(eos, list) else (eos,)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
