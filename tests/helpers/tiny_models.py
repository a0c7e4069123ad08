"""Tiny random Hugging Face checkpoints and tokenizers, made on the spot for the tests."""
import json
import pathlib
import re

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from tests.helpers import oracles

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% "
    "endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = ("Tom has 3 apples and buys 14 more. How many apples does he have now? The answer is 17.\n#### 17",
          "Question: what is 12 plus 7? Final Answer: 19",
          "user assistant system You are a helpful assistant.",
          "1 + 2 = 3, 4 * 5 = 20, 60 - 42 = 18, 0.5 of 8 is 4",
          "Anna gives 5 of her 11 marbles to Ben and keeps 6.")
SIZES = dict(
    vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=256)
EXPERT_SIZES = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True)


def make_tokenizer(folder, vocab_size=320):
    """Trains a byte-level BPE tokenizer of at most `vocab_size` ids and saves it with a ChatML template.

    The ids 0, 1 and 2 are <|endoftext|> (padding), <|im_start|> and <|im_end|> (end of sequence). Returns the
    transformers tokenizer.
    """
    import tokenizers
    import transformers
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(CORPUS, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>",
                                                     pad_token="<|endoftext|>",
                                                     clean_up_tokenization_spaces=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_config(family="qwen3_moe", **overrides):
    """Returns a small transformers config of the family; `overrides` are fields of its config.json."""
    import transformers
    sizes = SIZES | (EXPERT_SIZES if family == "qwen3_moe" else {}) | dict(eos_token_id=2, pad_token_id=0)
    kinds = {"qwen3": transformers.Qwen3Config, "qwen3_moe": transformers.Qwen3MoeConfig}
    return kinds[family](**(sizes | overrides))


def make_checkpoint(folder, family="qwen3_moe", *, seed=0, dtype="float32", std=0.2, tokenizer=True,
                    max_shard_size="5GB", **overrides):
    """Saves a random Hugging Face model with its tokenizer and generation_config in `folder`, as transformers
    would, without torch.

    Args:
      folder: where to save; made if absent.
      family: "qwen3" or "qwen3_moe".
      seed: of the weights.
      dtype: name of the dtype on disk.
      std: spread of all weights; large enough that routers and softmaxes have clear preferences. Norm weights
        spread by 0.1 around one.
      tokenizer: whether to save a tokenizer too.
      max_shard_size: of one safetensors file, as transformers spells it.
      **overrides: fields of the config.
    """
    import transformers
    folder = pathlib.Path(folder)
    config = make_config(family, **overrides)
    config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
    config.dtype = dtype
    config.save_pretrained(folder)
    generation = transformers.GenerationConfig.from_model_config(config)
    generation.eos_token_id = 2
    generation.pad_token_id = 0
    generation.save_pretrained(folder)
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        around, spread = (1.0, 0.1) if "norm" in name else (0.0, std)
        tensors[name] = (around + spread * rng.standard_normal(shape)
                         ).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    _save_shards(tensors, folder, max_shard_size)
    if tokenizer:
        make_tokenizer(folder, config.vocab_size)


def make_model(folder, family="qwen3_moe", *, max_shard_size="5GB", config_json=None, **options):
    """Saves what make_checkpoint saves, by transformers itself; returns its model. Without torch the test is
    skipped.

    `config_json`: fields written over config.json afterwards (None deletes one), to test spellings that
    transformers reads but no longer writes; the model is then loaded again from the folder.
    """
    oracles.torch()
    make_checkpoint(folder, family, max_shard_size=max_shard_size, **options)
    model = oracles.transformers_model(folder)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    if config_json is None:
        return model
    _rewrite_config(pathlib.Path(folder), config_json)
    return oracles.transformers_model(folder, attn_implementation="eager")


def _rewrite_config(folder, fields):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}, indent=2))


def tensor_shapes(config):
    """{name: shape} of what transformers saves for a model of the config, in the order in which it fills
    shards."""
    embedding = (config.vocab_size, config.hidden_size)
    shapes = {} if config.tie_word_embeddings else {"lm_head.weight": embedding}
    shapes["model.embed_tokens.weight"] = embedding
    for layer in range(config.num_hidden_layers):
        own = _attention_shapes(config) | _mlp_shapes(config, layer)
        own |= dict.fromkeys(("input_layernorm.weight", "post_attention_layernorm.weight"),
                             (config.hidden_size,))
        # a projection of all experts, then the next projection
        in_order = sorted(own, key=lambda name: re.sub(r"\d+\.", "", name))
        shapes |= {f"model.layers.{layer}.{name}": own[name] for name in in_order}
    return shapes | {"model.norm.weight": (config.hidden_size,)}


def _attention_shapes(config):
    queries, keys = (heads * config.head_dim
                     for heads in (config.num_attention_heads, config.num_key_value_heads))
    shapes = {f"self_attn.{name}_norm.weight": (config.head_dim,) for name in "qk"}
    for name, outputs in (("q", queries), ("k", keys), ("v", keys), ("o", config.hidden_size)):
        shapes[f"self_attn.{name}_proj.weight"] = (outputs, queries if name == "o" else config.hidden_size)
        if config.attention_bias:
            shapes[f"self_attn.{name}_proj.bias"] = (outputs,)
    return shapes


def _mlp_shapes(config, layer):
    sparse = config.model_type == "qwen3_moe" and layer not in config.mlp_only_layers and (
        layer + 1) % config.decoder_sparse_step == 0
    hidden = config.moe_intermediate_size if sparse else config.intermediate_size
    shapes = {}
    for stem in [f"mlp.experts.{expert}" for expert in range(config.num_experts)] if sparse else ["mlp"]:
        shapes |= dict.fromkeys((f"{stem}.gate_proj.weight", f"{stem}.up_proj.weight"),
                                (hidden, config.hidden_size))
        shapes[f"{stem}.down_proj.weight"] = (config.hidden_size, hidden)
    return shapes | ({"mlp.gate.weight": (config.num_experts, config.hidden_size)} if sparse else {})


def _save_shards(tensors, folder, max_shard_size):
    import huggingface_hub
    split = huggingface_hub.split_state_dict_into_shards_factory(
        tensors, get_storage_size=lambda tensor: tensor.nbytes, filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_size)
    for file, names in split.filename_to_tensors.items():
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
    if split.is_sharded:
        sizes = {
            "total_parameters": sum(tensor.size for tensor in tensors.values()),
            "total_size": split.metadata["total_size"]
        }
        index = {"metadata": sizes, "weight_map": split.tensor_to_filename}
        (folder
         / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
