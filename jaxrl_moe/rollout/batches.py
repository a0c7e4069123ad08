"""Packs planned work into the few array shapes that the device programs are compiled for.

Letters: U rows, T tokens of a prefill row, J visible pages, X stop ids.
"""
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxrl_moe.data.packing import bucket
from jaxrl_moe.model.cache import TRASH_PAGE
from jaxrl_moe.rollout.pages import pages_for, power_of_two, row_bucket
from jaxrl_moe.rollout.programs import DecodeRows
from jaxrl_moe.rollout.scheduler import Prefill
from jaxrl_moe.rollout.sequences import Sequence

SHORTEST, LONGEST = 16, 1024  # tokens of a row in one prefill call; longer prefixes take several calls
TOKENS = 4096                 # rows x tokens in one prefill call
VISIBLE = 64                  # least tokens visible to a decode call, so that short sequences share one shape
STOPS = 4                     # stop ids of a row are filled up to 4, 8, 16, ...


class PrefillBatch(NamedTuple):
    jobs: list[Prefill]
    tokens_UT: np.ndarray
    positions_UT: np.ndarray
    pages_UJ: np.ndarray


def prefill_batches(jobs: list[Prefill], page_size: int) -> Iterator[PrefillBatch]:
    """Groups jobs of like length into calls. Jobs that start inside a held prefix come after the prefixes."""
    for late in (False, True):
        phase = sorted((job for job in jobs if (job.start > 0) == late), key=lambda job: -len(job.ids))
        while phase:
            width = prefill_width(len(phase[0].ids))
            like = [job for job in phase[:TOKENS // width] if prefill_width(len(job.ids)) == width]
            phase = phase[len(like):]
            for offset in range(0, len(like[0].ids), LONGEST):
                yield _prefill_batch([job for job in like if len(job.ids) > offset], offset, page_size)


def prefill_width(length: int) -> int:
    return min(max(power_of_two(length), SHORTEST), LONGEST)


def prefill_shapes(longest: int, slots: int, page_size: int) -> Iterator[PrefillBatch]:
    """Batches of nothing but padding, in every shape that fresh prefixes of up to `longest` tokens can take."""
    powers = [1 << i for i in range(max(LONGEST, slots).bit_length() + 1)]
    shapes = {(rows, width, _prefill_pages(offset + width, page_size))
              for offset in range(0, longest, LONGEST)
              for width in powers if SHORTEST <= width <= prefill_width(longest - offset)
              for rows in powers if rows <= min(power_of_two(slots), TOKENS // width)}
    for rows, width, pages in sorted(shapes):
        yield PrefillBatch([], np.zeros((rows, width), np.int32), np.full((rows, width), -1, np.int32), page_table([], rows, pages))


def _prefill_pages(end, page_size):
    return power_of_two(pages_for(end, page_size))


def _prefill_batch(jobs, offset, page_size):
    width = prefill_width(max(len(job.ids) for job in jobs) - offset)
    rows = power_of_two(len(jobs))
    tokens_UT, positions_UT = np.zeros((rows, width), np.int32), np.full((rows, width), -1, np.int32)
    end = 0
    for row, job in enumerate(jobs):
        part = job.ids[offset:offset + width]
        first = job.start + offset
        tokens_UT[row, :len(part)] = part
        positions_UT[row, :len(part)] = np.arange(first, first + len(part))
        end = max(end, first + len(part))
    pages_UJ = page_table([job.pages for job in jobs], rows, _prefill_pages(max(end, offset + width), page_size))
    return PrefillBatch(jobs, tokens_UT, positions_UT, pages_UJ)


def page_table(pages: list[list[int]], rows: int, width: int) -> np.ndarray:
    table_UJ = np.full((rows, width), TRASH_PAGE, np.int32)
    for row, held in enumerate(pages):
        table_UJ[row, :len(held)] = held[:width]
    return table_UJ


def decode_shapes(slots: int, pages: int, page_size: int) -> Iterator[DecodeRows]:
    """Rows with nothing remaining, in every shape that decoding within so many pages can take."""
    for rows in sorted({row_bucket(n + 1, slots) for n in range(slots)}):
        for width in sorted({decode_width(n + 1, page_size) for n in range(pages)}):
            yield _decode_rows([], rows, width)


def decode_width(pages: int, page_size: int) -> int:
    return max(bucket(pages), pages_for(VISIBLE, page_size))


def decode_rows(running: list[Sequence], slots: int, page_size: int) -> DecodeRows:
    """The running sequences as rows, filled up with rows that have nothing remaining."""
    pages = max(len(sequence.pages) for sequence in running)
    return _decode_rows(running, row_bucket(len(running), slots), decode_width(pages, page_size))


def _decode_rows(running, rows, width):
    requests = [sequence.group.request for sequence in running]
    params = [request.params for request in requests]

    def column(values, dtype, fill=0):
        return np.array([*values, *[fill] * (rows - len(running))], dtype)

    draws_U4 = np.zeros((rows, 4), np.uint32)
    for row, (request, sequence) in enumerate(zip(requests, running)):
        draws_U4[row] = request.stream, request.sequence, sequence.sample, request.turn
    return DecodeRows(
        tokens_U=column((sequence.ids[sequence.length - 1] for sequence in running), np.int32),
        positions_U=column((sequence.length - 1 for sequence in running), np.int32),
        remaining_U=column((sequence.limit - sequence.length for sequence in running), np.int32),
        draws_U4=draws_U4,
        temperature_U=column((p.temperature for p in params), np.float32),
        top_p_U=column((p.top_p for p in params), np.float32, 1.0),
        top_k_U=column((p.top_k for p in params), np.int32),
        min_p_U=column((p.min_p for p in params), np.float32),
        stop_UX=_stops([sequence.group.stop_ids for sequence in running], rows),
        pages_UJ=page_table([sequence.pages for sequence in running], rows, width))


def _stops(stop_ids, rows):
    stop_UX = np.full((rows, max(power_of_two(max(map(len, stop_ids), default=0)), STOPS)), -1, np.int32)
    for row, ids in enumerate(stop_ids):
        stop_UX[row, :len(ids)] = ids
    return stop_UX
