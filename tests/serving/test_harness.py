"""The real lm-evaluation-harness at the endpoint, in a virtual environment of its own."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

PACKAGE = "lm-eval[api]==0.4.13"
TASK = """task: sums
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: generate_until
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["Question:", "</s>", "<|im_end|>"]
  do_sample: false
  temperature: 0.0
  max_gen_toks: 12
metric_list:
  - metric: exact_match
"""
ROWS = [{"question": f"Ann has {a} boxes of {b} pens. How many pens are there?", "answer": str(a * b)}
        for a in range(2, 5) for b in range(3, 5)]


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """The harness's command. JAXRL_MOE_LM_EVAL may name an environment that has it."""
    folder = pathlib.Path(os.environ.get("JAXRL_MOE_LM_EVAL") or tmp_path_factory.mktemp("lm-eval"))
    command = folder / "bin" / "lm_eval"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        installed = subprocess.run([str(folder / "bin" / "pip"), "install", "-q", PACKAGE],
                                   capture_output=True, text=True)
        if installed.returncode:
            pytest.skip(f"{PACKAGE} cannot be installed: {installed.stderr.strip()[-200:]}")
    return str(command)


@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
def test_the_harness_scores_rows_like_those_of_gsm8k(server, harness, tmp_path, chat):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "sums.yaml").write_text(TASK.format(rows=rows))
    path, model = (("chat/completions", "local-chat-completions") if chat
                   else ("completions", "local-completions"))
    arguments = f"model=tiny,base_url={server.url}/v1/{path},num_concurrent=3,max_retries=1"
    arguments += "" if chat else ",tokenizer_backend=None,tokenized_requests=False"
    command = [harness, "--model", model, "--model_args", arguments, "--tasks", "sums", "--log_samples",
               "--include_path", str(tmp_path), "--output_path", str(tmp_path / "out"),
               *(["--apply_chat_template"] if chat else [])]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none",
                                "HF_HOME": str(tmp_path / "hf")}
    environment.pop("PYTHONPATH", None)
    before = server.service.counters.calls.total()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (samples,) = (tmp_path / "out").rglob("samples_sums_*.jsonl")
    answered = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(answered) == len(ROWS) == server.service.counters.calls.total() - before
    assert all(isinstance(row["resps"][0][0], str) for row in answered)
