"""Options of scripts that are more than text."""
import sys

from absl import flags

from jaxrl_moe import paths


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        path = paths.expanded(argument)
        if paths.unusable(path):
            raise ValueError(f"{path!r} {paths.unusable(path)}")
        return path


def define_path(name: str, default: str | None, meaning: str) -> flags.FlagHolder:
    """A script's option that is a path or a hub name, with `~` as the home folder. To be called at its
    top."""
    return flags.DEFINE(_PathParser(), name, default, meaning, module_name=sys.argv[0])


def define_dry_run() -> flags.FlagHolder:
    """A script's --dry_run. To be called at its top."""
    return flags.DEFINE_bool("dry_run", False, "only says what would happen, or all that speaks against it; "
                             "nothing is written", module_name=sys.argv[0])
