"""Packs planned work into the few array shapes that the device programs are compiled for.

Work comes as one list for each part that the rows are split into. The arrays hold part after part, each
filled up with rows of padding to as many as the longest needs.

Letters: U rows, T tokens of a prefill row, J visible pages, X stop ids.
"""
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxrl_moe.data.packing import bucket
from jaxrl_moe.engine.pages import pages_for, power_of_two, row_bucket
from jaxrl_moe.engine.programs import DecodeRows
from jaxrl_moe.engine.scheduler import Prefill
from jaxrl_moe.engine.sequences import Sequence
from jaxrl_moe.model.cache import TRASH_PAGE

SHORTEST = 16  # least tokens of a row in one prefill call
LONGEST = 1024  # most tokens of a row in one prefill call; longer prefixes take several calls
TOKENS = 4096  # rows x tokens in one prefill call
VISIBLE = 64  # least tokens visible to a decode call, so that short sequences share one shape
STOPS = 4  # stop ids of a row are filled up to 4, 8, 16, ...


class PrefillBatch(NamedTuple):
    """jobs are those of the rows; None is padding."""
    jobs: list[Prefill | None]
    tokens_UT: np.ndarray
    positions_UT: np.ndarray
    pages_UJ: np.ndarray


def stacked(parts: list[list], rows: int) -> list:
    """The lists one after the other, each filled up with None to so many rows."""
    return [item for items in parts for item in (*items, *[None] * (rows - len(items)))]


