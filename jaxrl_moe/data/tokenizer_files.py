"""The JSON files that a tokenizer is read from, looked at before transformers takes them for granted."""
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrl_moe.outside import MOST_INT, Fields, OutsideError, kind, read_object, shown

EOS = "eos_token_id"
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_SWITCHES = ("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces",
             "split_special_tokens")
_DECLARING = ("generation_config.json", "config.json")
DeclaredIds = Mapping[tuple[str, str], tuple[int, ...]]


def check(folder: pathlib.Path) -> None:
    """Raises OutsideError, naming file and field, for the first file of a folder's tokenizer that is damaged,
    or holds a value of the wrong kind."""
    for name in present(folder):
        path = folder / name
        _FILES[name](Fields(read_object(path), str(path)))


def present(folder: pathlib.Path) -> list[str]:
    """Those of the files that a folder has."""
    return [name for name in _FILES if (folder / name).exists()]


def declared_ids(find: Callable[[str], str | None]) -> DeclaredIds:
    """{(file, field): ids} of the special tokens that generation_config.json and config.json name.

    Args:
      find: a file's path by its name; None where there is none.

    Raises:
      OutsideError: such a file is damaged, or the field holds no id.
    """
    ids = {}
    for name in _DECLARING:
        path = find(name)
        given = _declared(Fields(read_object(path), path)) if path else {}
        ids |= {(name, key): numbers for key, numbers in given.items() if numbers}
    return ids


def _declared(fields: Fields) -> Mapping[str, tuple[int, ...]]:
    return {key: _ids(fields, key) for key in (EOS, "bos_token_id", "pad_token_id")}


def _ids(fields: Fields, key: str) -> tuple[int, ...]:
    """An id or a list of them. Some files write -1 for no padding, and none for a start."""
    if isinstance(fields.values.get(key), list):
        return tuple(fields.integers(key))
    given = fields.integer(key, -1, least=0 if key == EOS else -1)
    return () if given < 0 else (given,)


def _check_config(fields: Fields) -> None:
    for key in _TOKENS:
        _check_token(fields, key, fields.values.get(key))
    for key in _SWITCHES:
        fields.boolean(key, None)
    for key in ("additional_special_tokens", "extra_special_tokens"):
        extra = fields.values.get(key)
        for token in extra.values() if isinstance(extra, dict) else _listed(fields, key):
            _check_token(fields, key, token)
    fields.number("model_max_length", None, above=0.0)
    fields.string("tokenizer_class", None)
    for number, token in _object(fields, "added_tokens_decoder").items():
        if not number.isdecimal() or int(number) > MOST_INT:
            raise OutsideError(f"{fields.where}: added_tokens_decoder has the key {shown(number)}; an id is "
                               "needed.")
        _check_token(fields, f"added_tokens_decoder[{number}]", token)
    _check_template(fields)


def _check_template(fields: Fields) -> None:
    """One template, or named ones."""
    template = fields.values.get("chat_template")
    if isinstance(template, list):
        for number, each in enumerate(template):
            named = Fields(each, f"{fields.where}: chat_template[{number}]")
            named.string("name")
            named.string("template")
    elif not isinstance(template, dict):
        fields.string("chat_template", None)


def _check_token(fields: Fields, key: str, token: Any) -> None:
    """A token is its text, or an object with that as its content."""
    if isinstance(token, dict):
        added = Fields(token, f"{fields.where}: {key}")
        added.string("content")
        for switch in ("lstrip", "rstrip", "normalized", "single_word", "special"):
            added.boolean(switch, None)
    elif not (token is None or isinstance(token, str)):
        raise OutsideError(f"{fields.where}: {key} is {shown(token)} ({kind(token)}); a token's text, or an "
                           "object with its content, is needed.")


def _check_special_tokens(fields: Fields) -> None:
    for key in _TOKENS:
        _check_token(fields, key, fields.values.get(key))
    for token in _listed(fields, "additional_special_tokens"):
        _check_token(fields, "additional_special_tokens", token)


def _check_tokenizer(fields: Fields) -> None:
    """As far as the tokenizers package does not say what is wrong by itself."""
    vocabulary = fields.object("model").values.get("vocab")
    if isinstance(vocabulary, dict):  # or a list, whose order is the ids
        _check_ids(Fields(vocabulary, f"{fields.where}: vocab"))
    for number, token in enumerate(_listed(fields, "added_tokens")):
        _check_token(fields, f"added_tokens[{number}]", token)
        Fields(token, f"{fields.where}: added_tokens[{number}]").integer("id")


def _check_ids(fields: Fields) -> None:
    """Each token has an id of its own."""
    tokens: dict[int, str] = {}
    for token in fields.values:
        number = fields.integer(token)
        other = tokens.setdefault(number, token)
        if other != token:
            raise OutsideError(f"{fields.where}: {shown(other)} and {shown(token)} have the same id, "
                               f"{number}.")


def _listed(fields: Fields, key: str) -> Sequence[Any]:
    value = fields.values.get(key)
    if not (value is None or isinstance(value, list)):
        raise OutsideError(f"{fields.where}: {key} is {shown(value)} ({kind(value)}); a list is needed.")
    return value or ()


def _object(fields: Fields, key: str) -> Mapping[str, Any]:
    value = fields.object(key, None)
    return value.values if value else {}


_FILES: Mapping[str, Callable[[Fields], Any]] = {
    "tokenizer.json": _check_tokenizer, "tokenizer_config.json": _check_config,
    "special_tokens_map.json": _check_special_tokens, "added_tokens.json": _check_ids,
    "vocab.json": _check_ids, **dict.fromkeys(_DECLARING, _declared)}
