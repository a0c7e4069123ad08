"""Texts to prompts of token ids, in threads: what is longer than any context is refused early, and what is
long keeps nothing short waiting."""
import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.serving.http.errors import Refusal

SHORT = 2**15  # characters that take a few milliseconds
SHORT_THREADS = 2
HEAD = 16      # characters for each token of the context, of which a long text is judged; text has 3 to 5


class Prompts:
    """Encodes texts. Who no longer waits is dropped from the queue.

    Args:
      tokenizer: the model's.
      context: most tokens of a prompt.
    """

    def __init__(self, tokenizer: Tokenizer, context: int):
        self._tokenizer = tokenizer
        self._context = context
        widest = widest_token(tokenizer.hf)
        self._most = None if widest is None else widest * context
        self._short = ThreadPoolExecutor(SHORT_THREADS, "tokeniser")
        self._long = ThreadPoolExecutor(1, "tokeniser of long texts")

    async def encode(self, text: str, encode: Callable[[str], np.ndarray] | None = None) -> np.ndarray:
        """The [T] ids; raises Refusal, or TokenizerError where it is no Unicode text.

        Args:
          text: as the client sent it, or as a template rendered it.
          encode: encodes it; None: the tokenizer's encode.
        """
        encode = encode or self._tokenizer.encode
        if self._most is not None and len(text) > self._most:
            raise self._too_long(f"has {len(text)} characters, more than the {self._most} of so many tokens")
        head = max(HEAD * self._context, SHORT)
        if len(text) > head:
            tokens = len(await self.run(encode, text[:head], size=head))
            if tokens > 2 * self._context:  # what follows can change but the last of them
                raise self._too_long(f"has {len(text)} characters, the first {head} of {tokens} tokens")
        return await self.run(encode, text, size=len(text))

    async def run(self, work: Callable[..., Any], *arguments: Any, size: int) -> Any:
        """Waits for work that takes as long as encoding `size` characters."""
        pool = self._short if size <= SHORT else self._long
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    def close(self) -> None:
        for pool in (self._short, self._long):
            pool.shutdown(cancel_futures=True)

    def _too_long(self, what: str) -> Refusal:
        return Refusal(400, f"The prompt {what}; the model's context is {self._context}. Shorten the prompt.",
                       code="context_length_exceeded")


def widest_token(hf: Any) -> int | None:
    """Most characters of a text that one token can stand for; None where nothing bounds them, as where white
    space is dropped or a whole word becomes the unknown token."""
    backend = getattr(hf, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ != "BPE":
        return None
    model = backend.model
    steps = [step for part in (backend.normalizer, backend.pre_tokenizer) if part is not None
             for step in _steps(json.loads(part.__getstate__()))]
    byte_level = any(step["type"] == "ByteLevel" for step in steps)
    spells_all = byte_level or model.byte_fallback or not model.fuse_unk
    stripping = any(token.lstrip or token.rstrip for token in hf.added_tokens_decoder.values())
    if not spells_all or stripping or not all(map(_keeps, steps)):
        return None
    composed = 4 if any(step["type"] in ("NFC", "NFD") for step in steps) else 1  # characters made one
    return composed * max(map(len, hf.get_vocab()))


def _steps(step: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    inner = [*step.get("normalizers", ()), *step.get("pretokenizers", ())]
    for each in inner:
        yield from _steps(each)
    if not inner:
        yield step


def _keeps(step: Mapping[str, Any]) -> bool:
    """Whether a step of the tokenizer leaves the number of characters as it is, but for composing some."""
    if step["type"] == "Split":
        return step["behavior"] != "Removed"
    if step["type"] == "Replace":
        return len(step["content"]) >= len(step["pattern"].get("String", " " * 1000))
    return step["type"] in ("ByteLevel", "Digits", "Metaspace", "Prepend", "NFC", "NFD", "Sequence")
