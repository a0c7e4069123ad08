"""Steps, groups and episodes of an index, as the page lists them."""
import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl_moe.serving.viewer.entries import BROKEN
from jaxrl_moe.serving.viewer.index import Snapshot


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which rows are wanted: of an outcome (empty: any), with a reward from `least` to `most`."""
    outcome: str = ""
    least: float = -math.inf
    most: float = math.inf

    def matches(self, index: Snapshot) -> np.ndarray:
        """[rows] of booleans."""
        wanted = np.ones(index.rows, bool)
        if self.outcome:
            wanted &= index.columns["outcome"] == index.outcomes.find(self.outcome)
        if self.least > -math.inf:
            wanted &= index.columns["reward"] >= self.least
        if self.most < math.inf:
            wanted &= index.columns["reward"] <= self.most
        return wanted


def steps(index: Snapshot, wanted: Filter) -> list[dict[str, Any]]:
    """Every step and phase in order: how many rows it has, how many are wanted, and what these are."""
    words = index.phases.words
    keys = index.columns["step"].astype(np.int64) * (len(words) + 1) + index.columns["phase"]
    found, which = np.unique(keys, return_inverse=True)
    matches = wanted.matches(index)
    reward = index.columns["reward"]
    counted = matches & ~np.isnan(reward)
    size = len(found)
    rows = np.bincount(which, minlength=size)
    chosen = np.bincount(which[matches], minlength=size)
    rewards = np.bincount(which[counted], minlength=size)
    sums = np.bincount(which[counted], reward[counted], minlength=size)
    broken = np.bincount(which[index.columns["outcome"] == index.outcomes.find(BROKEN)], minlength=size)
    return [{"step": int(key // (len(words) + 1)), "phase": words[key % (len(words) + 1)],
             "rows": int(rows[at]), "wanted": int(chosen[at]), "broken": int(broken[at]),
             "reward": float(sums[at] / rewards[at]) if rewards[at] else None}
            for at, key in enumerate(found)]


def rows_of(index: Snapshot, step: int, phase: str, prompt_index: int | None = None) -> np.ndarray:
    """The rows of a step and phase, and of a prompt if one is given, in the order of the file."""
    wanted = (index.columns["step"] == step) & (index.columns["phase"] == index.phases.find(phase))
    if prompt_index is not None:
        wanted &= index.columns["prompt_index"] == prompt_index
    return np.flatnonzero(wanted)


def groups(index: Snapshot, rows: np.ndarray, wanted: Filter) -> list[dict[str, Any]]:
    """The groups among rows of one step, in the order of their first ones: each with its rows as lists.
    Broken rows, whose group is not known, are one by themselves."""
    matches = wanted.matches(index)
    by_sequence: dict[int, list[int]] = {}
    for row in rows.tolist():
        by_sequence.setdefault(int(index.columns["sequence"][row]), []).append(row)
    return [_group(index, members, matches) for members in by_sequence.values()]


def _group(index: Snapshot, members: list[int], matches: np.ndarray) -> dict[str, Any]:
    columns = index.columns
    return {"sequence": int(columns["sequence"][members[0]]),
            "prompt_index": int(columns["prompt_index"][members[0]]),
            "rows": members,
            "samples": columns["sample"][members].tolist(),
            "rewards": columns["reward"][members].tolist(),
            "advantages": columns["advantage"][members].astype(float).tolist(),
            "tokens": columns["tokens"][members].tolist(),
            "outcomes": [index.outcomes.words[number] for number in columns["outcome"][members]],
            "wanted": matches[members].tolist()}


def differing(texts: Sequence[str], longest: int = 240) -> list[str]:
    """What tells texts of a kind apart: each without the beginning and the end that all share, up to a word's
    border, and cut."""
    if len(set(texts)) < 2:
        return [text[-longest:] for text in texts]
    start = len(os.path.commonprefix(texts))
    while start and not texts[0][start - 1].isspace():
        start -= 1
    rests = [text[start:] for text in texts]
    end = len(os.path.commonprefix([rest[::-1] for rest in rests]))
    while end and not rests[0][len(rests[0]) - end].isspace():
        end -= 1
    return [rest[:len(rest) - end][:longest] for rest in rests]
