"""GSPO with LoRA on Qwen3-30B-A3B for Agora EX: the policy writes web pages, which a model or people judge.

    ENVIRONMENT_API_KEY=sk_env_... python scripts/serve.py task-app --name=agora_ex_ai_judge --port=8102 \\
        --judge_url=http://127.0.0.1:8103
    ENVIRONMENT_API_KEY=sk_env_... python scripts/train.py --config=configs/judges/agora_ex.py
    ENVIRONMENT_API_KEY=sk_env_... python scripts/train.py --config=configs/judges/agora_ex.py:human

With :ai, the default, the task app on port 8102 asks a model. With :human the run itself asks the judge
server on port 8103 (scripts/serve.py judge) about what the task app on port 8101 played (serve.py task-app
--name=agora_ex, without a judge): 4 works are out to people at a time, and generation goes on meanwhile. To
wait for people no longer than an hour and then ask the model, add judge_deadline=3600 and on_deadline='model'
to env.name; 'drop' leaves such groups out.

Hardware: as agora_gspo_qwen3_moe, compiled for one H200, not run on one.
From the original: 3 epochs of 4 iterations, 32 episodes in each (2 batches of 16) in groups of 4, one update
at 3e-5, a context of 4,096 tokens, 4 rollouts at a time where people judge.
What to expect: 12 steps, 384 rollouts and 4 evaluations. People who need 10 minutes a page, 4 at a time, take
16 hours for the rollouts; a model that takes 10 seconds, 4 at a time, a quarter of an hour. Each rollout's
judge and what it answered stand in trajectories.jsonl (notes). reward='return' with
--config.algorithm.reward_blend=0.2,0.4,0.4 (or 0.3,0.3,0.4) weighs the app's own rewards with the judges'
event and outcome; by_calls=true in env.name with --config.algorithm.step_rewards=decision_stepwise
--config.algorithm.returns=trajectory rewards the turns that keep another rule.
"""
from configs.shared.agora import agora

JUDGED = {
    "ai": "task_app(url='http://127.0.0.1:8102', max_turns=2, reward='outcome')",
    "human": "task_app(url='http://127.0.0.1:8101', max_turns=2, judge_url='http://127.0.0.1:8103', "
             "judge_provider='human', rubric_id='agora_page', max_concurrent_rollouts=4, run='agora_ex')"}


def get_config(judge="ai"):
    if judge not in JUDGED:
        raise ValueError(f"--config=...agora_ex.py:{judge}: the judge is one of {', '.join(JUDGED)}")
    config = agora()
    config.run_dir = f"runs/agora_ex_{judge}"
    config.env.name = JUDGED[judge]
    config.data.path = config.data.eval_path = config.data.suffix = ""
    config.data.seeds = "0-511"
    config.data.eval_seeds = "512-575"
    config.rollout.max_tokens = 3072  # of a turn; the brief and what a revision is told need the rest
    config.episodes.max_tokens = 3584
    config.rollout.max_staleness = 1
    config.algorithm.corrections = ("tis_sequence",)  # for tokens of the weights before
    config.endpoint.serve = True
    config.eval.prompts = 4 if judge == "human" else 64
    return config
