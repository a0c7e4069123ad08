"""Tiny random Hugging Face checkpoints and tokenizers, made on the spot for the tests."""
import json
import pathlib

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = (
    "Tom has 3 apples and buys 14 more. How many apples does he have now? The answer is 17.\n#### 17",
    "Question: what is 12 plus 7? Final Answer: 19", "user assistant system You are a helpful assistant.",
    "1 + 2 = 3, 4 * 5 = 20, 60 - 42 = 18, 0.5 of 8 is 4", "Anna gives 5 of her 11 marbles to Ben and keeps 6.")
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
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_config(family="qwen3_moe", **overrides):
    """Returns a small transformers config of the family; `overrides` are fields of its config.json."""
    import transformers
    sizes = SIZES | (EXPERT_SIZES if family == "qwen3_moe" else {}) | dict(eos_token_id=2, pad_token_id=0)
    kinds = {"qwen3": transformers.Qwen3Config, "qwen3_moe": transformers.Qwen3MoeConfig}
    return kinds[family](**(sizes | overrides))


def make_model(folder, family="qwen3_moe", *, seed=0, dtype="float32", std=0.2, tokenizer=True, max_shard_size="5GB",
               config_json=None, **overrides):
    """Saves a random Hugging Face model with its tokenizer and generation_config in `folder`; returns the model.

    Args:
      folder: where to save; made if absent.
      family: "qwen3" or "qwen3_moe".
      seed: of the weights.
      dtype: name of the dtype on disk.
      std: spread of all weights; large enough that routers and softmaxes have clear preferences. Norm weights spread
        by 0.1 around one.
      tokenizer: whether to save a tokenizer too.
      max_shard_size: of one safetensors file, as transformers spells it.
      config_json: fields written over config.json afterwards (None deletes one), to test spellings that transformers
        reads but no longer writes; the model is then loaded again from the folder.
      **overrides: fields of the config.
    """
    import torch
    import transformers
    config = make_config(family, **overrides)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            around = 1.0 if "norm" in name else 0.0
            weight.normal_(around, 0.1 if "norm" in name else std)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    if tokenizer:
        make_tokenizer(folder, config.vocab_size)
    return model if config_json is None else _rewrite_config(pathlib.Path(folder), config_json)


def _rewrite_config(folder, fields):
    import transformers
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}, indent=2))
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