def prefill_batches(parts: list[list[Prefill]], page_size: int) -> Iterator[PrefillBatch]:
    """Groups jobs, none of which reads what another writes, by like length into calls."""
    left = [sorted(jobs, key=lambda job: -len(job.ids)) for jobs in parts]
    while any(left):
        width = prefill_width(max(len(jobs[0].ids) for jobs in left if jobs))
        like = [[job for job in jobs[:TOKENS // width] if prefill_width(len(job.ids)) == width]
                for jobs in left]
        left = [jobs[len(taken):] for jobs, taken in zip(left, like)]
        for offset in range(0, max(len(jobs[0].ids) for jobs in like if jobs), LONGEST):
            yield _prefill_batch([[job for job in jobs if len(job.ids) > offset] for jobs in like], offset,
                                 page_size)


def prefill_width(length: int) -> int:
    return min(max(power_of_two(length), SHORTEST), LONGEST)


def prefill_shapes(longest: int, slots: int, page_size: int, parts: int = 1) -> Iterator[PrefillBatch]:
    """Batches of nothing but padding, in every shape that prefixes of up to `longest` tokens can take, known
    ones before them included; slots are a part's."""
    powers = [1 << i for i in range(max(LONGEST, slots).bit_length() + 1)]
    most = pages_for(longest, page_size)
    shapes = {(rows, width, pages)
              for offset in range(0, longest, LONGEST)
              for width in powers if SHORTEST <= width <= prefill_width(longest - offset)
              for rows in powers if rows <= min(power_of_two(slots), TOKENS // width)
              for pages in _visible_pages(offset + width, most, page_size)}
    for rows, width, pages in sorted(shapes):
        rows *= parts
        yield PrefillBatch([None] * rows, np.zeros((rows, width), np.int32),
                           np.full((rows, width), -1, np.int32), page_table([()] * rows, pages))


def _visible_pages(least: int, most: int, page_size: int) -> set[int]:
    """Widths of page tables for prefills that end at `least` tokens, and behind known pages at `most` pages
    at most."""
    known = {_prefill_pages(pages * page_size, page_size, True)
             for pages in range(pages_for(least, page_size), most + 1)}
    return {_prefill_pages(least, page_size, False)} | known


def _prefill_pages(end: int, page_size: int, known: bool) -> int:
    """A power of two, of four behind known pages: these begin anywhere, and each width is compiled for."""
    pages = power_of_two(pages_for(end, page_size))
    return pages << 1 if known and pages.bit_length() % 2 == 0 else pages


def _prefill_batch(parts: list[list[Prefill]], offset: int, page_size: int):
    width = prefill_width(max(len(job.ids) for jobs in parts for job in jobs) - offset)
    jobs = stacked(parts, power_of_two(max(map(len, parts))))
    tokens_UT = np.zeros((len(jobs), width), np.int32)
    positions_UT = np.full((len(jobs), width), -1, np.int32)
    end = offset + width
    for row, job in enumerate(jobs):
        if job is None:
            continue
        tokens = job.ids[offset:offset + width]
        first = job.start + offset
        tokens_UT[row, :len(tokens)] = tokens
        positions_UT[row, :len(tokens)] = np.arange(first, first + len(tokens))
        end = max(end, first + len(tokens))
    pages_UJ = page_table([job.pages if job else () for job in jobs],
                          _prefill_pages(end, page_size, any(job and job.start for job in jobs)))
    return PrefillBatch(jobs, tokens_UT, positions_UT, pages_UJ)


def page_table(pages_U: list, width: int) -> np.ndarray:
    table_UJ = np.full((len(pages_U), width), TRASH_PAGE, np.int32)
    for row, held in enumerate(pages_U):
        table_UJ[row, :len(held)] = held[:width]
    return table_UJ


def decode_shapes(slots: int, pages: int, page_size: int, parts: int = 1) -> Iterator[DecodeRows]:
    """Rows with nothing remaining, in every shape that decoding within so many pages can take; slots are a
    part's."""
    for rows in sorted({row_bucket(n + 1, slots) for n in range(slots)}):
        for width in sorted({decode_width(n + 1, page_size) for n in range(pages)}):
            yield decode_rows([None] * rows * parts, width)


def decode_width(pages: int, page_size: int) -> int:
    return max(bucket(pages), pages_for(VISIBLE, page_size))


def decode_order(parts: list[list[Sequence]], slots: int) -> list[Sequence | None]:
    """The running sequences of each part, of so many slots, as rows of one call; None is padding."""
    return stacked(parts, row_bucket(max(map(len, parts)), slots))


def decode_rows(rows: list[Sequence | None], width: int) -> DecodeRows:
    """What the device needs of the rows, `width` pages wide; those of padding have nothing remaining."""
    def column(value: Callable[[Sequence], Any], dtype: Any, fill: Any = 0):
        return np.array([fill if sequence is None else value(sequence) for sequence in rows], dtype)

    def setting(name: str, dtype: Any, fill: Any = 0):
        return column(lambda sequence: getattr(sequence.group.request.params, name), dtype, fill)

    return DecodeRows(
        tokens_U=column(lambda sequence: sequence.ids[sequence.length - 1], np.int32),
        positions_U=column(lambda sequence: sequence.length - 1, np.int32),
        remaining_U=column(lambda sequence: sequence.limit - sequence.length, np.int32),
        draws_U4=column(_draw, np.uint32, (0,) * 4), temperature_U=setting("temperature", np.float32),
        top_p_U=setting("top_p", np.float32, 1.0), top_k_U=setting("top_k", np.int32),
        min_p_U=setting("min_p", np.float32),
        stop_UX=_stops([() if sequence is None else sequence.group.stop_ids for sequence in rows]),
        pages_UJ=page_table([() if sequence is None else sequence.pages for sequence in rows], width))


def _draw(sequence: Sequence):
    request = sequence.group.request
    return request.stream, request.sequence, request.sample + sequence.sample, request.turn


def _stops(stop_ids_U: list[tuple[int, ...]]):
    stop_UX = np.full((len(stop_ids_U), max(power_of_two(max(map(len, stop_ids_U))), STOPS)), -1, np.int32)
    for row, ids in enumerate(stop_ids_U):
        stop_UX[row, :len(ids)] = ids
    return stop_UX
