"""A safetensors file is taken where the safetensors library takes it, and refused where it refuses, by
name."""
import copy
import json
import os
import random

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bridges.hf.tensor_files import DTYPES, TensorInfo, TensorReader, create
from jaxrl_moe.types import UserError

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.ones((0, 4), np.float16),
           "c": np.ones(3, np.int8), "scalar": np.array(3, np.float32)}


@pytest.fixture
def path(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors", {"format": "pt"})
    return tmp_path / "x.safetensors"


def parts(path):
    """(header, bytes of the tensors)."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def put(path, header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def theirs(path):
    try:
        with safe_open(path, "np") as file:
            return set(file.keys())
    except (SafetensorError, OSError):
        return None


def edited(name, **fields):
    def edit(header):
        header[name] = header.get(name, {"dtype": "I8", "shape": [3], "data_offsets": [28, 31]}) | fields
    return edit


DAMAGE = {
    "negative": (edited("a", data_offsets=[-24, 0]), "a: data_offsets"),
    "reversed": (edited("a", data_offsets=[24, 0]), "tensor a spans -24"),
    "overlap": (edited("copy", data_offsets=[28, 31]), "begins at byte .* and overlaps"),
    "hole": (edited("c", data_offsets=[29, 32]), "tensor c begins .* leaves a hole"),
    "a boolean offset": (edited("none", data_offsets=[True, 28]), "none: data_offsets"),
    "one offset": (edited("a", data_offsets=[0]), "a has 1 data_offsets"),
    "three offsets": (edited("a", data_offsets=[0, 24, 24]), "a has 3 data_offsets"),
    "a shape that does not fit": (edited("a", shape=[2, 4]), "a spans 24 bytes, its shape .* needs 32"),
    "a shape of floats": (edited("a", shape=[2.0, 3]), "a: shape"),
    "a negative shape": (edited("a", shape=[-2, -3]), "a: shape"),
    "a shape that overflows": (edited("a", shape=[2**32, 2**32]), "a spans 24 bytes"),
    "a shape beyond 64 bits": (edited("a", shape=[2**64, 1]), "a: shape"),
    "a shape of text": (edited("a", shape="23"), "a: shape"),
    "no shape": (edited("a", shape=None), "a has no shape"),
    "a dtype of another type": (edited("a", dtype=32), "a: dtype"),
    "an unknown dtype": (edited("a", dtype="F33"), "a has dtype .F33"),
    "a tensor that is no object": (lambda header: header.update(a=[1]), "tensor a holds a list"),
    "metadata of numbers": (lambda header: header.update(__metadata__={"a": 1}), "__metadata__"),
    "half a surrogate pair": (lambda header: header.update(__metadata__={"a\ud800": "b"}), "surrogates"),
    "metadata of a list": (lambda header: header.update(__metadata__=[]), "__metadata__"),
    "a tensor less": (lambda header: header.pop("c"), "belong to no tensor"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_header_is_refused_by_file_and_tensor_as_the_library_refuses_it(path, kind):
    change, message = DAMAGE[kind]
    header, body = parts(path)
    change(header)
    put(path, header, body)
    assert theirs(path) is None
    with pytest.raises(UserError, match=message) as caught:
        TensorReader(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b' {"a": 1}', b"\xff\xfe", b'{"a":' * 2000,
                                  b"[" * 100_000, b'{"a": NaN}', b"1"])
def test_a_header_that_is_no_object_is_refused(path, text):
    put(path, text, b"")
    assert theirs(path) is None
    with pytest.raises(UserError, match="header"):
        TensorReader(path)


def test_a_tensor_that_stands_twice_is_refused(path):
    row = b'"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}'
    put(path, b"{" + row + b"," + row + b"}", b"\0")
    with pytest.raises(UserError, match="'a' stands twice"):
        TensorReader(path)


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 1000])
def test_bytes_that_belong_to_no_tensor_are_refused(path, extra):
    path.write_bytes(path.read_bytes() + extra)
    assert theirs(path) is None
    with pytest.raises(UserError, match="belong to no tensor"):
        TensorReader(path)


def test_a_file_that_is_none_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path, tmp_path / "pipe.safetensors"):
        with pytest.raises(UserError, match="no regular file"):
            TensorReader(path)


def test_what_we_write_the_library_reads(tmp_path):
    infos = {name: TensorInfo(name, (2, 3)) for name in DTYPES}
    create(tmp_path / "all.safetensors", infos)
    assert theirs(tmp_path / "all.safetensors") == set(infos)


JUNK = [None, True, 0, -1, 3, 24, 1.5, 4.0, "x", "", "F32", "F16", "I64", [], {}, [0], [1, 2], [0, 24],
        [-1, 3], [2**63], 2**64, [2**32, 2**32], "\0", [[1]], {"a": 1}, "BOOL", [6], [24, 28]]


def broken(generator, header, body):
    """The file's bytes with a header changed at one or two places, or with other bytes in it."""
    header = copy.deepcopy(header)
    for _ in range(generator.choice([1, 1, 2])):
        place = header
        keys = list(place)
        while True:
            key = generator.choice(keys)
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or generator.random() < 0.3:
                break
            place = inner
            keys = list(place) if isinstance(place, dict) else range(len(place))
        place[key] = copy.deepcopy(generator.choice(JUNK))
    text = json.dumps(header).encode() + b" " * generator.choice([0, 0, 3])
    wrong = generator.choice([0, len(text) - 1, len(text) + 1, 2**63])
    length = len(text) if generator.random() < 0.9 else wrong
    data = bytearray(length.to_bytes(8, "little") + text + body[:generator.choice([len(body)] * 5 + [7])])
    if generator.random() < 0.2:
        data[generator.randrange(len(data))] = generator.randrange(256)
    return bytes(data)


def test_files_broken_at_random_are_taken_where_the_library_takes_them(path):
    generator = random.Random(0)
    header, body = parts(path)
    taken = 0
    for _ in range(1500):
        path.write_bytes(broken(generator, header, body))
        names = theirs(path)
        try:
            reader = TensorReader(path)
        except UserError as error:
            assert names is None and str(path) in str(error) and "\n" not in str(error), path.read_bytes()
        else:
            assert names == set(reader.infos), path.read_bytes()
            taken += bool(sum(reader[name].size for name in names))
    assert taken > 20
