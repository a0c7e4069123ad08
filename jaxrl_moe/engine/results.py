"""From a decode call's arrays to tokens of sequences, and to completions where they end.

Letters: S decode steps, U rows, T tokens of a prefill row, A active experts.
"""
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from jaxrl_moe.engine.sequences import Sequence
from jaxrl_moe.engine.stopping import stop_cut
from jaxrl_moe.types import Completion, UserError


def refuse_non_finite(out: Mapping[str, np.ndarray], version: int) -> None:
    """Raises UserError when a drawn token's log-prob is NaN or infinite."""
    if not np.isfinite(np.where(out["tokens_SU"] >= 0, out["logprobs_SU"], 0.0)).all():
        raise UserError(f"The policy (version {version}) gave log-probabilities that are not finite. Its "
                        "weights hold NaN or infinity, or its activations overflow; look at the last "
                        "updates' gradient norms.")


def take(sequence: Sequence, out: Mapping[str, np.ndarray], row: int, count: int, version: int,
         detokenise: Callable[[list[int]], str] | None) -> Completion | None:
    """Gives a sequence the `count` tokens of its row; returns its completion if it has ended."""
    checked = sequence.drawn
    routed = sequence.group.request.params.return_routed_experts
    sequence.append(out["tokens_SU"][:count, row], out["logprobs_SU"][:count, row], version,
                    out["expert_ids_SULA"][:count, row] if routed else None)
    end = _end(sequence, checked, detokenise)
    return None if end is None else sequence.completion(*end)


def _end(sequence: Sequence, checked: int, detokenise: Callable[[list[int]], str] | None):
    """(tokens to keep, finish reason), or None while the sequence goes on. `checked` tokens were looked at
    before."""
    strings = sequence.group.request.params.stop_strings
    if strings:
        drawn = sequence.ids[sequence.length - sequence.drawn:sequence.length]
        keep = stop_cut(drawn.tolist(), checked, strings, detokenise)
        if keep is not None:
            return keep, "stop"
    if sequence.ids[sequence.length - 1] in sequence.group.stop_ids:
        return sequence.drawn, "stop"
    return (sequence.drawn, "length") if sequence.length == sequence.limit else None


def note_routes(calls: list[tuple], admitted: Iterable[Sequence]) -> None:
    """Gives each admitted sequence that wants them the expert ids of what its pages hold.

    Args:
      calls: of prefills, in order: (sequences, or None where none is wanted; row lengths; expert_ids
        [U, T, L, A]). What is long comes in several.
      admitted: in the order in which they may reuse each other's pages.
    """
    for sequences, lengths, ids_UTLA in calls:
        for row, sequence in enumerate(sequences):
            if sequence is not None:
                sequence.cached_routes.append(ids_UTLA[row, :lengths[row]])
    for sequence in admitted:
        if sequence.routed:
            sequence.join_routes()
