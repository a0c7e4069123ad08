"""Fitting sequences of many lengths into few array shapes."""
from collections.abc import Sequence

from jaxrl_moe.kernels.paired_attention import GRANULE, even_chunk
from jaxrl_moe.types import UserError

_MicroBatches = list[tuple[list[list[int]], tuple[int, int]]]  # see layout


def bucket(n: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... (2^k and 3 * 2^k) that is not below n >= 1."""
    power = 1 << (n - 1).bit_length()
    smaller = power // 4 * 3
    return smaller if smaller >= n else power


def pack(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Rows of indices into `lengths`, first-fit decreasing: longest first, each into the first row with room.

    The same lengths always give the same rows.

    Raises:
      ValueError: a length exceeds row_length.
    """
    rows = []
    room = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[index] > row_length:
            raise ValueError(f"sequence {index} has {lengths[index]} tokens, a row only {row_length}")
        row = next((r for r, free in enumerate(room) if free >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(row_length)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def layout(lengths: Sequence[int], tokens: int, packed: bool, longest: int = 0,
           shards: tuple[int, int] = (1, 1)) -> _MicroBatches:
    """Micro-batches as (rows of sample indices, (B, T)); B may exceed the rows, the rest is padding.

    Packed rows all have the bucket of `longest` (or of the longest sample) as length; micro-batches are full
    but for the last, whose B is a half, a quarter, ... of the others'. So the batches of a run share a
    handful of shapes. Otherwise T is the bucket of the micro-batch's longest sample, and B the bucket of an
    even split. B and T are multiples of `shards`; where rows are cut for devices, the chunks can be cut into
    blocks (kernels.paired_attention.even_chunk).

    Raises:
      UserError: a sample alone exceeds `tokens`, or one row a shard does.
    """
    longest_here = max(lengths)
    if longest_here > tokens:
        raise UserError(f"A sequence has {longest_here} tokens, a micro-batch at most {tokens}: raise "
                        f"train.tokens_per_micro_batch to {longest_here} or more, or shorten prompts and "
                        "completions.")
    whole = max(longest, longest_here)
    return _packed_layout(lengths, tokens, whole, shards) if packed else _single_layout(
        lengths, tokens, shards)


def whole_batch(longest: int, tokens: int, shards: tuple[int, int]) -> tuple[int, int]:
    """(the length of a row, the most rows of a micro-batch) where `longest` is the longest sequence, of at
    most `tokens` tokens.

    Raises:
      UserError: one row a shard exceeds `tokens`.
    """
    rows, parts = shards
    width = _even(min(bucket(longest), tokens), parts)
    if width > tokens:  # there is room for less rounding only
        width = _even(longest, parts, 1)
    most = tokens // width // rows * rows
    if most == 0:
        raise UserError(f"A micro-batch of train.tokens_per_micro_batch = {tokens} tokens cannot hold {rows} "
                        f"rows of {width} tokens, one for each part that the mesh splits rows into: raise it "
                        f"to {rows * width} or more, or make the mesh's axes data, fsdp and expert smaller.")
    return width, most


def _even(length: int, parts: int, granule: int = GRANULE) -> int:
    """A row that holds `length` tokens and can be cut: into `parts` chunks, and those into blocks for
    attention."""
    return length if parts == 1 else parts * even_chunk(_divide_up(length, parts), granule)


def _packed_layout(lengths: Sequence[int], tokens: int, longest: int,
                   shards: tuple[int, int]) -> _MicroBatches:
    width, most = whole_batch(longest, tokens, shards)
    rows = pack(lengths, width)
    batches = [rows[start:start + most] for start in range(0, len(rows), most)]
    return [(batch, (_up_to_multiple(_halved(most, len(batch)), shards[0]), width)) for batch in batches]


def _halved(most: int, needed: int) -> int:
    """most, or the least of its halves (rounded up) that is not below `needed`."""
    while most > 1 and (half := _divide_up(most, 2)) >= needed:
        most = half
    return most


def _single_layout(lengths: Sequence[int], tokens: int, shards: tuple[int, int]) -> _MicroBatches:
    result = []
    rows = [[index] for index in sorted(range(len(lengths)), key=lambda i: -lengths[i])]
    while rows:
        width, most = whole_batch(lengths[rows[0][0]], tokens, shards)
        size = _divide_up(len(rows), _divide_up(len(rows), most))
        result.append((rows[:size], (min(_up_to_multiple(bucket(size), shards[0]), most), width)))
        rows = rows[size:]
    return result


def _up_to_multiple(value: int, of: int) -> int:
    return _divide_up(value, of) * of


def _divide_up(a: int, b: int) -> int:
    return -(-a // b)
