"""Whole commands in processes of their own, their arguments mutated: a paragraph and an exit code, or what
was asked for."""
import pathlib
import random
import re

import bridges
from jaxrl_moe.model.config import LoraConfig
from tests.fuzz.runner import Target, Wrong
from tests.fuzz.targets.models import SMALL
from tests.fuzz.targets.settings import WORDS
from tests.fuzz.zygote import Zygote
from tests.helpers.parity import randomise_adapters
from tests.helpers.tiny_models import make_checkpoint
from tests.helpers.tiny_run import make_files

RECIPE = """import pathlib
from tests.helpers.tiny_run import settings

def get_config():
    return settings(pathlib.Path({files!r}), pathlib.Path({run!r}), train__steps=2, sft__steps=1)
"""
COMMANDS = (
    "scripts/train.py --config=IN/recipe.py --dry_run",
    "scripts/sft.py --config=IN/recipe.py --dry_run",
    "scripts/evaluate.py --config=IN/recipe.py --model=IN/base --dry_run",
    "scripts/plan.py --config=IN/recipe.py --chip=H200 --devices=1 --price=2.5 --mesh=fsdp=1",
    "scripts/generate.py --model=IN/base --adapter=IN/adapter --prompt=hello --n=1 --max_tokens=4 "
    "--temperature=0.5 --top_p=0.9 --top_k=3 --min_p=0.1 --seed=1",
    "scripts/serve.py --model=IN/base --port=0 --slots=2 --max_prompt_tokens=16 --max_tokens=16 "
    "--decode_steps=4 --max_queue=2 --seed=0 --grace=1 --record=OUT/served.jsonl",
    "-m bridges import IN/base OUT/ours", "-m bridges export IN/base OUT/model --dtype=bfloat16",
    "-m bridges merge --model=IN/base --adapter=IN/adapter --output=OUT/merged --max-shard-size=1MB",
    "-m bridges diff IN/base IN/base --rows=3", "-m bridges critic IN/base OUT/critic",
    "-m bridges score --model=IN/base --input=IN/ids.jsonl --output=OUT/scores.jsonl",
    "-m bridges export IN/base OUT/model --overwrite", "-m bridges adapter IN/base OUT/adapter")
TRAINING = ("scripts/train.py", "scripts/sft.py", "scripts/evaluate.py")
OPTIONS = (
    "--nosuch=1", "--help", "--version", "extra", "--overwrite", "--dry_run=maybe", "--nodry_run=1",
    "--flagfile=/etc/passwd", "--undefok=x", "--v=x", "--config", "--", "-h", "--model", "--output=IN/base",
    "--only_check_args", "--run_with_pdb=false", "--helpfull", "--alsologtostderr", "--logtostderr=x")
PLACES = (
    "IN/base", "IN", "OUT", "IN/base/config.json", "IN/nowhere", "/dev/null", "/proc/self/mem", "", ".",
    "IN/base/", "IN/base/../base", "IN/adapter", "IN/recipe.py", "IN/train.jsonl", "a/b", "a/b/c",
    "http://127.0.0.1:1/x", "IN/ids.jsonl", "OUT/mine", "OUT/mine")
# What an option's number may be, where the command says yes.
NUMBERS = {
    "n": (1, 1024), "max_tokens": (1, 2**31), "temperature": (0, 100), "top_p": (1e-9, 1),
    "top_k": (0, 2**31), "min_p": (0, 1), "slots": (1, 4096), "max_prompt_tokens": (1, 2**31),
    "decode_steps": (1, 4096), "max_queue": (0, 2**31), "price": (0, 1e9), "devices": (0, 4096),
    "rows": (0, 10**9), "grace": (0, 1e9), "port": (0, 65535)}


