"""The tokenizer, and the rows of the data: can they be read, do they fit, and does the task take them?

Where the model is still to be made there is no tokenizer to count tokens with; the rows are looked at as far
as that goes.
"""
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxrl_moe.checks import tasks
from jaxrl_moe.checks.problems import as_problem, told
from jaxrl_moe.checks.sections import episodes
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import value_of
from jaxrl_moe.data.prompts import check_reached, env_of, prompt_messages, rows_of
from jaxrl_moe.data.rows import Row, read_files
from jaxrl_moe.data.sft import row_messages, takes_context
from jaxrl_moe.types import Problem, Prompt, UserError

QUESTION = [{"role": "user", "content": "1 + 1 = ?"}]


def tokenizer_problems(start: Start) -> Iterator[Problem]:
    """Yields why the tokenizer cannot be used, such as ids beyond the model's vocabulary, and stop strings
    that would never match."""
    if start.makes_model:
        return
    try:
        start.tokenizer.check_vocabulary(start.model.vocab_size)
        start.tokenizer.render(QUESTION)
    except (UserError, OSError) as error:
        yield as_problem("model.path", start.config.model.path, error)
        return
    stops = start.config.rollout.stop_strings
    yield from told("rollout.stop_strings", stops, lambda: start.tokenizer.check_stop_strings(stops))


def problems(start: Start) -> Iterator[Problem]:
    """Yields, for each file of prompts and of conversations, the first thing that is wrong with it; where
    nothing is, why the chat template cannot do what the rows need."""
    refused = list(_of_rows(start))
    yield from refused
    if not refused and not start.makes_model and not start.makes_data:
        yield from episodes.template_problems(start)


def _of_rows(start: Start) -> Iterator[Problem]:
    data = start.config.data
    sft = start.config.sft
    if data.source and not _unmade(start, data.prompt_files):
        if start.rl:
            yield from _of_prompts(start, data.field, False, lambda: start.prompts[0])
        elif start.makes_model:  # whose tokenizer is trained on them
            value = value_of(start.config, data.field)
            yield from told(data.field, value, lambda: _raw_prompts(start, False))
    if data.eval_source and not _unmade(start, data.held_out_files):
        yield from _of_prompts(start, data.eval_field, True, lambda: start.held_out[0])
    if start.reads_conversations and sft.source and not _unmade(start, sft.conversation_files):
        yield from _of_conversations(start)


def _unmade(start: Start, files: Mapping[str, str]) -> bool:
    """Whether one of the files lies in a folder of data that is still to be made."""
    return any(pathlib.Path(path).parent in start.unmade for path in files.values())


def _of_prompts(start: Start, field: str, held_out: bool,
                read: Callable[[], list[Prompt]]) -> Iterator[Problem]:
    value = value_of(start.config, field)
    try:
        prompts = _raw_prompts(start, held_out) if start.makes_model else read()
    except (UserError, OSError) as error:
        yield as_problem(field, value, error)
        return
    yield from tasks.ungraded(start, field, value, prompts)


def _raw_prompts(start: Start, held_out: bool) -> list[Prompt]:
    """The rows as prompts without tokens, where there is no tokenizer yet."""
    data = start.config.data

    def prompt(row: Row) -> Prompt:
        prompt_messages(row, data.system_prompt, data.suffix)
        return Prompt(np.zeros(0, np.int32), row.values, row.index, row.where, env=env_of(row, start.envs))

    read = rows_of(data, held_out)
    prompts = [prompt(row) for rows in read.values() for row in rows]
    check_reached(data, read)
    return prompts


def _of_conversations(start: Start) -> Iterator[Problem]:
    sft = start.config.sft
    data = start.config.data

    def read() -> None:
        rows = [row for rows in read_files(sft.conversation_files).values() for row in rows]
        if not start.makes_model:
            _ = start.conversations
        else:
            for row in rows:
                row_messages(row, data.system_prompt, data.suffix)
        if not data.source and not any(map(takes_context, rows)):
            check_reached(data, {sft.source: rows})

    yield from told(sft.field, sft.source, read)


def remarks(start: Start) -> list[str]:
    """What a user may not expect of the prompts, once they are there, in sentences: no reason to refuse."""
    config = start.config
    prompts = start.prompts[0] if start.rl else []
    held_out = start.held_out[0] if config.data.eval_source else []
    found = []
    if prompts and config.rollout.prompts_per_step > len(prompts):
        found.append(f"rollout.prompts_per_step = {config.rollout.prompts_per_step} is more than the "
                     f"{len(prompts)} prompts of {config.data.source!r}: each step draws some of them more "
                     "than once.")
    if held_out and config.eval.prompts > len(held_out):
        found.append(f"eval.prompts = {config.eval.prompts} is more than the {len(held_out)} held-out "
                     f"prompts of {config.data.eval_source!r}: evaluations are on these {len(held_out)}.")
    lacking = [env for env in start.envs if prompts and all(prompt.env != env for prompt in prompts)]
    if lacking:
        found.append(f"env.name holds {' and '.join(lacking)}, and no prompt of {config.data.source!r} is of "
                     "it: nothing of it is trained.")
    seen = functools.partial(_seen, start)
    trained = set(map(seen, prompts))
    if held_out and all(seen(prompt) in trained for prompt in held_out):
        found.append(f"all {len(held_out)} held-out prompts of {config.data.eval_source!r} are among those "
                     f"of {config.data.source!r} that are trained on: evaluations are on seen prompts alone.")
    return found


def _seen(start: Start, prompt: Prompt) -> Any:
    """What tells a prompt from others: its tokens, and where the environment begins with messages of its own,
    the row that decides them."""
    alone = not start.config.env.name or start.task.max_turns == 1
    return prompt.ids.tobytes(), "" if alone else repr(sorted(prompt.row.items()))
