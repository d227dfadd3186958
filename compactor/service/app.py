"""All parts of one instance put together: opened in order, served, drained in reverse order."""

from __future__ import annotations

import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from compactor.errors import SettingsError
from compactor.service.auth import Authenticator, is_loopback
from compactor.service.config import ServiceConfig, ServiceOptions
from compactor.service.connections import CONNECTIONS_MAX, BoundedConnection
from compactor.service.dashboard.pages import make_router
from compactor.service.executor import Executor
from compactor.service.http import Face, Hooks, make_app
from compactor.service.intake import Intake
from compactor.service.limits import RateLimit
from compactor.service.notify import Notifier, make_endpoint
from compactor.service.outbound import Outbound
from compactor.service.parts import Parts
from compactor.service.registry import Registry, check_rules
from compactor.service.rpc.server import GRACE_SECONDS
from compactor.service.rpc.server import serve as serve_api
from compactor.service.scheduler import Scheduler, new_instance
from compactor.service.store import open_service_store
from compactor.service.webhooks.kinds import is_polled, make_queue, make_receiver
from compactor.service.webhooks.request import Receiver
from compactor.service.webhooks.sqs import Poller, Queue

_PORT_MAX = 65_535
_SWITCH_SECONDS = 0.0005
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """One instance.

    Attributes:
        parts: what its faces stand on.
        instance: its name.
        intake: makes deliveries durable.
        scheduler: decides when jobs run.
        receivers: of hooks, by source.
        queues: that are polled.
    """

    parts: Parts
    instance: str
    intake: Intake
    scheduler: Scheduler
    receivers: dict[str, Receiver]
    queues: tuple[Queue, ...]


@contextmanager
def opened(config: ServiceConfig) -> Iterator[Service]:
    """Open all parts; nothing runs yet but the intake.

    Raises:
        SettingsError: something of the configuration cannot be.
    """
    authenticator = Authenticator.of(config.auth.values)
    check_listen(config, authenticator)
    check_certificate(config.service)
    receivers, queues = _sources(config)
    with open_service_store(config.settings.store.url) as store:
        registry = Registry(store, config)
        check_rules(registry, config)
        registry.apply_configuration()
        instance = new_instance()
        executor = Executor(store, config, registry, instance=instance)
        with Intake(store, config.service) as intake:
            yield Service(
                parts=Parts.of(config, store, registry=registry, authenticator=authenticator),
                instance=instance,
                intake=intake,
                scheduler=Scheduler(store, config, registry, executor, instance=instance),
                receivers=receivers,
                queues=queues,
            )


def serve(config: ServiceConfig) -> None:
    """Serve until a signal ends it: no further job is begun then, and those that run are awaited.

    Raises:
        SettingsError: something of the configuration cannot be.
    """
    host, port = address_of(config.service.listen)
    # Verifying a signature lets the thread of the intake in, which would keep the loop waiting for
    # 5 ms each time.
    sys.setswitchinterval(_SWITCH_SECONDS)
    with opened(config) as service:
        options = config.service
        server = uvicorn.Server(
            uvicorn.Config(
                application(service),
                host=host,
                port=port,
                loop="uvloop",
                http=BoundedConnection,
                ws="none",
                limit_concurrency=CONNECTIONS_MAX,
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_certfile=options.tls_certificate,
                ssl_keyfile=options.tls_key,
            )
        )
        # The server raises what it has caught once more when it has ended: that ends nothing else.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _note_end)
        with job_api(service) as job_api_port:
            _LOG.info("the job API listens at port %d", job_api_port)
            server.run()


def _note_end(number: int, _: object) -> None:
    _LOG.info("ended by %s", signal.Signals(number).name)


def application(service: Service) -> FastAPI:
    """Return what is served over HTTP."""
    parts, config = service.parts, service.parts.config
    hooks = Hooks(service.receivers, service.intake, RateLimit(config.service.rate_max))
    face = Face(hooks, parts.views, service.scheduler, parts.authenticator)

    notifier = Notifier(parts.store, map(make_endpoint, config.notifications.values()))
    pollers = [Poller(queue, service.intake.accept_now) for queue in service.queues]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.scheduler.start)
        notifier.start()
        for poller in pollers:
            poller.start()
        _LOG.info("instance %s serves %s", service.instance, config.service.listen)
        yield
        for poller in pollers:
            poller.stop()
        _LOG.info("instance %s ends: waiting for its jobs", service.instance)
        await run_in_threadpool(service.scheduler.drain)
        await run_in_threadpool(notifier.stop)

    app = make_app(face, lifespan)
    app.include_router(make_router(parts))
    return app


@contextmanager
def job_api(service: Service) -> Iterator[int]:
    """Serve the job API while the block runs; gives its port.

    Raises:
        SettingsError: it cannot listen there.
    """
    options = service.parts.config.service
    server, port = serve_api(
        options.grpc_listen,
        service.parts,
        certificate=options.tls_certificate,
        key=options.tls_key,
    )
    try:
        yield port
    finally:
        server.stop(GRACE_SECONDS).wait()


def check_listen(config: ServiceConfig, authenticator: Authenticator) -> None:
    """Refuse to be reached from elsewhere without encryption and tokens.

    Raises:
        SettingsError: an address is none, or is not loopback and lacks either.
    """
    options = config.service
    for name in ("listen", "grpc_listen"):
        host, _ = address_of(getattr(options, name))
        if is_loopback(host):
            continue
        if options.tls_certificate is None or authenticator.is_open:
            raise SettingsError(
                f"service.{name} is `{getattr(options, name)}`, which others can reach, without"
                " TLS and tokens",
                hint="set service.tls_certificate, service.tls_key and [auth], or use 127.0.0.1",
            )


def check_certificate(options: ServiceOptions) -> None:
    """Refuse a certificate that nobody could be served with.

    Raises:
        SettingsError: it, or its key, cannot be read, or they do not belong together.
    """
    if options.tls_certificate is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Nobody is there to be asked for a password.
        context.load_cert_chain(options.tls_certificate, options.tls_key, password="")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"service.tls_certificate and service.tls_key cannot be used: {error}",
            hint="both are PEM files, and the key is that of the certificate, without a password",
        ) from error


def address_of(listen: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        SettingsError: it is not that.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > _PORT_MAX:
        raise SettingsError(f"`{listen}` is no address", hint="write `127.0.0.1:8460`")
    return host.strip("[]"), int(port)


def _sources(config: ServiceConfig) -> tuple[dict[str, Receiver], tuple[Queue, ...]]:
    receivers, queues = {}, []
    fetch = Outbound().get
    for name, section in config.webhooks.items():
        if is_polled(name, section.values):
            queues.append(make_queue(name, section.values))
        else:
            receivers[name] = make_receiver(name, section.values, fetch=fetch)
    return receivers, tuple(queues)
