"""Templates filled in, and the headers that keep a page to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi.responses import HTMLResponse

from compactor import __version__
from compactor.service.dashboard import figures
from compactor.units import format_duration, format_size

HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def make_templates() -> jinja2.Environment:
    """Return the templates: everything is escaped, and a name that is missing is an error."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["version"] = __version__
    templates.filters.update(
        size=format_size,
        cost=figures.shown_cost,
        vcpu_hours=figures.shown_vcpu_hours,
        duration=format_duration,
        count=lambda value: f"{value:,}",
        health=figures.shown_health,
        moment=figures.shown_moment,
        share=figures.shown_share,
        path=lambda text: quote(text, safe=""),
    )
    return templates


def page(
    templates: jinja2.Environment, name: str, values: dict[str, Any], *, status: int = 200
) -> HTMLResponse:
    """Fill in a template."""
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)
