"""What the service asks of others: public hosts only, at the address that was looked at."""

from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address

import pytest

from compactor.service.outbound import (
    ANSWER_BYTES_MAX,
    Outbound,
    OutboundFailedError,
    OutboundRefusedError,
)
from tests.compactor.service.tls_server import HOST, tls_server


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, self.headers["Host"]))
        answers = {
            "/moved": (302, b""),
            "/large": (200, b"x" * (ANSWER_BYTES_MAX + 1)),
            "/missing": (404, b""),
        }
        status, body = answers.get(self.path, (200, b"content"))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/content")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(tmp_path):
    with tls_server(tmp_path / "both.pem", Handler) as server:
        yield server


@pytest.fixture
def outbound(tmp_path, server):
    return Outbound(
        private_hosts=frozenset({HOST}),
        resolve=lambda host, port: ["127.0.0.1"],
        authorities=str(tmp_path / "both.pem"),
    )


def url(server, path="/content"):
    return f"https://{HOST}:{server.server_port}{path}"


def test_the_certificate_is_that_of_the_name_and_the_connection_goes_to_the_address(
    outbound, server
):
    assert outbound.get(url(server, "/content?a=b")) == b"content"
    assert server.seen == [("/content?a=b", f"{HOST}:{server.server_port}")]


def test_another_name_has_another_certificate(server, tmp_path):
    outbound = Outbound(
        frozenset({"other.example"}), lambda host, port: ["127.0.0.1"], str(tmp_path / "both.pem")
    )
    with pytest.raises(OutboundFailedError):
        outbound.get(url(server).replace(HOST, "other.example"))


def test_no_redirect_is_followed(outbound, server):
    with pytest.raises(OutboundFailedError, match="302"):
        outbound.get(url(server, "/moved"))
    assert [path for path, _ in server.seen] == ["/moved"]


def test_an_answer_has_an_end(outbound, server):
    with pytest.raises(OutboundRefusedError, match="more than"):
        outbound.get(url(server, "/large"))


def test_other_answers_are_failures(outbound, server):
    with pytest.raises(OutboundFailedError, match="404"):
        outbound.get(url(server, "/missing"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "fec0::1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
)
def test_no_request_goes_to_an_address_inside(address):
    asked = []

    def resolve(host, port):
        asked.append(host)
        return ["8.8.8.8", address]

    with pytest.raises(OutboundRefusedError, match="not public"):
        Outbound(resolve=resolve).get("https://innocent.example/")
    assert asked == ["innocent.example"]
    assert ip_address(address.partition("%")[0])


@pytest.mark.parametrize(
    "address",
    [
        "http://a.example/",
        "file:///etc/passwd",
        "https://u@a.example/",
        "https://a:99999/",
        "https:",
    ],
)
def test_other_addresses_are_refused(address):
    with pytest.raises(OutboundRefusedError):
        Outbound(resolve=lambda host, port: ["8.8.8.8"]).get(address)
