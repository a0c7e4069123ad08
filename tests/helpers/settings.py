"""Configurations with some settings changed, as a command line would."""
from jaxrl_moe.config import base


def changed(**values):
    """base() with dotted keys (two underscores for the dot) set."""
    settings = base()
    for key, value in values.items():
        settings.update_from_flattened_dict({key.replace("__", "."): value})
    return settings


def usable(**values):
    return changed(**{"model__path": "m", "data__path": "d", "env__name": "gsm8k"} | values)
