# Two commands: `make quickstart` trains a small MoE and shows its reward rise, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Large pages spare XLA's CPU backend most of its page faults.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: help quickstart test test-slow test-engines target lint clean

help:
	@echo "make quickstart   set up $(VENV), train a small MoE from scratch with SFT and GRPO (6 minutes on 2 cores)"
	@echo "make test         set up $(VENV) with the test extra, run the tests"
	@echo "make test-slow    the long tests too"
	@echo "make test-engines real vLLM and SGLang on the CPU, in .venv-vllm and .venv-sglang (6 GB), and the tests against them;"
	@echo "                  SELECT='-k draws_what' runs some of them"
	@echo "make target       the compiler for NVIDIA's GPUs, in .target (402 MB; no GPU needed): plans and the tests of tests/planning use it"
	@echo "make lint         ruff"

quickstart: $(VENV)/.installed
	$(BIN)/python scripts/train.py --config=configs/quickstart.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu and not net and not engines"

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "slow"

test-engines: $(VENV)/.installed-test .venv-vllm/.installed .venv-sglang/.installed
	$(BIN)/python -m pytest tests/engines -m engines $(SELECT)

# In a folder of its own: beside JAX, the plugin complains of a missing driver wherever it has no GPU.
target: $(VENV)/.installed
	@version=$$($(BIN)/python -c "import importlib.metadata; print(importlib.metadata.version('jaxlib'))") && \
	if [ ! -d .target/$$version ]; then \
		echo "Installing the compiler for GPUs into .target/$$version: 402 MB"; \
		rm -rf .target/part && \
		$(BIN)/pip install --quiet --no-deps --target .target/part jax-cuda13-plugin==$$version jax-cuda13-pjrt==$$version && \
		mv .target/part .target/$$version; \
	fi

.venv-%/.installed: scripts/engines/install_%_cpu.sh
	@echo "Installing $* into .venv-$*: two to three minutes"
	PYTHON=$(PYTHON) bash $< .venv-$*
	@touch $@

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) scripts/check_machine.py
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): one to three minutes"
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing the test extra (torch, peft, pytest)"
	$(BIN)/pip install --quiet -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-vllm .venv-sglang build *.egg-info
