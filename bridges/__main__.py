"""`python -m bridges`: checkpoints and adapters in and out, from the command line."""
import argparse
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from jaxrl_moe import endings, paths
from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.types import UserError

DESCRIPTION = """Moves models between Hugging Face folders, PEFT adapters and this package's own files.

  import   Hugging Face folder or hub name -> folder of our parameters (Orbax)
  export   training run or folder of our parameters -> Hugging Face folder, adapters merged in
  merge    Hugging Face folder + PEFT adapter -> Hugging Face folder
  adapter  training run -> PEFT adapter folder, with the critic if the run has one
  critic   training run -> folder of its critic alone
  verify   compares our logits with those of transformers on the same folder
  score    log-probabilities of token ids, from JSON lines to JSON lines
  push     a model, training run or adapter -> a running SGLang or vLLM server, which is then probed
  diff     compares two folders of safetensors: names, shapes, largest differences

Every output appears whole or not at all. `python -m bridges COMMAND --help` tells more."""
SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
MODEL_HELP = "Hugging Face folder, hub name such as Qwen/Qwen3-0.6B, or a folder made by import"
AddCommand = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
RUN_HELP = "training run (its run_dir), or one checkpoint folder in it"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status. Whatever goes wrong prints one paragraph and gives 1."""
    try:
        options = _parser().parse_args(arguments)
        status = options.run(options)
        endings.flush_output()
    except (Exception, KeyboardInterrupt) as error:
        return endings.tell(error)
    return status


def _import(options: argparse.Namespace) -> int:
    from bridges.hf.importing import import_checkpoint
    _check_output(options)
    import_checkpoint(options.model, options.output, overwrite=options.overwrite)
    print(f"Wrote {options.output}; scripts and the other commands take it as a model folder.")
    return 0


def _export(options: argparse.Namespace) -> int:
    from bridges.hf.exporting import export_model
    _check_output(options)
    model, base = _open(options.model, options.base)
    export_model(model, options.output, merge=not options.no_merge, dtype=options.dtype, source=base,
                 max_shard_bytes=options.max_shard_size, overwrite=options.overwrite)
    print(f"Wrote {options.output}. Check it with: python -m bridges verify {options.output}")
    return 0


def _merge(options: argparse.Namespace) -> int:
    from bridges.hf.exporting import export_model
    from bridges.hf.importing import stored_dtype
    _check_output(options)
    model = _load(options.model, options.adapter, stored_dtype(options.model))
    export_model(model, options.output, dtype=options.dtype, source=options.model,
                 max_shard_bytes=options.max_shard_size, overwrite=options.overwrite)
    print(f"Wrote {options.output}. Check it with: python -m bridges verify {options.output}")
    return 0


def _adapter(options: argparse.Namespace) -> int:
    from bridges.peft.adapters import export_adapter
    _check_output(options)
    model, base = _open(options.model, options.base)
    export_adapter(model, options.output, base=base, overwrite=options.overwrite,
                   critic=_critic_of(options.model)[0])
    print(f"Wrote {options.output}. Check it with: python -m bridges verify {base} --adapter "
          f"{options.output}")
    return 0


def _critic(options: argparse.Namespace) -> int:
    from bridges.errors import BridgeError
    from bridges.peft.critics import export_critic
    _check_output(options)
    critic, base = _critic_of(options.model)
    if critic is None:
        raise BridgeError(f"{options.model} is no training run with a critic: give the run_dir of one whose "
                          "algorithm.advantage has a critic, such as gae, or one of its checkpoints.")
    export_critic(critic, options.output, base=options.base or base, overwrite=options.overwrite)
    print(f"Wrote {options.output}; a run starts from it with --config.critic.path={options.output}.")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from bridges.compare.verify import verify
    agreement = verify(options.model, options.adapter, rows=options.rows, length=options.length,
                       seed=options.seed)
    print(f"max|ours - theirs| / max|theirs| = {agreement.error:.2e} "
          f"on {options.rows} x {options.length} tokens; tolerance {options.tolerance:.0e}")
    print(f"choices of experts that differ: {agreement.near_ties} near ties, "
          f"{agreement.misrouted} clear ones")
    if agreement.selection_bias and agreement.misrouted and agreement.error <= options.tolerance:
        print(f"Error: the routers of {options.model} choose experts by a selection bias "
              "(router_selection_bias in its config.json), which transformers and other stock loaders of "
              f"{agreement.family} ignore: they choose otherwise and do not compute this model. Under their "
              "choice our logits agree with theirs, so the weights are right; use the folder with this "
              "package only.",
              file=sys.stderr)
        return 1
    if not agreement.error <= options.tolerance or agreement.misrouted:
        print(f"Error: our logits for {options.model} differ from those of transformers by more than the "
              "tolerance, or a router chooses otherwise. Please report the folder's config.json; do not "
              "train on it.", file=sys.stderr)
        return 1
    return 0


def _score(options: argparse.Namespace) -> int:
    from bridges.compare.score import score
    from bridges.hf.folders import check_new_file
    check_new_file(options.output, options.overwrite)
    rows = score(_load(options.model, options.adapter, options.dtype), options.input, options.output,
                 options.overwrite)
    print(f"Wrote {rows} rows to {options.output}.")
    return 0


def _push(options: argparse.Namespace) -> int:
    from bridges.engines.push import push
    from bridges.errors import BridgeError
    from bridges.hf.importing import stored_dtype
    from jaxrl_moe.hosts.keys import key_of_setting
    alone = options.adapter and not options.merge
    for flag, useless in (("--merge", options.merge and not options.adapter),
                          ("--folder", options.folder and alone),
                          ("--base", options.base and options.adapter),
                          ("--backend", options.backend and alone)):
        if useless:
            raise BridgeError(f"{flag} has no effect {'with' if options.adapter else 'without'} --adapter "
                              "here: leave it out.")
    if options.adapter:
        model, base = _load(options.model, options.adapter, stored_dtype(options.model)), options.model
    else:
        model, base = _open(options.model, options.base)
    weights, error = push(model, base, options.url, options.engine,
                          adapter=options.adapter if alone else None, name=options.name,
                          backend=options.backend or "stream", folder=options.folder or "",
                          api_key=key_of_setting("--api-key-env", options.api_key_env, "the server"),
                          tolerance=options.tolerance)
    what = f"all weights, as version {weights.label!r} ({weights.bytes:,} bytes)"
    if weights.adapter:
        what = f"the adapter {weights.label!r}"
    print(f"{options.url} has {what}; on the probe its log-probs differ from ours by {error:.1e} nats on "
          "average.")
    return 0


def _diff(options: argparse.Namespace) -> int:
    from bridges.compare.diff import describe, diff
    differences = diff(options.a, options.b)
    print(describe(differences, options.a, options.b, options.rows))
    return 0 if differences.empty else 1


def _check_output(options: argparse.Namespace) -> None:
    """Refuses before anything is loaded what would be refused after it, or would be lost."""
    from bridges.hf.folders import check_new_folder, refuse_sources
    refuse_sources(options.output, options.model, getattr(options, "adapter", None),
                   getattr(options, "base", None))
    check_new_folder(options.output, options.overwrite)


def _open(path: str, base: str | None):
    """The model at `path`, which is a training run or a model folder, and the folder it came from."""
    from bridges.hf.importing import load_model, stored_dtype
    from bridges.training_runs import find_step, load_run
    step = find_step(pathlib.Path(path))
    if step is not None:
        return load_run(step, base)
    return load_model(path, dtype=stored_dtype(path)), base or path


def _critic_of(path: str):
    """(the critic of a training run's newest checkpoint, its base model); Nones where there is none."""
    from bridges.training_runs import find_step, load_run_critic
    step = find_step(pathlib.Path(path))
    return (step and load_run_critic(step)) or (None, None)


def _load(path: str, adapter: str | None, dtype: str | None):
    from bridges.hf.importing import load_model
    from bridges.peft.adapters import import_adapter, read_lora
    if adapter is None:
        return load_model(path, dtype=dtype)
    model = load_model(path, lora=read_lora(adapter), dtype=dtype)
    import_adapter(model, adapter)
    return model


def _path(text: str) -> str:
    path = paths.expanded(text)
    if not path or paths.unusable(path):
        raise argparse.ArgumentTypeError(f"{text!r} {paths.unusable(path) or 'names no file or folder'}")
    return path


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) *([KMG]B)", text.upper().strip())
    size = int(float(match[1]) * SIZES[match[2]]) if match else 0
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 5GB or 500MB")
    return size


