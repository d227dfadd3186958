"""The pages, each for one question, and what can be asked for on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

import jinja2
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import Field

from compactor.errors import CompactorError, JobFailedError
from compactor.service.auth import Scope, UnauthenticatedError
from compactor.service.dashboard import figures
from compactor.service.dashboard.rendering import HERE, make_templates, page
from compactor.service.dashboard.visitors import COOKIE, Door, Visitor
from compactor.service.operations import not_registered
from compactor.service.parts import Parts
from compactor.service.rpc.failures import NoSuchJobError
from compactor.service.seen import seen_page
from compactor.service.views import GOOD_HEALTH, TableView, TriggerView

PAGE_ROWS = 100
_STATUS = {
    "unauthenticated": 401,
    "forbidden": 403,
    "table-not-found": 404,
    "no-such-job": 404,
    "settings-refused": 400,
    "nothing-to-cancel": 409,
}
FormText = Annotated[str, Form()]
# Databases know no higher one.
Number = Annotated[int, Field(ge=0, lt=1 << 63)]


def make_router(parts: Parts) -> APIRouter:
    """Return the routes of all pages."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    pages = Pages(parts, make_templates())
    gets: dict[str, Callable[..., Response]] = {
        "/": pages.overview,
        "/tables": pages.tables,
        "/tables/{target:path}": pages.table,
        "/queue": pages.queue,
        "/jobs/{job}": pages.job,
        "/sources": pages.sources,
        "/settings": pages.settings,
    }
    posts: dict[str, Callable[..., Response]] = {
        "/actions/compact": pages.compact,
        "/actions/pause": pages.pause,
        "/actions/cancel": pages.cancel,
    }
    for path, endpoint in gets.items():
        router.add_api_route(path, endpoint, methods=["GET"])
    for path, endpoint in posts.items():
        router.add_api_route(path, endpoint, methods=["POST"])
    router.add_api_route("/login", pages.login, methods=["POST"])
    router.add_api_route("/logout", pages.logout, methods=["POST"])
    router.mount("/static", StaticFiles(directory=HERE / "static"))
    return router


