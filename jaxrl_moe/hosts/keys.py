"""API keys: from an environment variable or a file, never from an option, since options show in process
lists. None is ever printed."""
import os
import pathlib

from jaxrl_moe.types import UserError

KEY_VARIABLE = "JAXRL_MOE_API_KEY"  # of scripts/serve.py


def key_of_setting(setting: str, variable: str, whose: str) -> str:
    """The API key in the environment variable that a setting names; "" where it names none.

    Args:
      setting: such as servers.api_key_env.
      variable: its value.
      whose: the key is, such as "the servers".

    Raises:
      UserError: the variable is not set, or an HTTP header cannot hold what it has.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise UserError(f"{setting} = {variable!r} names an environment variable that is not set: set it to "
                        f"the API key of {whose}, or leave {setting} empty.")
    return _fit(key)


def key_of_file(path: str) -> str:
    """The API key in a file; where none is named, that in KEY_VARIABLE, or "".

    Raises:
      UserError: the file is empty, or an HTTP header cannot hold the key.
    """
    key = pathlib.Path(path).read_text().strip() if path else os.environ.get(KEY_VARIABLE, "").strip()
    if path and not key:
        raise UserError(f"{path!r} holds no API key. Write one line into it, such as what `openssl rand -hex "
                        "24` prints.")
    return _fit(key)


def _fit(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError("The API key has spaces, control characters or letters beyond ASCII, which HTTP "
                        "headers cannot hold.")
    return key
