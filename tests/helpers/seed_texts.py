"""What users of other systems have written down, to the letter: fragments of their documents."""
AGORA_TOML = """\
[model]
base = "Qwen/Qwen3-30B-A3B"      # MoE with 3B activation
trainer_mode = "lora"

[lora]
r = 16                            # LoRA rank
target_modules = ["all-linear"]   # Wide coverage for MoE

[rollout]
episodes_per_batch = 16           # 16 episodes per batch
max_concurrent_rollouts = 4       # Limited by human judge
batches_per_step = 2              # 32 episodes per training step

[training]
num_epochs = 3
iterations_per_epoch = 4          # 12 total iterations
batch_size = 2
group_size = 4                    # GSPO advantage estimation
learning_rate = 3e-5              # Conservative for MoE
"""
AGORA_TUNING = {
    "overfitting": """\
[lora]
dropout = 0.1              # Increase from 0.05

[training]
learning_rate = 1e-5       # Decrease from 3e-5
""",
    "underfitting": """\
[training]
learning_rate = 5e-5       # Increase from 3e-5
gradient_accumulation_steps = 16  # More accumulation
""",
    "memory": """\
[training]
batch_size = 1             # Reduce from 2
gradient_accumulation_steps = 16  # Compensate with more accumulation
""",
    "context": """\
# Reduce batch size
[training]
batch_size = 1

# Or reduce context length
[vllm]
max_model_len = 3072
"""}
NMOE_COMMAND = ("trainer.policy.model.path=/path/to/nmoe/checkpoint",
                'data.train_data=["path/to/train_data.parquet"]')
NMOE_KEY_SETTINGS = """\
trainer:
  strategy: fsdp2
  policy:
    model:
      type: nmoe
    nmoe_config:
      rdep:
        mode: auto
  algorithm:
    advantage_estimator: grpo
generator:
  backend: sglang
"""
NMOE_SMALLER_BATCHES = ("trainer.train_batch_size=64", "trainer.mini_batch_size=8",
                        "trainer.micro_train_batch_size_per_gpu=1")
NMOE_OFFLOAD = ("trainer.policy.fsdp_config.cpu_offload=true",)
NMOE_SYNC = ("generator.weight_sync_backend=nccl",)
NMOE_BALANCE = ("trainer.policy.nmoe_config.router_aux_loss_coef=0.01",)
SLIME_MODEL = """\
--num-layers 36
--hidden-size 4096
--ffn-hidden-size 12288
--num-attention-heads 32
--num-query-groups 8
--vocab-size 151936
--qk-layernorm
--rotary-base 1000000
"""
SLIME_PARALLELISM = """\
--tensor-model-parallel-size 2
--pipeline-model-parallel-size 1
--context-parallel-size 2
"""
SLIME_TURNS = """\
--rm-type kernelbench_multiturn
--rollout-task-type kernelbench_multiturn
--max-turns 3
--gamma 0.4
--loss-mask-type qwen
--use-native-chat-template
"""
SLIME_TRAINING = """\
--lr 1e-6
--kl-loss-coef 0.01
--entropy-coef 0.001
--global-batch-size 16
--rollout-batch-size 4
--n-samples-per-prompt 4
"""