class Commands(Target):
    """Scripts, and python -m bridges."""
    name = "commands"
    named = False
    seconds = 150.0
    share = 0.2

    def prepare(self, inputs: pathlib.Path) -> None:
        make_files(inputs)
        make_checkpoint(inputs / "base", "qwen3", **SMALL | dict(num_hidden_layers=1))
        model = bridges.load_model(inputs / "base", lora=LoraConfig(4, 8.0, targets=("q_proj",)))
        randomise_adapters(model)
        bridges.export_adapter(model, inputs / "adapter", base=inputs / "base")
        (inputs / "ids.jsonl").write_text('{"ids": [1, 2, 3]}\n')
        run = inputs.parent / "output/run"
        (inputs / "recipe.py").write_text(RECIPE.format(files=str(inputs), run=str(run)))
        self.zygote = Zygote()
        self.argv = COMMANDS[9].split()

    def close(self) -> None:
        self.zygote.close()

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        argv = rng.choice(COMMANDS).split()
        for _ in range(rng.choice((1, 1, 2))):
            first = 3 if argv[0] == "-m" else 1
            place = rng.randrange(first, len(argv)) if len(argv) > first else first
            change = rng.random()
            if change < 0.12 or place >= len(argv):
                argv.insert(place, rng.choice(OPTIONS))
            elif change < 0.2:
                del argv[place]
            elif change < 0.25:
                argv.insert(place, argv[place])
            elif change < 0.3:
                argv[place] = argv[place][:4] + argv[place][5:]
            else:
                argv[place] = self._value(rng, argv[place])
        if argv[0] in TRAINING and "--dry_run" not in argv:
            argv.append("--dry_run")  # none of them shall train
        self.argv = argv
        return {}, " ".join(argv)[:250]

    def _value(self, rng: random.Random, argument: str) -> str:
        name, equals, value = argument.partition("=")
        is_path = any(part in (value or name) for part in ("IN", "OUT"))
        new = rng.choice(PLACES if is_path and rng.random() < 0.7 else WORDS)
        return f"{name}={new}" if equals else new

    def call(self, arena):
        argv = [word.replace("IN", str(arena.inputs)).replace("OUT", str(arena.output)) for word in self.argv]
        here = arena.output / "here"
        here.mkdir()
        mine = arena.output / "mine"
        mine.mkdir()
        for folder in (here, mine):
            (folder / "notes.txt").write_text("mine")
        status, out, err = self.zygote.run(argv, here, arena.root / "texts", self.seconds - 60)
        if status is None:
            raise Wrong("it did not end", err[-1500:])
        if status < 0:
            raise Wrong(f"a signal ended it: {-status}", err[-1500:])
        if "Traceback (most recent call last)" in err:
            frames = re.findall(r'File "[^"]*?((?:jaxrl_moe|bridges|scripts)/[^"]+)", line (\d+)', err)
            where = ":".join(frames[-1]) if frames else ""
            raise Wrong(f"a traceback at {where} {err.strip().splitlines()[-1].split(':')[0]}", err[-2000:])
        if not all((folder / "notes.txt").exists() for folder in (here, mine)):
            raise Wrong("a folder that is no model was emptied", err[-500:])
        return status, out, err

    def judge(self, arena, result):
        status, out, err = result
        if status and not (err + out).strip():
            return "it failed without a word"
        if status and len(err) > 20_000:
            return f"endless words: {len(err)} characters"
        if status == 0 and not {"--help", "-h", "--helpfull", "--version"} & set(self.argv):
            return self._accepted()
        return ""

    def _accepted(self) -> str:
        given = {}
        for argument in self.argv:
            name, equals, value = argument.lstrip("-").partition("=")
            if equals and name in NUMBERS:
                given[name] = value
        for name, value in given.items():
            try:
                number = float(int(value, 0)) if value.startswith("0x") else float(value)
            except (ValueError, OverflowError):
                return f"no number was taken: --{name}={value[:40]!r}"
            if not NUMBERS[name][0] <= number <= NUMBERS[name][1]:
                return f"a number out of bounds was taken: --{name}={value[:40]!r}"
        return ""


TARGETS = (Commands,)
