# Two commands: `make quickstart` trains a small MoE and shows its reward rise, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Large pages spare XLA's CPU backend most of its page faults.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

FAST := not slow and not gpu and not net and not engines

# Of the targets that take long: whole minutes of a soak; seeds, recipes and games of what shall learn, as SEEDS=0,1
# (empty: all).
MINUTES ?= 20
SEEDS ?=
RECIPES ?=
GAMES ?=
comma := ,
STEPS ?=

# Environments of other packages, each in a virtual environment of its own.
ADAPTERS ?= openenv verifiers reasoning-gym mcp

.PHONY: help quickstart quickstart-agents test test-slow test-jax011 test-engines soak crowd envs-crowd envs-jvms kills kills-judged
.PHONY: learn learn-games learn-judges learn-kernels adapters env-adapters alfworld test-sky target lint clean

help:
	@echo "make quickstart   set up $(VENV), train a small MoE from scratch with SFT and GRPO (6 minutes on 2 cores)"
	@echo "make quickstart-agents  the same in many turns: a small MoE learns to craft in a text game (9 minutes)"
	@echo "make test         set up $(VENV) with the test extra, run the tests"
	@echo "make test-slow    the long tests too"
	@echo "make test-jax011  the tests under jax 0.11, which GPU machines have and which needs Python 3.12 (found by itself, or"
	@echo "                  PYTHON312=...), in .venv-jax011 (1.6 GB); without torch, so what compares with it is skipped"
	@echo "make test-engines real vLLM and SGLang on the CPU, in .venv-vllm and .venv-sglang (6 GB), and the tests against them;"
	@echo "                  SELECT='-k draws_what' runs some of them"
	@echo "make soak         a run that is killed again and again and asked meanwhile, watched for what grows or is lost; MINUTES=20;"
	@echo "                  its result is a section of benchmarks/soak.md, and an exit code of 1 where something is wrong"
	@echo "make crowd        64 clients at one endpoint, of whom some leave or send 10 MB, watched likewise: benchmarks/crowd.md; MINUTES=10"
	@echo "make envs-crowd   64 episodes at once at each environment server, whose clients vanish or err, watched likewise and compared with"
	@echo "                  the same episodes in process: benchmarks/envs_crowd.md; MINUTES=10 for each server"
	@echo "make envs-jvms    16 episodes of ScienceWorld at once in Java processes that are killed now and then, compared with the same ones"
	@echo "                  played alone: benchmarks/envs_jvms.md; MINUTES=5; needs Java"
	@echo "make kills        a run of seconds, killed 100 times at random moments of its life, interrupted, and on full disks: whether it"
	@echo "                  comes to the same bits and what it says; 25 minutes on an idle machine; a section of benchmarks/kills.md"
	@echo "make kills-judged a run that people judge, while run, judge server and page are killed in turn: some minutes; a section of"
	@echo "                  benchmarks/judged.md"
	@echo "make learn-judges a judge's rubric as the only reward, two seeds: seven minutes on 2 idle cores"
	@echo "make learn-kernels  kernels made of choices, judged by a real evaluation server: two seeds, benchmarks/kernel_learning.md"
	@echo "make learn-games  TextCraft, BabyAI, both in one run, ScienceWorld: two seeds, the first two over servers too, hours on 2 cores"
	@echo "make learn        every algorithm learns the quickstart's task, three seeds: about 50 minutes on 2 idle cores, and it goes"
	@echo "                  on where it was stopped; SEEDS=0,1 RECIPES=gspo,dapo STEPS=60 for a part. Table and curves go to"
	@echo "                  benchmarks/learning.md and learning.png where all of it is there, else to runs/learning"
	@echo "make adapters     our LoRA adapters read by PEFT, and by vLLM and SGLang where make test-engines has installed them:"
	@echo "                  benchmarks/adapters.md; 5 minutes, 2 of them without the servers"
	@echo "make test-sky     SkyPilot, in .venv-sky, reads the launch files for clouds"
	@echo "make alfworld     ALFWorld's text games in .venv-alfworld (300 MB, parts of it under the GPL, a planner that is compiled:"
	@echo "                  one to ten minutes), and the tests that play them: five minutes"
	@echo "make env-adapters OpenEnv, verifiers, reasoning-gym and MCP, each in an environment of its own (.venv-openenv, ...; 1.3 GB, two"
	@echo "                  to five minutes), and the tests of env.name=openenv(...) and the others; ADAPTERS='mcp openenv' for some"
	@echo "make target       the compiler for NVIDIA's GPUs, in .target (402 MB; no GPU needed): plans and the tests of tests/planning use it"
	@echo "make lint         ruff"