def _whole(text: str, least: int = 0) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to 999999999")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, 1)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on, such as 1e-5")
    return value


class _Parser(argparse.ArgumentParser):
    """Refuses by a UserError, an option's name that is short too; other options come from `known`."""

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings, allow_abbrev=False)
        self.register("action", None, _Once)
        self.register("action", "store", _Once)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        found, rest = super().parse_known_args(args, namespace)
        options = [word.partition("=")[0] for word in rest if word.startswith("-")]
        if options:
            self.error(f"{options[0]} is not an option."
                       f"{did_you_mean(options[0], self._option_string_actions)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        message = message.rstrip(".") if not message.endswith("?") else message
        raise UserError(f"{message}{'' if message.endswith('?') else '.'} See {self.prog} --help.")


class _Once(argparse._StoreAction):
    """Stores a value, and refuses a second one, of which one would have no effect."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        given = namespace.__dict__.setdefault("_given", {})
        if option_string and given.setdefault(self.dest, values) != values:
            parser.error(f"{option_string} is given twice, as {given[self.dest]!r} and as {values!r}: leave "
                         "one out")
        super().__call__(parser, namespace, values, option_string)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("python -m bridges", description=DESCRIPTION,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    _debug(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        _debug(added)
        return added

    _add_conversions(command)
    _add_scores(command)
    _add_push(command)
    _add_diff(command)
    return parser


def _add_conversions(command: AddCommand) -> None:
    added = command("import", _import, "Converts a Hugging Face checkpoint into a folder of our parameters.")
    added.add_argument("model", type=_path, help="Hugging Face folder, or hub name such as Qwen/Qwen3-0.6B")
    _output(added, sharded=False, dtype=False)
    added = command("export", _export, "Writes a Hugging Face checkpoint that transformers, vLLM and SGLang "
                                       "load.")
    added.add_argument("model", type=_path, help=f"{RUN_HELP}; or a folder made by import")
    added.add_argument("--base", type=_path,
                       help="the model that training started from, if it has moved since")
    added.add_argument("--no-merge", action="store_true", help="leave adapters out: the base weights alone")
    _output(added)
    added = command("merge", _merge, "Folds a PEFT adapter into its base model: in float32, cast once at the "
                                     "end.")
    added.add_argument("--model", type=_path, required=True, help=MODEL_HELP)
    added.add_argument("--adapter", type=_path, required=True, help="PEFT adapter folder or hub name")
    _output(added, named=True)
    added = command("adapter", _adapter, "Writes the adapters of a training run as a PEFT folder.")
    added.add_argument("model", type=_path, help=RUN_HELP)
    added.add_argument("--base", type=_path,
                       help="the model that training started from, if it has moved since")
    _output(added, sharded=False, dtype=False)
    added = command("critic", _critic, "Writes the critic of a training run: a value head that another run "
                                       "can start from.")
    added.add_argument("model", type=_path, help=RUN_HELP)
    added.add_argument("--base", type=_path, help="what to name as the base model, if it has moved since")
    _output(added, sharded=False, dtype=False)


def _add_scores(command: AddCommand) -> None:
    added = command("verify", _verify, "Compares our float32 logits with those of transformers (needs "
                                       "torch); fails above the tolerance.")
    added.add_argument("model", type=_path, help="Hugging Face folder, or hub name")
    added.add_argument("--adapter", type=_path, help="PEFT adapter folder, to be loaded on both sides")
    added.add_argument("--tolerance", type=_tolerance, default=1e-5,
                       help="largest relative difference (default %(default)g)")
    added.add_argument("--rows", type=_count, default=2,
                       help="random sequences compared (default %(default)s)")
    added.add_argument("--length", type=_count, default=64, help="tokens in each (default %(default)s)")
    added.add_argument("--seed", type=_whole, default=0, help="draws the tokens (default %(default)s)")
    added = command("score", _score, 'Reads rows {"ids": [...]} and writes {"logprobs": [...]}, one per next '
                                     'token, float32.')
    added.add_argument("--model", type=_path, required=True, help=MODEL_HELP)
    added.add_argument("--adapter", type=_path, help="PEFT adapter folder or hub name")
    added.add_argument("--input", type=_path, required=True, help='JSON lines of {"ids": [...]}')
    added.add_argument("--output", type=_path, required=True, help="JSON lines, one for each of the input")
    added.add_argument("--overwrite", action="store_true", help="replace the output if it is there already")
    added.add_argument("--dtype", choices=("float32", "bfloat16"),
                       help="of the weights (default: float32 on CPU, bfloat16 elsewhere)")


def _add_push(command: AddCommand) -> None:
    added = command("push", _push, "Brings a running SGLang or vLLM server to a model's weights, and "
                                   "compares its log-probs with ours.")
    added.add_argument("url", help="of the server, such as http://127.0.0.1:30000")
    added.add_argument("model", type=_path, help=f"{RUN_HELP}; or {MODEL_HELP[0].lower() + MODEL_HELP[1:]}")
    added.add_argument("--engine", required=True, choices=("sglang", "vllm"), help="what runs there")
    added.add_argument("--adapter", type=_path,
                       help="PEFT folder, loaded on its own beside the weights that the server has")
    added.add_argument("--merge", action="store_true",
                       help="fold the adapter into the model and send all weights")
    added.add_argument("--base", type=_path,
                       help="the model that training started from, if it has moved since")
    added.add_argument("--name", default="", help="what the server shall call the adapter or the version")
    added.add_argument("--backend", choices=("stream", "disk", "distributed"),
                       help="how all weights get there: in buckets (the default) or as one checkpoint "
                            "through --folder, or broadcast")
    added.add_argument("--folder", type=_path,
                       help="where all weights are left for the server; needed if it is on another machine")
    added.add_argument("--api-key-env", default="",
                       help="environment variable that holds the server's API key")
    added.add_argument("--tolerance", type=_tolerance, default=0.0, help="largest mean difference in nats "
                                                                    "(default: 1e-4, or 0.1 in bfloat16)")


def _add_diff(command: AddCommand) -> None:
    added = command("diff", _diff, "Compares two folders of safetensors, checkpoints or adapters; exits with "
                                   "1 if they differ.")
    added.add_argument("a", type=_path, help="folder or hub name")
    added.add_argument("b", type=_path, help="folder or hub name")
    added.add_argument("--rows", type=_count, default=10,
                       help="tensors listed, the worst first (default %(default)s)")


def _debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="the full traceback of an error, before the "
                                                             "paragraph about it")


def _output(parser: argparse.ArgumentParser, named: bool = False, sharded: bool = True, dtype: bool = True):
    parser.add_argument(*(["--output"] if named else ["output"]), **({"required": True} if named else {}),
                        type=_path, help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it is there already")
    parser.set_defaults(dtype=None)
    if dtype:
        parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"),
                            help="cast all tensors (default: keep their dtypes)")
    if sharded:
        parser.add_argument("--max-shard-size", type=_size, metavar="SIZE",
                            help="of one file, such as 5GB (default: as in the source, or 5GB)")


if __name__ == "__main__":
    endings.install()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
