"""What `--help` prints: a script's options, and every setting with meaning, default, choices and bounds."""
import inspect
import shutil
import sys
import textwrap

from absl import flags

from jaxrl_moe import config as config_lib
from jaxrl_moe.checks.settings import table_rows

_WIDEST = 44  # of an option's column; a longer one has its meaning on the next line
_SHARED = "jaxrl_moe.cli"  # which gives options to scripts
_FALLBACK = (120, 24)  # where no terminal says its size
_INTRODUCTION = (
    "Settings: --config=FILE.py names a recipe, --config.section.key=value overrides one of its settings, "
    "as in --config.optimizer.learning_rate=1e-4 --config.lora.targets=q_proj,v_proj. Defaults, before the "
    "recipe:")


def width() -> int:
    """Columns of the terminal, at least 60."""
    return max(60, shutil.get_terminal_size(_FALLBACK).columns)


def options_help() -> str:
    """The script's options, but for its settings; empty if it has none."""
    own = [flag for module in (sys.argv[0], _SHARED) for flag in flags.FLAGS.get_key_flags_for_module(module)]
    own = [flag for flag in own if flag.name != "config"]
    lines = [_entry(f"--{flag.name}={_default(flag)}", _own_words(flag)) for flag in own]
    return "\n".join(["Options:", *lines]) if lines else ""


def settings_help() -> str:
    """Every setting, section by section."""
    blocks = {"": []} | {name: [_heading(name, kind)] for name, kind in config_lib.SECTIONS.items()}
    for key, field in config_lib.known_fields().items():
        option = f"--config.{key}={config_lib.shown(field.default)}"
        blocks[key.rpartition(".")[0]] += _explained(option, config_lib.setting_of(field))
    introduction = _filled(_INTRODUCTION, "", "")
    return "\n\n".join([introduction, *("\n".join(lines) for lines in blocks.values())])


def _explained(option: str, described: config_lib.Setting) -> list[str]:
    """The lines of a setting: what it means and may be, then what its choices mean."""
    choices = [_choice(name, meaning) for name, meaning in described.choices.items() if meaning]
    return [_entry(option, explained(described)), *choices]


def explained(described: config_lib.Setting) -> str:
    """A setting's meaning, and in brackets its unit, its bounds and the names of its choices."""
    facts = [*filter(None, [described.unit, described.bounds(), _choices(described)])]
    return described.meaning + (f" [{'; '.join(facts)}]" if facts else "")


def _choices(described: config_lib.Setting) -> str:
    names = [*described.choices, *(table_rows(described.table) if described.table else ())]
    return " | ".join(name or "empty" for name in names)


def _choice(name: str, meaning: str) -> str:
    """A line of its own for what one of the choices means."""
    indent = " " * (_WIDEST + 5)
    return _filled(f"{name or 'empty'}: {meaning}", indent, indent + "  ")


def _heading(section: str, kind: type) -> str:
    return _filled(f"{section}: {' '.join(inspect.getdoc(kind).split())}", "", "")


def _default(flag: flags.Flag) -> str:
    return "..." if flag.default in (None, []) else str(flag.default)


def _own_words(flag: flags.Flag) -> str:
    words = " ".join(flag.help.split()).removesuffix("; repeat this option to specify a list of values")
    # absl writes "<a|b|c>: meaning"
    choices, closing, rest = words.partition(">: ") if words.startswith("<") else ("", "", words)
    return choices.replace("|", " | ") + closing + rest


def _entry(option: str, meaning: str) -> str:
    """An option and its meaning, which is wrapped in a column of its own at the terminal's width."""
    indent = " " * (_WIDEST + 3)
    first = f"  {option:<{_WIDEST}} "
    if len(first) > len(indent):
        return f"  {option}\n" + _filled(meaning, indent, indent)
    return _filled(meaning, first, indent).rstrip()


def _filled(text: str, first: str, rest: str) -> str:
    return textwrap.fill(text, width(), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
