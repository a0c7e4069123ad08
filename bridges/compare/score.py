"""Log-probabilities of given token sequences under a checkpoint."""
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridges.errors import BridgeError
from bridges.hf.folders import as_path, new_file
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.outside import BLANKS, MOST_INT, Fields, OutsideError, parse

TOKENS = 4096   # padded tokens in one forward pass
SHORTEST = 16   # rows are padded to this length, or the next power of two


def score(model: Transformer, source: str | os.PathLike, target: str | os.PathLike,
          overwrite: bool = False) -> int:
    """Reads JSON lines {"ids": [...]} and writes {"logprobs": [...]}, one number for each id but the first.

    The output has the input's order, and appears whole or not at all; one that is there already is replaced
    under `overwrite` alone. Returns the number of rows.

    Raises:
      BridgeError: on a row without ids, an id outside the vocabulary, log-probs that are not finite, or a
        file that cannot be read or written.
    """
    sequences = read_ids(as_path(source), model.config.vocab_size)
    with new_file(target, overwrite) as partial, partial.open("w") as file:
        for row, logprobs_T in enumerate(logprobs(model, sequences), 1):
            if not np.isfinite(logprobs_T).all():
                raise BridgeError(f"The log-probs of row {row} of {source} are not finite, and nothing was "
                                  "written. Check the model with python -m bridges verify.")
            file.write(json.dumps({"logprobs": [float(value) for value in logprobs_T]}) + "\n")
    return len(sequences)


def logprobs(model: Transformer, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
    """float32 log p(ids[t + 1] | ids[:t + 1]) of each sequence: arrays one shorter than the sequences."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state: Any, tokens_BT: jax.Array, lengths_B: jax.Array):
        model = nnx.merge(graphdef, state)
        positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
        segments_BT = (positions_BT < lengths_B[:, None]).astype(jnp.int32)
        hidden_BTD, _ = model(tokens_BT, Pass(positions_BT, segments_BT))
        hidden_MD = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        targets_M = jnp.roll(tokens_BT, -1, axis=1).reshape(-1)
        logprobs_M, _ = token_logprobs(hidden_MD, model.head_DV(), targets_M)
        return logprobs_M.reshape(tokens_BT.shape)

    results = [np.zeros(0, np.float32)] * len(sequences)
    for rows, tokens_BT in _batches(sequences):
        lengths = np.array([len(sequences[row]) for row in rows] + [0] * (len(tokens_BT) - len(rows)),
                           np.int32)
        with jax.default_matmul_precision("highest"):
            logprobs_BT = np.asarray(forward(state, tokens_BT, lengths))
        for row, logprobs_T in zip(rows, logprobs_BT):
            results[row] = logprobs_T[:len(sequences[row]) - 1]
    return results


def _batches(sequences: Any) -> Iterator[tuple[list[int], np.ndarray]]:
    """(row numbers, tokens [B, T]): rows of like length, T a power of two, B filling TOKENS."""
    groups: dict[int, list[int]] = {}
    for row, ids in enumerate(sequences):
        if len(ids) > 1:
            groups.setdefault(max(SHORTEST, 1 << (len(ids) - 1).bit_length()), []).append(row)
    for length, rows in sorted(groups.items()):
        size = min(max(1, TOKENS // length), len(rows))
        for start in range(0, len(rows), size):
            chosen = rows[start:start + size]
            tokens_BT = np.zeros((size, length), np.int32)
            for index, row in enumerate(chosen):
                tokens_BT[index, :len(sequences[row])] = sequences[row]
            yield chosen, tokens_BT


def read_ids(path: pathlib.Path, vocab_size: int) -> list[np.ndarray]:
    """Parses the input; raises BridgeError that names the line, or says that there is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # other ends of lines may stand in strings
    except (OSError, UnicodeDecodeError) as error:
        raise BridgeError(f"{path} cannot be read: {error}.") from error
    rows = [_ids(line, f"{path}, line {number}", vocab_size) for number, line in enumerate(lines, 1)
            if line.strip(BLANKS)]
    if not rows:
        raise BridgeError(f'{path} has no rows: nothing would be scored. A row looks like '
                          '{"ids": [1, 2, 3]}.')
    return rows


def _ids(line: str, where: str, vocab_size: int) -> np.ndarray:
    try:
        ids = Fields(parse(line, where), where).integers("ids", least=-MOST_INT)
    except OutsideError as error:
        raise BridgeError(f'{error} A row must look like {{"ids": [1, 2, 3]}}; this one is '
                          f"{line[:80]!r}.") from error
    beyond = [token for token in ids if not 0 <= token < vocab_size]
    if beyond:
        raise BridgeError(f"{where}: id {beyond[0]} is outside the model's vocabulary of {vocab_size}. "
                          "Tokenise with the model's own tokenizer.")
    return np.array(ids, np.int32)
