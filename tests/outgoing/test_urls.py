"""Which URLs of strangers are called."""
import socket

import pytest

from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.types import UserError

ALLOWED = Allowed(["https://judges.example.org/v1", "http://10.0.0.5:8000", "http://named.example.org"],
                  "--allow")


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:8000/v1", "http://localhost:1", "http://[::1]:5/x", "https://judges.example.org/v1",
    "https://judges.example.org:443/v1/chat/", "http://10.0.0.5:8000/any/thing"])
def test_loopback_and_what_the_operator_names_are_called(url):
    assert ALLOWED.check(url) == url.rstrip("/")


@pytest.mark.parametrize("url", [
    "http://judges.example.org/v1", "https://judges.example.org/v10", "https://judges.example.org",
    "https://judges.example.org.evil.org/v1", "https://judges.example.org/v1/../admin", "http://10.0.0.5",
    "https://judges.example.org/v1/%2e%2e/admin", "https://judges.example.org/v1/..%2fadmin",
    "https://judges.example.org/v1/..%5cadmin", "http://169.254.169.254/latest", "http://127.0.0.1.nip.io",
    "http://2130706433/", "file:///etc/passwd", "http://user@127.0.0.1/", "http://0x7f000001/", "gopher://127.0.0.1"])
def test_nothing_else_is(url):
    with pytest.raises(UserError):
        ALLOWED.check(url)


def test_a_named_host_that_leads_to_a_link_local_address_is_not_called(monkeypatch):
    def found(*_, **__):
        return [(socket.AF_INET, 0, 0, "", ("169.254.169.254", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(UserError, match="link-local"):
        ALLOWED.check("http://named.example.org/latest")
