"""Hashes of a checkpoint's files: written when it is whole, compared before anything of it is used.

SHA-256 takes 0.7 s a GB on one core that has SHA instructions (November 2026), and each core reads a file of
its own. Of several processes each reads its share of the files, and all get the same answer.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrl_moe import log_files
from jaxrl_moe.hosts import hosts
from jaxrl_moe.outside import Fields, OutsideError, read_object

FILE = "hashes.json"
_BYTES = 32  # of a SHA-256
_ABSENT = bytes(_BYTES)
_GONE = "is missing"
_DIFFERENT = "is not what was written (its hash differs)"


def seal(folder: pathlib.Path) -> None:
    """Writes the hashes of all files in the folder into it. To be called by all processes."""
    names = hosts.from_leader(lambda: _files(folder))
    hashes = _hashes(folder, names)
    table = dict(zip(names, hashes))
    text = json.dumps({"sha256": table, "of_these": _of_table(table)}, indent=1) + "\n"
    hosts.on_leader(lambda: log_files.replace(folder / FILE, text.encode()))


def refuse_damaged(folder: pathlib.Path) -> None:
    """Compares every file with its hash. To be called by all processes.

    Raises:
      OutsideError: a file is absent or is not what was written; or the hashes are not there.
    """
    known = hosts.from_leader(lambda: _known(folder))
    found = _hashes(folder, list(known))
    wrong = [f"{name} {_GONE if there == _ABSENT.hex() else _DIFFERENT}"
             for (name, wanted), there in zip(known.items(), found) if there != wanted]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise OutsideError(f"{'; '.join(wrong[:3])}{more}")


def _known(folder: pathlib.Path) -> dict[str, str]:
    fields = Fields(read_object(folder / FILE), str(folder / FILE))
    table = fields.object("sha256")
    known = {name: table.string(name) for name in table.values}
    if fields.string("of_these") != _of_table(known):
        raise OutsideError(f"{FILE} {_DIFFERENT}")
    return known


def _of_table(table: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")
                  if path.is_file() and path.name != FILE)


def _hashes(folder: pathlib.Path, names: Sequence[str]) -> list[str]:
    """Of each file, in hexadecimal; of one that is absent zeros."""
    digests = np.zeros([len(names), _BYTES], np.uint8)
    mine = [index for index in range(len(names)) if hosts.mine(index)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        digests_of = pool.map(lambda index: _digest(folder / names[index]), mine)
        for index, digest in zip(mine, digests_of):
            digests[index] = np.frombuffer(digest, np.uint8)
    return [row.tobytes().hex() for row in hosts.gathered(digests)]


def _digest(path: pathlib.Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return _ABSENT
