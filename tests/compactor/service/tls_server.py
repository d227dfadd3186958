"""A server of HTTPS on loopback with a certificate of its own: what the service asks of others."""

import ssl
import threading
from contextlib import contextmanager
from http.server import HTTPServer

from infra.docker.make_credentials import certificate

HOST = "hooks.example"


def write_certificate(path, host=HOST):
    """Write a self-signed certificate and its key to one file."""
    public, private = certificate([host])
    path.write_bytes(private + public)


@contextmanager
def tls_server(pair, handler):
    """Serve while the block runs; gives the server, whose `seen` is for the handler to fill.

    Args:
        pair: file that the certificate and its key are written to.
        handler: class of the handlers.
    """
    write_certificate(pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    server = HTTPServer(("127.0.0.1", 0), handler)
    server.seen = []
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
