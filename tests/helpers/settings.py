"""Configurations with some settings changed, as a command line would."""
from jaxrl_moe.checks import entry, problems
from jaxrl_moe.checks.start import training
from jaxrl_moe.config import base


def changed(**values):
    """base() with dotted keys (two underscores for the dot) set."""
    settings = base()
    for key, value in values.items():
        settings.update_from_flattened_dict({key.replace("__", "."): value})
    return settings


def refuse_settings(config, start=training):
    """Raises ConfigError for what speaks against these settings, as far as no file tells."""
    problems.refuse(entry.here(start(config, None)))


def usable(**values):
    return changed(**{"model__path": "m", "data__path": "d", "env__name": "gsm8k"} | values)
