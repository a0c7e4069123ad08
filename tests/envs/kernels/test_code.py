"""Which code of an answer counts."""
import pytest

from jaxrl_moe.envs.kernels.code import last_code


@pytest.mark.parametrize("answer, code", [
    ("```python\na = 1\n```", "a = 1\n"),
    ("```py\na\n```\nand better:\n```python\nb\n```\nDone.", "b\n"),
    ("```\na\n```", "a\n"),
    ("~~~python\na\n~~~", "a\n"),
    ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
    ("<think>```python\na\n```</think>\n```python\nb\n```", "b\n"),
    ("<think>```python\na\n```</think>\nI give up.", None),
    ("<think>```python\na\n```", None),
    ("```python\na\n```\n```python\ncut", None),
    ("```python\na\n```\n```cpp\nint b;\n```", "a\n"),
    ("```cpp\nint b;\n```", None),
    ("```python\na = '```'\n```", "a = '```'\n"),
    ("no code", None), ("", None), ("```python```", None)])
def test_it_is_the_last_whole_block_of_python_after_the_thoughts(answer, code):
    assert last_code(answer) == code
