"""Fitting sequences of many lengths into few array shapes."""
from typing import Sequence


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
    rows, room = [], []
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
