"""Stage e: transformers and PEFT on the same card at the same shape: a LoRA step on all linear layers, and
greedy decoding."""
import importlib.util
import time

import numpy as np

from benchmarks.gpu.record import ABSENT, MEASURED, Recorder, Settings
from benchmarks.gpu.whole.shape import ALPHA, ATTENTION, RANK, fields, scaled

EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
# of a step; by whether it is a rehearsal
ROWS = {False: 8, True: 2}
LENGTH = {False: 2048, True: 64}
BATCHES = {False: (32, 128), True: (2,)}
PROMPT = {False: 832, True: 16}
NEW = {False: 64, True: 8}
STEPS = 3
EXPERTS_AS = "grouped_mm"  # transformers' own fastest for many experts


def run(recorder: Recorder, settings: Settings) -> None:
    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        recorder.add("transformers and PEFT", ABSENT, f"missing: {', '.join(missing)}")
        return
    import torch
    if not torch.cuda.is_available() and not settings.rehearse:
        recorder.add("transformers and PEFT", ABSENT, f"torch {torch.__version__} has no CUDA device here")
        return
    model = recorder.attempt("transformers: making the model", lambda: make(settings))
    if model is None:
        return
    for slots in BATCHES[settings.rehearse]:
        name = (f"transformers generate, greedy, no adapters, B = {slots}, {PROMPT[settings.rehearse]} + "
                f"{NEW[settings.rehearse]}")
        rate = recorder.attempt(name, lambda slots=slots: decode(model, slots, settings))
        if rate is not None:
            recorder.add(name, MEASURED, **{"tokens/s": rate, **scaled(settings, rate)}, **_peak())
    for name, targets in (("attention", []), ("attention and experts", list(EXPERTS))):
        name = (f"transformers + PEFT, LoRA step on {name}, {ROWS[settings.rehearse]} x "
                f"{LENGTH[settings.rehearse]}, checkpointing")
        seconds = recorder.attempt(name, lambda targets=targets: train(model, targets, settings))
        if seconds is not None:
            rate = ROWS[settings.rehearse] * LENGTH[settings.rehearse] / seconds
            recorder.add(name, MEASURED, **{
                "tokens/s": rate,
                **scaled(settings, rate), "s": seconds
            }, **_peak())


def make(settings: Settings):
    """Random bfloat16 weights, drawn where they lie."""
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
    kept = {name: value for name, value in fields(settings).items() if name != "architectures"}
    config = Qwen3MoeConfig(**kept, eos_token_id=None, bos_token_id=None)
    config._experts_implementation = EXPERTS_AS
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cpu" if settings.rehearse else "cuda"):
            return Qwen3MoeForCausalLM(config)
    finally:
        torch.set_default_dtype(before)


def train(model, expert_parameters: list[str], settings: Settings) -> float:
    """Median seconds of a step: forward, backward, AdamW over the adapters. The model is left without
    them."""
    import torch
    from peft import LoraConfig, get_peft_model
    adapters = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(ATTENTION),
                          target_parameters=expert_parameters)
    wrapped = get_peft_model(model, adapters)
    try:
        wrapped.train()
        wrapped.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        optimiser = torch.optim.AdamW([weight for weight in wrapped.parameters() if weight.requires_grad],
                                      lr=1e-4)
        ids = _ids(model, ROWS[settings.rehearse], LENGTH[settings.rehearse])

        def step():
            # a row at a time: its logits alone are gigabytes
            loss = sum(_backward(wrapped, row, len(ids)) for row in ids)
            optimiser.step()
            optimiser.zero_grad()
            return float(loss)

        return _median(step)
    finally:
        wrapped.unload()


def _backward(model, row, rows: int) -> float:
    loss = model(input_ids=row[None], labels=row[None], use_cache=False).loss / rows
    loss.backward()
    return float(loss.detach())


def decode(model, slots: int, settings: Settings) -> float:
    """Tokens a second after the prompt: a generation of one token, which is the prefill, is taken off."""
    import torch
    model.eval()
    ids = _ids(model, slots, PROMPT[settings.rehearse])

    def generate(count):
        with torch.no_grad():
            return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count,
                                  min_new_tokens=count, do_sample=False, pad_token_id=0)

    new = NEW[settings.rehearse]
    generate(2)
    prefill = _seconds(lambda: generate(1))
    whole = _seconds(lambda: generate(new))
    return slots * (new - 1) / max(whole - prefill, 1e-9)


def _ids(model, rows: int, length: int):
    import torch
    drawn = np.random.default_rng(0).integers(0, model.config.vocab_size, (rows, length))
    return torch.tensor(drawn, device=model.device)


def _median(function) -> float:
    function()
    return float(np.median([_seconds(function) for _ in range(STEPS)]))


def _seconds(function) -> float:
    _wait()
    start = time.perf_counter()
    function()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    import torch
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak() -> dict[str, float]:
    """Of torch's allocator, so far."""
    import torch
    return {"peak GiB": torch.cuda.max_memory_allocated() / 2**30} if torch.cuda.is_available() else {}
