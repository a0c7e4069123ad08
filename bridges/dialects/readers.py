"""The dialects' readers: for scripts/translate.py, and for scripts that take them in place of a recipe."""
from collections.abc import Callable, Mapping, Sequence

from bridges.dialects.skyrl import reading as skyrl
from bridges.dialects.slime import reading as slime
from bridges.dialects.synth import reading as synth
from bridges.dialects.translation import Translation
from jaxrl_moe.foreign import Dialect, Foreign

READ: Mapping[str, Callable[[Sequence[str]], Translation]] = {
    "synth": synth.read, "skyrl": skyrl.read, "slime": slime.read}
_ENDINGS = {"synth": (".toml",), "skyrl": (".yaml", ".yml")}


def _reader(name: str) -> Dialect:
    def read(words: Sequence[str]) -> Foreign:
        translation = READ[name](words)
        unused = len(translation.unused)
        without = f"; {unused} of its keys change{'s' * (unused == 1)} nothing here" if unused else ""
        said = (f"{translation.source} ({name}): {len(translation.assigned)} settings{without}. "
                f"scripts/translate.py {name} prints each with its reason.")
        return Foreign(translation.settings(), translation.missing, said)
    return Dialect(name, _ENDINGS.get(name, ()), read)


READERS = tuple(map(_reader, READ))
