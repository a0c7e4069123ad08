"""The pages on judges: their commands have the options that they name, their tables are those of the code,
and their numbers come out."""
import json
import pathlib
import re
import shlex

import jax
import pytest

from jaxrl_moe.config import known_keys
from jaxrl_moe.judges.records import MODES, work_of
from jaxrl_moe.judges.rubric import rubric_of
from jaxrl_moe.planning.catalogue import checkpoint
from jaxrl_moe.planning.fits import Demand, fit
from jaxrl_moe.planning.waiting import Waiting

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [DOCS / "judges.md", *sorted((DOCS / "judges").glob("*.md"))]
TEXTS = {page.stem: page.read_text() for page in PAGES}
DEFINED = re.compile(r"(?:define_\w+|DEFINE\w*)\(\s*(?:_?\w+Parser\(\),\s*)?\"([\w-]+)\"")
GIB = 2**30


def blocks(text, language=""):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [block for name, block in found if name == language]


def commands(text):
    """The words of each command of ours in blocks and tables, from the script on."""
    lines = "\n".join(blocks(text)).replace("\\\n", " ").splitlines() + re.findall(r"`([^`\n]*)`", text)
    split = [shlex.split(line, comments=True) for line in lines if line.startswith("python scripts/")]
    return [words[1:] for words in split]


COMMANDS = [(page, words) for page, text in TEXTS.items() for words in commands(text)]


def options_of(script, command):
    """Names of the options of a script, or of one of its commands, and of those that go with a TOML."""
    files = [ROOT / script, ROOT / "jaxrl_moe" / "cli.py"]
    if command:
        folder = ROOT / "jaxrl_moe" / "serving" / "commands"
        files = [folder / f"{command.replace('-', '_')}.py", folder / "common.py"]
    text = "\n".join(file.read_text() for file in files)
    names = {*DEFINED.findall(text), "help", "config", *(["dry_run"] if "define_dry_run()" in text else [])}
    return names | ({"task-url", "env-file"} if "dialects=" in (ROOT / script).read_text() else set())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_is_in_the_table_of_contents_and_its_links_lead_somewhere(page):
    assert f"({page.relative_to(DOCS)})" in (DOCS / "README.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, section = link.partition("#")
        target = page.parent / path if path else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
        assert not section or section in [heading.lower().replace(" ", "-") for heading in headings], link
    for block in blocks(page.read_text(), "python"):
        exec(block, {})


@pytest.mark.parametrize("page, words", COMMANDS, ids=lambda value: " ".join(value)[:60]
                         if isinstance(value, list) else value)
def test_a_command_of_a_page_has_the_options_that_it_names(page, words):
    script, *rest = words
    command = rest.pop(0) if script.endswith("serve.py") and not rest[0].startswith("-") else ""
    known = options_of(script, command)
    for option in rest:
        name, _, value = option.removeprefix("--").partition("=")
        if script.endswith("view.py"):
            continue  # it takes folders
        assert option.startswith("--"), (page, option)
        if name.startswith("config."):
            assert name.removeprefix("config.") in known_keys(), (page, option)
        else:
            assert name in known, (page, option)
        if value.startswith("configs/"):
            assert (ROOT / value.partition(":")[0]).is_file(), (page, option)


def test_the_scripts_and_servers_are_all_shown():
    shown = {" ".join(words[:2]) if words[0].endswith("serve.py") else words[0] for _, words in COMMANDS}
    assert {"scripts/serve.py task-app", "scripts/serve.py judge", "scripts/serve.py judge-page",
            "scripts/judges.py", "scripts/train.py", "scripts/models.py", "scripts/plan.py"} <= shown


def test_rubrics_and_modes_are_those_of_the_code():
    (rubric,) = blocks(TEXTS["judges"], "json")
    assert rubric_of(json.loads(rubric), "the page").total({"works": 1, "looks": 0.5}) == 0.75
    assert re.findall(r"^\| `(\w+)` \| .* \| .* \|$", TEXTS["judges"], re.M) == list(MODES)


def test_the_request_of_the_page_is_one():
    from jaxrl_moe.serving.judges.bodies import ScoreBody
    (request,) = blocks(TEXTS["ai_judge"], "json")
    body = ScoreBody.model_validate(json.loads(request))
    work = work_of(body.trace, "trace")
    assert (work.group_size, work.parts[0].kind, body.options.provider) == (4, "html", "model")


def test_the_names_and_ports_of_our_task_apps_are_those_of_the_server():
    from jaxrl_moe.serving.tasks.launch import APPS
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| .* \| (people|a model) \|$", TEXTS["task_apps"], re.M)
    people = {"human": "people", "model": "a model"}
    assert rows == [(name, str(kind.port), people[kind.provider]) for name, kind in APPS.items()]


def test_the_hours_of_waiting_come_out():
    rows = re.findall(r"^\| [^|\d]*(\d+)( to (\d+))? (minutes|seconds)[^|]* \| (\d+) \| (.*?) \| (.*?) \|$",
                      TEXTS["agora_ex"], re.M)
    assert len(rows) == 5
    for low, _, high, unit, at_once, waited, worked in rows:
        told = []
        for number in filter(None, (low, high)):
            minutes = int(number) / (60 if unit == "seconds" else 1)
            judged = Waiting(12, 32, "rollouts", 0, 0, True, minutes, int(at_once))
            told.append((judged.hours(minutes), judged.hours_of_work))
        size = 60 if unit == "seconds" else 1
        word = {60: "min", 1: "h"}[size]
        for cell, values in ((waited, [first for first, _ in told]), (worked, [last for _, last in told])):
            assert cell == " to ".join(f"{value * size:.0f}" for value in values) + f" {word}"


def test_the_memory_of_agora_ex_is_as_it_was_planned_and_counted():
    text = TEXTS["agora_ex"]
    row = next(line for line in (ROOT / "benchmarks" / "plan.md").read_text().splitlines()
               if "| agora_gspo_qwen3_moe |" in line)
    cells = [cell.strip() for cell in row.split("|")]
    (parameters, trained, optimiser, kv, kept, micro_batch), peak = cells[6:12], cells[14]
    path = ROOT / "configs" / "shapes" / "qwen3_30b_a3b.json"
    plan = fit(checkpoint(path), "", "lora", Demand(4096, 4, 16), jax.devices()).plan
    assert f"{plan.frozen / GIB:.1f}" == parameters and f"{2 * plan.trained / GIB:.1f}" == trained
    assert f"{2 * plan.kept / GIB:.1f}" == kept  # of two sequences, as the recipe has them
    assert f"{plan.optimiser / GIB:.1f}" == optimiser
    for words in (f"| {parameters} GiB (61 GB) |", f"| {kv} GiB |", f"| {plan.trained / GIB:.1f} GiB |",
                  f"| {optimiser} GiB |", f"| {micro_batch} GiB, ", f"at least {kept} GiB",
                  f"| {peak} GiB of 131.4 |", f"{plan.trained / 4 / 1e6:.0f} million numbers",
                  f"{plan.trained / 2 / GIB:.1f} GiB as a bfloat16 file"):
        assert words in text, words
    assert f"{plan.frozen / 1e9:.0f} GB" == "61 GB"
