"""Every call that was served, one JSON object a line, with the exact tokens: enough to train on."""
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.log_files import open_to_append, write_line
from jaxrl_moe.types import Request


class Recorder:
    """Appends a row per prompt of a call, when it ends in whatever way. One thread writes; each row finds the
    file by its name, as a resumed run cuts it back to a new one.

    Columns of a row:
      step: version of the weights when the call ended, so that a resumed run can cut the file back.
      id, path, model, user: of the call, as answered and as sent.
      seed: drawn by the server where the client sent none; the same request with it draws the same tokens.
      session: in its place, of a call of a session, {stream, sequence, sample, turn}: its noise follows them.
      sampling: max_tokens, temperature, top_p, top_k, min_p, stop_ids, stop_strings.
      prompt_ids: token ids.
      completions: ids, logprobs (of softmax(logits / T) over the vocabulary), policy_version of each token,
        and finish_reason: "stop", "length", or "cancelled" for one that the client or an error cut short.
    """

    def __init__(self, path: pathlib.Path):
        self._path = pathlib.Path(path)
        open_to_append(self._path).close()  # where it cannot be written, that shows now

    def write(self, call: Mapping[str, Any], origin: Mapping[str, Any], request: Request,
              completions: Sequence[dict[str, Any]]) -> None:
        """Appends a row; `origin` is its seed, or its session."""
        sampling = {name: getattr(request.params, name) for name in (
            "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop_ids", "stop_strings")}
        with open_to_append(self._path) as file:
            write_line(file, {**call, **origin, "sampling": sampling, "prompt_ids": request.ids.tolist(),
                              "completions": list(completions)})
