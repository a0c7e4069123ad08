"""API keys: the same rules wherever one is read."""
import pytest

from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.types import UserError


def test_a_key_of_a_setting_comes_from_the_variable_that_it_names(monkeypatch):
    monkeypatch.setenv("SOME_KEY", " secret\n")
    assert key_of_setting("servers.api_key_env", "SOME_KEY", "the servers") == "secret"
    assert key_of_setting("servers.api_key_env", "", "the servers") == ""


@pytest.mark.parametrize("value, message", [
    (None, "servers.api_key_env = 'SOME_KEY' names an environment variable that is not "
     "set: set it to the API key of the servers"),
    ("  ", "names an environment variable that is not set"),
    ("two words", "spaces"), ("schlüssel", "ASCII")])
def test_a_key_that_is_not_there_or_fits_no_header_is_refused_unshown(monkeypatch, value, message):
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UserError, match=message) as refused:
        key_of_setting("servers.api_key_env", "SOME_KEY", "the servers")
    assert not (value or "").strip() or value not in str(refused.value)
