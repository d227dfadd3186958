"""What all faces of the service stand on: its pages, its job API, its hooks."""

from __future__ import annotations

from dataclasses import dataclass

from compactor.jobs.store import JobStore
from compactor.service.auth import Authenticator
from compactor.service.config import ServiceConfig
from compactor.service.operations import Operations
from compactor.service.registry import Registry
from compactor.service.views import Views


@dataclass(frozen=True, slots=True)
class Parts:
    """Who asks, what can be told and what can be asked for.

    Attributes:
        config: what the service was told.
        store: where everything is kept.
        registry: the registered tables: policies, care.
        views: what can be told.
        operations: what can be asked for.
        authenticator: knows who asks.
    """

    config: ServiceConfig
    store: JobStore
    registry: Registry
    views: Views
    operations: Operations
    authenticator: Authenticator

    @classmethod
    def of(
        cls,
        config: ServiceConfig,
        store: JobStore,
        *,
        registry: Registry,
        authenticator: Authenticator,
    ) -> Parts:
        """Put them together."""
        return cls(
            config=config,
            store=store,
            registry=registry,
            views=Views(store, config.service, config.budget),
            operations=Operations(store, config, registry),
            authenticator=authenticator,
        )
