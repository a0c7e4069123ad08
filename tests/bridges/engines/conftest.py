"""The model that servers are given weights of."""
import pytest

from tests.helpers.tiny_models import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder: 2 sparse layers."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_checkpoint(folder, num_hidden_layers=2)
    return folder