class Pages:
    """Answers requests for pages; each is a whole page, of which the live part is taken."""

    def __init__(self, parts: Parts, templates: jinja2.Environment) -> None:
        self._parts = parts
        self._door = Door(parts.authenticator)
        self._templates = templates

    def overview(self, request: Request) -> Response:
        """Show whether the lake is healthy and the service keeps up."""

        def values(_: Visitor) -> dict[str, Any]:
            overview = self._parts.views.overview()
            return {
                "overview": overview,
                "worst": self._parts.views.worst_tables(10),
                "running": self._parts.views.triggers(states=("running",), limit=20),
                "failed": self._parts.views.triggers(states=("failed", "dead"), limit=5),
                "first_tries": figures.first_try_share(overview.totals),
                "total": partial(figures.total, overview.totals),
                "memory_share": figures.memory_share(overview.totals),
                "budget": self._parts.config.budget,
                "instances": self._parts.views.instances(),
            }

        return self._page(request, "overview.html", values, everything=True)

    def tables(
        self, request: Request, q: str = "", after: str = "", poor: bool = False
    ) -> Response:
        """Show which tables need care, and why."""

        def values(visitor: Visitor) -> dict[str, Any]:
            def read(after: str, limit: int) -> tuple[TableView, ...]:
                below = GOOD_HEALTH if poor else None
                return self._parts.views.tables(
                    after=after, matching=q, health_below=below, limit=limit
                )

            seen, more = seen_page(
                visitor.principal, read, after=after, key=lambda one: one.target, limit=PAGE_ROWS
            )
            return {"tables": seen, "q": q, "poor": poor, "after": after, "more": more}

        return self._page(request, "tables.html", values)

    def table(self, request: Request, target: str) -> Response:
        """Show what ails one table, and why nothing happens with it."""

        def values(visitor: Visitor) -> dict[str, Any]:
            visitor.principal.check(Scope.READ, target)
            table = self._parts.views.table(target)
            if table is None:
                raise not_registered(target)
            history = self._parts.views.health_of(target)
            return {
                "table": table,
                "history": history,
                "series": figures.health_series(history),
                "policy": self._parts.registry.rules().explain(target),
                "triggers": self._parts.views.triggers(target=target, limit=20),
            }

        return self._page(request, "table.html", values)

    def queue(self, request: Request, before: Number = 0, state: str = "") -> Response:
        """Show what runs, waits and failed."""

        def values(visitor: Visitor) -> dict[str, Any]:
            def read(before: int, limit: int) -> tuple[TriggerView, ...]:
                states = (state,) if state else ()
                return self._parts.views.triggers(states=states, before=before or None, limit=limit)

            seen, more = seen_page(
                visitor.principal,
                read,
                after=before,
                key=lambda one: one.trigger_id,
                limit=PAGE_ROWS,
            )
            return {"triggers": seen, "state": state, "before": before, "more": more}

        return self._page(request, "queue.html", values)

    def job(self, request: Request, job: str) -> Response:
        """Show one job: groups over time, memory predicted and taken, commits."""

        def values(visitor: Visitor) -> dict[str, Any]:
            detail = self._parts.views.job(job)
            if detail is None or not visitor.principal.may_see(detail.job.table):
                raise NoSuchJobError(f"no single job `{job}`")
            return {
                "detail": detail,
                "trigger": self._parts.views.trigger_of_job(detail.job.job),
                "timeline": figures.timeline(detail, now_ms=_now_ms()),
                "grants": figures.grants(detail.attempts),
                "utilisation": figures.utilisation(detail.attempts),
            }

        return self._page(request, "job.html", values)

    def sources(self, request: Request) -> Response:
        """Show what will start work: schedules, hooks and their last deliveries."""

        def values(_: Visitor) -> dict[str, Any]:
            return {
                "webhooks": sorted(self._parts.config.webhooks),
                "deliveries": self._parts.views.deliveries(limit=PAGE_ROWS),
                "duties": self._parts.views.duties(),
            }

        return self._page(request, "sources.html", values, everything=True)

    def settings(self, request: Request) -> Response:
        """Show what is in force, and who did what."""

        def values(_: Visitor) -> dict[str, Any]:
            return {
                "options": self._parts.config.service,
                "budget": self._parts.config.budget,
                "files": self._parts.config.settings.files,
                "policies": self._parts.registry.set_policies(),
                "audit": self._parts.views.audit(limit=PAGE_ROWS),
            }

        return self._page(request, "settings.html", values, everything=True)

    def compact(self, request: Request, target: FormText, form_key: FormText) -> Response:
        """Have a job of a table done."""

        def act(visitor: Visitor) -> str:
            visitor.principal.check(Scope.OPERATE, target)
            self._parts.operations.submit(target, cause="", actor=visitor.principal.name)
            return f"/tables/{quote(target, safe='')}"

        return self._act(request, form_key, act)

    def pause(
        self, request: Request, target: FormText, form_key: FormText, is_paused: FormText
    ) -> Response:
        """Keep jobs of a table from being begun, or let them again."""

        def act(visitor: Visitor) -> str:
            visitor.principal.check(Scope.OPERATE, target)
            self._parts.operations.pause(
                target, is_paused=is_paused == "yes", actor=visitor.principal.name
            )
            return f"/tables/{quote(target, safe='')}"

        return self._act(request, form_key, act)

    def cancel(
        self, request: Request, trigger_id: Annotated[Number, Form()], form_key: FormText
    ) -> Response:
        """End a row of the queue."""

        def act(visitor: Visitor) -> str:
            trigger = self._parts.views.trigger(trigger_id)
            if trigger is None or not visitor.principal.may_see(trigger.target):
                raise NoSuchJobError(f"no trigger {trigger_id}")
            visitor.principal.check(Scope.OPERATE, trigger.target)
            self._parts.operations.cancel(trigger_id, reason="", actor=visitor.principal.name)
            return "/queue"

        return self._act(request, form_key, act)

    def login(self, request: Request, token: FormText) -> Response:
        """Keep a token in the browser, if it is one."""
        try:
            self._door.check_token(token)
        except UnauthenticatedError as error:
            return self._failed(error)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    def logout(self, request: Request, form_key: FormText) -> Response:
        """Have the browser forget the token."""
        answer = self._act(request, form_key, lambda _: "/")
        if answer.status_code == 303:
            answer.delete_cookie(COOKIE)
        return answer

    def _page(
        self,
        request: Request,
        name: str,
        values: Callable[[Visitor], dict[str, Any]],
        *,
        everything: bool = False,
    ) -> Response:
        try:
            visitor = self._door.visitor(request)
            visitor.principal.check_scope(Scope.READ)
            if everything and not visitor.principal.sees_everything:
                return RedirectResponse("/tables", 303)
            now_ms = _now_ms()
            shown = {
                "visitor": visitor,
                "can_operate": visitor.principal.scope >= Scope.OPERATE,
                "has_tokens": not self._parts.authenticator.is_open,
                "here": str(request.url.path),
                # As it was asked for: decoded, another page may be at the same address.
                "address": f"{quote(request.scope['raw_path'], safe='/%')}?{request.url.query}",
                "now_ms": now_ms,
                "age": partial(figures.shown_age, now_ms=now_ms),
            }
            return page(self._templates, name, shown | values(visitor))
        except (CompactorError, JobFailedError) as error:
            return self._failed(error)

    def _act(self, request: Request, form_key: str, act: Callable[[Visitor], str]) -> Response:
        try:
            visitor = self._door.visitor(request)
            self._door.check_form(visitor, form_key)
            return RedirectResponse(act(visitor), 303)
        except CompactorError as error:
            return self._failed(error)

    def _failed(self, error: CompactorError) -> Response:
        status = _STATUS.get(error.code, 503 if error.retryable else 500)
        name = "login.html" if isinstance(error, UnauthenticatedError) else "error.html"
        return page(self._templates, name, {"error": error, "status": status}, status=status)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
