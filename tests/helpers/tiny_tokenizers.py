"""Tokenizers that spell rare characters byte by byte, as those of Llama 2, Mistral and Gemma do."""
import itertools

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?#-()<>/\"'_{}[]="
MERGES = (("\u2581", "H"), ("u", "m"), ("a", "n"), ("um", "an"), ("\u2581H", "uman"), ("\u2581", "\u2581"),
          ("t", "h"), ("th", "e"), ("\u2581", "the"), ("#", "#"), ("##", "##"), ("\u4f60", "\u597d"))
WHOLE = "\u2581\u4f60\u597d\u00e9"  # characters that have a token of their own


def byte_fallback(strip=True):
    """A transformers tokenizer whose decoder drops a leading space if `strip`: Llama's way, else Gemma's. Ids
    0 to 2 are SPECIAL_TOKENS, then come 256 bytes."""
    import tokenizers
    import transformers
    from tokenizers import decoders, models, normalizers
    names = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS, *WHOLE]
    names += ["".join(pair) for pair in MERGES]
    vocabulary = dict(zip(dict.fromkeys(names), itertools.count()))
    bpe = tokenizers.Tokenizer(models.BPE(vocabulary, list(MERGES), byte_fallback=True, unk_token="<unk>",
                                          fuse_unk=True))
    prepend = [normalizers.Prepend("\u2581")] if strip else []
    bpe.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "\u2581")])
    dropped = [decoders.Strip(" ", 1, 0)] if strip else []
    spaced = decoders.Replace("\u2581", " ")
    bpe.decoder = decoders.Sequence([spaced, decoders.ByteFallback(), decoders.Fuse(), *dropped])
    bpe.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>",
                                                unk_token="<unk>", clean_up_tokenization_spaces=False)


def word_piece():
    """A transformers tokenizer of words and their parts, as BERT's."""
    import tokenizers
    import transformers
    from tokenizers import decoders, models, pre_tokenizers
    names = [*SPECIAL_TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS), "\u4f60", "##\u597d"]
    words = tokenizers.Tokenizer(models.WordPiece(dict(zip(names, itertools.count())), unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    words.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>",
                                                unk_token="<unk>", clean_up_tokenization_spaces=False)
