"""What the pages for users say is so: their rows are read, their values mean what stands beside them, their
links lead somewhere."""
import ast
import pathlib
import re
from fractions import Fraction

import pytest

from jaxrl_moe.config import DataSection, SftSection, known_fields, known_keys, split_items
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.sft import load_conversations
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.envs.answers import answer_part, final_number
from tests.helpers import templates

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def test_every_page_is_in_the_table_of_contents_and_every_link_leads_somewhere():
    contents = (DOCS / "README.md").read_text()
    assert all(f"({page.name})" in contents for page in PAGES if page.name != "README.md")
    for page in PAGES:
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        assert not [link for link in links if not (DOCS / link).exists()], page


def test_settings_that_pages_name_exist():
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"--config\.([a-z_.]+)=", text))
    assert named and named <= set(known_keys())


def test_the_rows_of_the_page_on_rows_are_read(tmp_path):
    sft, rl = re.findall(r"^```jsonl\n(.*?)^```$", (DOCS / "rows.md").read_text(), re.M | re.S)
    path = tmp_path / "rows.jsonl"
    tokenizer = Tokenizer(templates.byte_level(templates.QWEN25), "qwen")
    path.write_text(sft)
    conversations, _ = load_conversations(SftSection(path=str(path)), tokenizer)
    assert len(conversations) == len(sft.splitlines()) == 7
    trained = [tokenizer.decode(ids[mask == 1], skip_special_tokens=False) for ids, mask in conversations]
    assert trained[1] == "4<|im_end|>" and "add" in trained[6]
    path.write_text(rl)
    prompts, _ = load_prompts(DataSection(path=str(path)), tokenizer)
    texts = [tokenizer.decode(prompt.ids, skip_special_tokens=False) for prompt in prompts]
    assert len(texts) == len(rl.splitlines()) == 4 and texts[-1].endswith("2 + 2 =")


@pytest.mark.parametrize("row", re.findall(r"^\| (`['\"].*)$", (DOCS / "settings.md").read_text(), re.M))
def test_stop_strings_mean_what_stands_beside_them(row):
    value, *strings = re.findall(r"`(.*?)`", row)
    given = split_items(known_fields()["rollout.stop_strings"], value[1:-1])
    assert given == tuple(map(ast.literal_eval, strings))


@pytest.mark.parametrize(
    "row", re.findall(r"^\| `(.*)` \| (\S+) \|$", (DOCS / "grading.md").read_text(), re.M))
def test_completions_give_the_answer_that_stands_beside_them(row):
    completion, answer = row
    assert final_number(answer_part(completion)) == (None if answer == "none" else Fraction(answer))
