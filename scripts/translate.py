"""Prints another system's configuration as a recipe of ours, with a comment for each line: where it comes
from, and why.

    python scripts/translate.py synth FILE.toml --task_url=http://localhost:8101
    python scripts/translate.py skyrl config.yaml trainer.policy.model.path=MODEL trainer.train_batch_size=64
    python scripts/translate.py slime --hf-checkpoint MODEL --tensor-model-parallel-size 2 --gamma 0.4
    python scripts/translate.py synth FILE.toml --out=my_recipe.py

The recipe's docstring lists what has no meaning here, with the reason. scripts/train.py takes the same
configurations themselves. --out=FILE writes the recipe, in place of printing it.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib
import sys

from jaxrl_moe import endings
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError


def main(words: list[str]) -> None:
    """Translates what the words say."""
    if not words or {"--help", "-h"} & set(words[:1]):
        print(__doc__.strip())
        return
    from bridges import dialects  # takes a moment
    name, *rest = words
    if name not in dialects.READ:
        raise UserError(f"There is no dialect {quoted(name)}.{did_you_mean(name, dialects.READ)} Give one of "
                        f"{', '.join(dialects.READ)} first.")
    rest, out = taken_out(rest)
    text = dialects.recipe(dialects.READ[name](rest))
    if not out:
        print(text, end="")
        return
    write(out, text)
    print(f"Wrote {out}. Start it with: python scripts/train.py --config={out}")


def taken_out(words: list[str]) -> tuple[list[str], str]:
    """(the dialect's own words, the file to write; empty for none). --debug is read elsewhere."""
    out = ""
    rest = []
    for word in words:
        if word.startswith("--out="):
            out = word.removeprefix("--out=")
        elif word != "--debug":
            rest.append(word)
    if "--out" in rest:
        raise UserError("--out needs a file: write --out=FILE.py.")
    return rest, out


def write(out: str, text: str) -> None:
    """Writes the recipe, whole or not at all."""
    from jaxrl_moe import log_files, paths
    path = pathlib.Path(paths.usable(out))
    if not path.parent.is_dir():
        raise UserError(f"--out={out}: the folder {path.parent} does not exist. Make it, or name another "
                        "file.")
    log_files.replace(path, text.encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
        endings.flush_output()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(endings.tell(error))
