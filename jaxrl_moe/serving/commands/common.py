"""Options that all commands of scripts/serve.py have."""
import dataclasses

from absl import flags

from jaxrl_moe.options import define_number, define_path, define_text


@dataclasses.dataclass(frozen=True)
class CommonOptions:
    """Where a server listens, the file with its API key, and the seconds that calls at work have at its
    end."""
    host: flags.FlagHolder
    port: flags.FlagHolder
    key_file: flags.FlagHolder
    grace: flags.FlagHolder


def define(port: int) -> CommonOptions:
    """Defines them; `port` is the one that it takes unless told otherwise."""
    return CommonOptions(
        define_text("host", "127.0.0.1", "address to listen on; one that others can reach needs an API key"),
        define_number("port", port, "0 takes a free one", 0, 65535),
        define_path("api_key_file", "", "file with the API key; empty: the variable JAXRL_MOE_API_KEY, or no "
                                        "key"),
        define_number("grace", 30.0, "seconds that requests in flight have after SIGTERM", 1))
