"""Chat templates that behave as those of well-known families do, and small tokenizers for them, in our own
words."""

CALLS = (
    "{% for call in message.tool_calls or [] %}{{ '\n' }}<tool_call>\n{\"name\": {{ call.function.name | "
    "tojson }}, \"arguments\": {% if call.function.arguments is string %}{{ call.function.arguments }}"
    "{% else %}{{ call.function.arguments | tojson }}{% endif %}}\n</tool_call>{% endfor %}")
TOOLS = (
    "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}"
    "<|im_end|>\n{% endif %}")
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

# Writes any role, tools and calls; neither names nor reasoning.
QWEN25 = TOOLS + (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}" + CALLS
    + "<|im_end|>\n{% endfor %}" + PROMPT)

# Knows four roles and leaves out the others. Reasoning, apart or before </think> in the content, is written
# only after the last question; there, a turn without reasoning gets an empty block.
QWEN3 = TOOLS + (
    "{% set ns = namespace(asked=-1) %}{% for message in messages %}{% if message.role == 'user' %}"
    "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% if message.role in ('user', 'system') %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% elif message.role == 'tool' %}<|im_start|>user\n<tool_response>\n"
    "{{ message.content }}\n</tool_response><|im_end|>\n{% elif message.role == 'assistant' %}"
    "{% set content = message.content %}{% set reasoning = '' %}"
    "{% if message.reasoning_content is string %}{% set reasoning = message.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}<|im_start|>assistant\n"
    "{% if loop.index0 > ns.asked and (loop.last or reasoning) %}<think>\n{{ reasoning }}\n</think>\n\n"
    "{% endif %}{{ content }}" + CALLS + "<|im_end|>\n{% endif %}{% endfor %}" + PROMPT
    + "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}")

# Trims contents; an assistant's message that calls has no content; one call at most.
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message.role }}<|end|>\n\n"
    "{% if message.tool_calls %}{\"name\": \"{{ message.tool_calls[0].function.name }}\", \"parameters\": "
    "{{ message.tool_calls[0].function.arguments | tojson }}}{% else %}{{ message.content | trim }}"
    "{% endif %}<|eot|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}")

# The system message goes into the last question; roles must alternate; no generation prompt.
MISTRAL = (
    "{{ bos_token }}{% set system = '' %}{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if message.role == 'user' %}[INST] "
    "{% if loop.last or loop.index0 == 0 %}{{ system if loop.index0 == 0 }}{% endif %}"
    "{{ message.content | trim }} [/INST]{% else %} {{ message.content | trim }}{{ eos_token }}{% endif %}"
    "{% endfor %}")

# No system role; the assistant is called model; contents are trimmed.
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role "
    "}}\n{{ message.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>"
    "model\n{% endif %}")

# The end of the text has a token of its own, which the middle has not.
PHI3 = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}")

# Ends no turn.
PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}")

# The last message ends with another token than those before it.
HARMONY = (
    "{% for message in messages %}<|start|>{{ message.role }}<|message|>{{ message.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}")

# As Qwen 2.5 and 3 do with tools: results that follow each other share one turn of the user's. Reasoning is
# written only after the last question of the user's own.
GROUPED_RESULTS = (
    "{% elif message.role == 'tool' %}{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}"
    "<|im_start|>user{% endif %}\n<tool_response>\n{{ message.content }}\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}{% endif %}"
    "{% endfor %}")
QWEN3_TOOLS = QWEN3.replace(
    "{% elif message.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ message.content }}\n"
    "</tool_response><|im_end|>\n", "").replace("{% endif %}{% endfor %}" + PROMPT, GROUPED_RESULTS + PROMPT)

# Begins thoughts in its prompt and drops them from earlier turns, as DeepSeek's R1.
OPEN_THOUGHTS = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}<|user|>{{ message.content }}"
    "{% elif message.role == 'assistant' %}<|assistant|>{{ message.content.split('</think>')[-1] }}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}")

# Calls say their arguments first; results must name their function.
HERMES_TOOLS = (
    "{{ bos_token }}{{ tools | tojson if tools }}{% for message in messages %}<|im_start|>"
    "{{ message.role }}\n{% if message.role == 'tool' %}{% if not message.name %}"
    "{{ raise_exception('whose result?') }}{% endif %}<tool_response>\n"
    "{\"name\": \"{{ message.name }}\", \"content\": {{ message.content | tojson }}}\n"
    "</tool_response>{% else %}{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>\n"
    "{\"arguments\": {{ call.function.arguments | tojson }}, \"name\": {{ call.function.name | tojson }}}\n"
    "</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}" + PROMPT)

