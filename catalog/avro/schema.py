"""Avro schemas as JSON: named types spelled out or only named, types compared.  Pure.

Specification: https://avro.apache.org/docs/1.12.0/specification/#names
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Schema = Any

_NAMED = ("record", "fixed", "enum", "error")
# Of each type, what decides how its values are encoded.
_ENCODING = ("type", "items", "values", "size", "symbols", "fields")


def spelled_out(schema: Schema) -> Schema:
    """Return a schema with its definition wherever a named type is only named."""
    known: dict[str, Schema] = {}

    def spell(kind: Schema, space: str) -> Schema:
        if isinstance(kind, str):
            return known.get(f"{space}.{kind}") or known.get(kind, kind)
        if isinstance(kind, dict) and isinstance(kind.get("type"), dict | list):
            return spell(kind["type"], space)
        if isinstance(kind, dict) and kind.get("type") in _NAMED and "name" in kind:
            before, _, name = str(kind["name"]).rpartition(".")
            # What is defined in it without a namespace has the same one.
            space = before or str(kind.get("namespace", space))
            found = _within(kind, lambda inner: spell(inner, space))
            known[name] = known[f"{space}.{name}"] = found
            return found
        return _within(kind, lambda inner: spell(inner, space))

    return spell(schema, "")


def defined_once(schema: Schema) -> Schema:
    """Return a schema that defines each named type where it is used first, and then names it."""
    known: set[str] = set()

    def define(kind: Schema) -> Schema:
        if isinstance(kind, dict) and kind.get("type") in _NAMED:
            if kind["name"] in known:
                return kind["name"]
            known.add(kind["name"])
        return _within(kind, define)

    return define(schema)


def encoding_of(kind: Schema) -> str:
    """Return a text that types have in common whose values are encoded alike."""
    return json.dumps(_plain(kind))


def _within(kind: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Change the types that a type is made of."""
    if isinstance(kind, list):
        return [change(one) for one in kind]
    if not isinstance(kind, dict):
        return kind
    found = dict(kind)
    for inner in ("items", "values"):
        if inner in kind:
            found[inner] = change(kind[inner])
    if isinstance(kind["type"], dict | list):
        found["type"] = change(kind["type"])
    if "fields" in kind:
        found["fields"] = [{**one, "type": change(one["type"])} for one in kind["fields"]]
    return found


def _plain(kind: Schema) -> Schema:
    if isinstance(kind, list):
        return [_plain(one) for one in kind]
    if not isinstance(kind, dict):
        return kind
    if "fields" in kind:
        return [[one.get("field-id"), _plain(one["type"])] for one in kind["fields"]]
    found = {key: kind[key] for key in _ENCODING if key in kind}
    if list(found) == ["type"]:
        return _plain(kind["type"])
    for inner in ("items", "values"):
        if inner in found:
            found[inner] = _plain(found[inner])
    return found
