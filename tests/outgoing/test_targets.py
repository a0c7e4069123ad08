"""Which addresses are called for strangers, and that calls go to those that were looked at."""
import ipaddress
import shutil
import socket
import ssl
import subprocess

import certifi
import pytest

from jaxrl_moe.outgoing.addresses import looked_up, secretive
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outgoing.urls import Allowed, Target
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.fakes import Call, Fake, send

SECRETIVE = ["169.254.169.254", "169.254.0.1", "fe80::1", "::ffff:169.254.169.254", "::169.254.169.254",
             "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "100.100.100.200", "192.0.0.192", "168.63.129.16",
             "fd00:ec2::254", "fd20:ce::254", "::ffff:100.100.100.200", "0.0.0.0", "::", "224.0.0.1",
             "ff02::1", "255.255.255.255", "240.0.0.1", "::ffff:0.0.0.0"]
PLAIN = ["127.0.0.1", "::1", "10.0.0.5", "172.17.0.1", "192.168.1.1", "8.8.8.8", "2001:4860:4860::8888",
         "fd00::5", "::ffff:10.0.0.5", "100.64.0.1"]


@pytest.mark.parametrize("address", SECRETIVE)
def test_an_address_where_secrets_are_kept_is_known_in_every_spelling(address):
    assert secretive(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PLAIN)
def test_others_may_be_called(address):
    assert not secretive(ipaddress.ip_address(address))


@pytest.mark.parametrize("spelt", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"])
def test_a_number_is_looked_up_as_the_system_reads_it(spelt):
    assert looked_up(spelt) == (ipaddress.ip_address("169.254.169.254"),)


def test_each_address_of_a_name_is_looked_at(monkeypatch):
    def found(*_, **__):
        return [(0, 0, 0, "", (address, 0)) for address in ("10.0.0.5", "::ffff:169.254.169.254")]
    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(UserError, match="its host is a link-local"):
        Allowed(["http://a.example.org"], "--allow").target("http://a.example.org/v1")


def test_a_localhost_that_leads_elsewhere_is_not_called(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("10.0.0.5", 0))])
    with pytest.raises(UserError, match="its host leads to other machines"):
        Allowed([], "--allow").target("http://localhost:8000/v1")
    assert Allowed(["http://localhost:8000"], "--allow").target("http://localhost:8000/v1")


def test_a_host_that_is_nowhere_cannot_be_reached(monkeypatch):
    def lost(*_, **__):
        raise socket.gaierror("not known")
    monkeypatch.setattr(socket, "getaddrinfo", lost)
    allowed = Allowed(["http://a.example.org"], "--allow")
    with pytest.raises(EnvError, match="no such host") as failed:
        allowed.target("http://a.example.org/v1")
    assert failed.value.status == Status.UNREACHABLE and allowed.check("http://a.example.org/v1/")


def test_calls_go_to_the_addresses_and_tell_the_name():
    target = Target("https://a.example.org/v1", ("10.0.0.5", "fd00::5"))
    first, second = target.routes("https://a.example.org/v1/models")
    assert first == {"url": "https://10.0.0.5:443/v1/models", "headers": {"Host": "a.example.org"},
                     "extensions": {"sni_hostname": "a.example.org"}}
    assert second["url"] == "https://[fd00::5]:443/v1/models"
    (plain,) = Target("http://b:8001/v1", ("10.0.0.6",)).routes("http://b:8001/v1/x")
    assert plain == {"url": "http://10.0.0.6:8001/v1/x", "headers": {"Host": "b:8001"}, "extensions": {}}
    for other in ("https://b.example.org/v1", "http://a.example.org/v1", "https://a.example.org:444/v1"):
        with pytest.raises(ValueError, match="is not of"):
            next(target.routes(other))


class Named(Fake):
    """A server that says by which Host it was asked."""

    def __init__(self, context=None):
        class Handler(Call):
            def do_POST(self):
                self.read()
                send(self, 200, {"host": self.headers["Host"]})

        self.listen(Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]


def test_a_second_address_is_tried_where_nobody_listens_at_the_first():
    with Named() as server:
        target = Target(f"http://a.example.org:{server.port}", ("127.0.0.2", "127.0.0.1"))
        connection = Connection(10, target=target)
        answer = connection.post(f"http://a.example.org:{server.port}/x", {}, Status.STEP_FAILED)
        connection.close()
    assert answer == {"host": f"a.example.org:{server.port}"}


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
@pytest.mark.parametrize("name, fits", [("a.example.org", True), ("b.example.org", False)])
def test_tls_checks_the_name_and_not_the_address(tmp_path, monkeypatch, name, fits):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", certificate, "-days", "2",
                    "-subj", "/CN=a.example.org", "-addext", "subjectAltName=DNS:a.example.org"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setattr(certifi, "where", lambda: str(certificate))
    with Named(context) as server:
        url = f"https://{name}:{server.port}"
        connection = Connection(10, target=Target(url, ("127.0.0.1",)))
        try:
            assert fits == (connection.post(url, {}, Status.STEP_FAILED) == {"host": f"{name}:{server.port}"})
        except EnvError as error:
            assert not fits and "CERTIFICATE_VERIFY_FAILED" in str(error)
        finally:
            connection.close()