quickstart-agents: $(VENV)/.installed-agents
	$(BIN)/python scripts/train.py --config=configs/agents/textcraft_grpo.py

quickstart: $(VENV)/.installed
	$(BIN)/python scripts/train.py --config=configs/quickstart.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(FAST)"

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "slow"

test-jax011: .venv-jax011/.installed
	@bash scripts/install_target.sh .venv-jax011/bin/python || echo "Nothing is compiled for GPUs: their compiler could not be installed."
	.venv-jax011/bin/python -m pytest -n 2 --dist loadfile -m "$(FAST)"

.venv-jax011/.installed: setup.cfg pyproject.toml
	@python=$$($(PYTHON) scripts/check_machine.py --find_python=3.12) && $$python -m venv .venv-jax011
	@echo "Installing jax 0.11, tokamax and the test-core extra into .venv-jax011: one to three minutes"
	.venv-jax011/bin/pip install --quiet --upgrade pip
	.venv-jax011/bin/pip install --quiet -e ".[test-core,tokamax]"
	@touch $@

test-engines: $(VENV)/.installed-test .venv-vllm/.installed .venv-sglang/.installed
	$(BIN)/python -m pytest tests/engines -m engines $(SELECT)

# No part of make test or of CI: they take long, and their dated results are committed.
soak: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.soak --minutes=$(MINUTES)

crowd: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.soak.crowd --minutes=$(MINUTES)

envs-crowd: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.soak.envs --minutes=$(MINUTES)

envs-jvms: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.soak.jvms --minutes=$(MINUTES)

kills: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.kills

kills-judged: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.judged

learn: $(VENV)/.installed
	$(BIN)/python scripts/benchmark.py --case=learning $(if $(SEEDS),--seeds=$(SEEDS)) $(if $(RECIPES),--recipes=$(RECIPES)) \
	    $(if $(STEPS),--steps=$(STEPS))

learn-games: $(VENV)/.installed-agents
	$(BIN)/python -m benchmarks.games $(foreach game,$(subst $(comma), ,$(GAMES)),--games=$(game)) \
	    $(foreach seed,$(subst $(comma), ,$(SEEDS)),--seeds=$(seed))

learn-judges: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.judges

learn-kernels: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.kernel_learning

adapters: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.adapters

test-sky: $(VENV)/.installed-test .venv-sky/.installed
	$(BIN)/python -m pytest tests/hosts/test_skypilot.py

.venv-sky/.installed:
	@echo "Installing SkyPilot into .venv-sky: a minute"
	$(PYTHON) -m venv .venv-sky
	.venv-sky/bin/pip install --quiet --upgrade pip
	.venv-sky/bin/pip install --quiet "skypilot==0.14.1"
	@touch $@

alfworld: $(VENV)/.installed-test .venv-alfworld/.installed
	$(BIN)/python -m pytest tests/envs/text/alfworld

.venv-alfworld/.installed: scripts/install_alfworld.sh
	@echo "Installing ALFWorld's games into .venv-alfworld: one to ten minutes, as a planner is compiled"
	PYTHON=$(PYTHON) bash $< .venv-alfworld
	@touch $@

env-adapters: $(VENV)/.installed-test $(ADAPTERS:%=.venv-%/.installed-adapter)
	$(BIN)/python -m pytest tests/envs/adapters

.venv-%/.installed-adapter: scripts/adapters/%.txt
	@echo "Installing $* into .venv-$*: half a minute to two minutes"
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --constraint $< $*
	@touch $@

target: $(VENV)/.installed
	@bash scripts/install_target.sh $(BIN)/python

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

$(VENV)/.installed-agents: $(VENV)/.installed
	$(BIN)/pip install --quiet -e ".[agents]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing the test extra (torch, peft, pytest)"
	$(BIN)/pip install --quiet -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-jax011 .venv-vllm .venv-sglang .venv-alfworld .venv-sky $(ADAPTERS:%=.venv-%) build *.egg-info
