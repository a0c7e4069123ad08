"""Versions of packages, for tables. Imports nothing but Python's own: the GPU check must make its table
whatever is missing."""
import importlib.metadata
from collections.abc import Iterable


def versions(packages: Iterable[str]) -> str:
    """Of those that are installed."""
    installed = []
    for package in packages:
        try:
            installed.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(installed)
