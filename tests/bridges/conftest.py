"""Servers that the tests start, and no waiting for them."""
import pytest

from tests.helpers.fake_server import FakeServer, quickly  # noqa: F401 - used by every test here


@pytest.fixture
def fakes():
    """fakes(kind) starts one; all end with the test."""
    made = []

    def make(kind="vllm"):
        made.append(FakeServer(kind))
        return made[-1]
    yield make
    for fake in made:
        fake.close()