# Tools in the first question; one call of a turn, as JSON without a mark; results are JSON, of a role with
# another name.
LLAMA3_TOOLS = (
    "{{ bos_token }}{% for message in messages %}{% if message.tool_calls %}"
    "{% if message.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    "<|start|>assistant<|end|>\n\n{\"name\": {{ message.tool_calls[0].function.name | tojson }}, "
    "\"parameters\": {{ message.tool_calls[0].function.arguments | tojson }}}<|eot|>"
    "{% elif message.role == 'tool' %}<|start|>ipython<|end|>\n\n{{ message.content | tojson }}<|eot|>"
    "{% else %}<|start|>{{ message.role }}<|end|>\n\n{% if loop.index0 == 0 and tools %}"
    "{{ tools | tojson }}\n{% endif %}{{ message.content | trim }}<|eot|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}")

# A list of calls after a mark, whose ids must have nine letters; tools stand before the last question;
# results carry the id.
MISTRAL_TOOLS = (
    "{{ bos_token }}{% set ns = namespace(asked=-1) %}{% for message in messages %}"
    "{% if message.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% if message.role == 'user' %}{% if tools and loop.index0 == ns.asked %}"
    "[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {{ message.content }}[/INST]"
    "{% elif message.tool_calls %}[TOOL_CALLS] [{% for call in message.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}"
    "{\"name\": {{ call.function.name | tojson }}, \"arguments\": {{ call.function.arguments | tojson }}, "
    "\"id\": \"{{ call.id }}\"}{{ ', ' if not loop.last }}{% endfor %}]{{ eos_token }}"
    "{% elif message.role == 'tool' %}{% if not message.tool_call_id %}{{ raise_exception('whose result?') }}"
    "{% endif %}[TOOL_RESULTS] {\"content\": {{ message.content | tojson }}, "
    "\"call_id\": \"{{ message.tool_call_id }}\"}[/TOOL_RESULTS]"
    "{% elif message.role == 'assistant' %} {{ message.content | trim }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}")

# Each call after a mark of its own, by name and arguments; tools stand at the beginning.
MISTRAL_NAMED = (
    "{{ bos_token }}{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}[INST]{{ message.content }}[/INST]"
    "{% elif message.role == 'tool' %}[TOOL_RESULTS]{{ message.content }}[/TOOL_RESULTS]"
    "{% elif message.role == 'assistant' %}{{ message.content }}{% for call in message.tool_calls or [] %}"
    "[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}{% endfor %}"
    "{{ eos_token }}{% endif %}{% endfor %}")

# Says the day, and which turn it is.
DATED = (
    "<|system|>Today is {{ date_string or strftime_now('%d %b %Y') }}.<|end|>"
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}")
NUMBERED = (
    "{% for message in messages %}{% if message.role == 'user' %}[Round {{ loop.index0 // 2 + 1 }}]\n"
    "{% endif %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}" + PROMPT)

SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|start|>", "<|end|>",
           "<|eot|>", "<start_of_turn>", "<end_of_turn>", "<|message|>", "<|return|>", "<|user|>",
           "<|assistant|>", "<|system|>", "[TOOL_CALLS]", "[ARGS]", "[AVAILABLE_TOOLS]",
           "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<|python_tag|>")
PLAIN_ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>")  # tokens, but not special


def byte_level(template, eos="<|im_end|>", *, takes_space=False):
    """A byte-level BPE tokenizer with the control tokens of all the templates; `takes_space`: they take the
    space after them, as Phi-3's do. Returns transformers' own."""
    import tokenizers
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, show_progress=False,
        special_tokens=[tokenizers.AddedToken(token, rstrip=takes_space, special=True) for token in SPECIAL],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    bpe.train_from_iterator(["user assistant system\n\n4 5 6 seven"] * 3, trainer)
    bpe.add_tokens([*PLAIN_ADDED])
    return _wrapped(bpe, template, eos)


def sentencepiece(template, eos="<|im_end|>", *, scheme="first", legacy=False):
    """A BPE tokenizer with byte fallback that puts a space before a text, as SentencePiece's do: before the
    first word alone, before every stretch between control tokens ("always"), or (legacy) by a normaliser."""
    import tokenizers
    from tokenizers import decoders, normalizers
    words = ["▁user", "▁assistant", "user", "assistant", "system", "▁Hello", "Hello", "▁4", "▁is"]
    letters = {letter for word in words for letter in word}
    letters |= set("▁.?,:{}\"/_[]INSTmodelabcdefghijklnpqrtvwxyz")
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(letters)]
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            merge = (word[:end - 1], word[end - 1])
            merges += [merge] if merge not in merges else []
    pieces += [left + right for left, right in merges if left + right not in pieces]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>",
                                                     fuse_unk=True))
    if legacy:
        bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    bpe.add_special_tokens(list(SPECIAL))
    return _wrapped(bpe, template, eos)


def _wrapped(bpe, template, eos):
    import transformers
    hf = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token=eos,
                                              clean_up_tokenization_spaces=False)
    hf.chat_template = template
    return hf
