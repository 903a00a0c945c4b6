"""Recipes for people: every value with its reason, and what differs from another recipe."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import yaml
from pydantic import BaseModel

from recnb.errors import RecipeError, nearest
from recnb.settings import Recipe, differing, reasons
from recnb.style import aligned


def defaults(recipe: Recipe) -> Recipe:
    """The recipe with all defaults, under the same name."""
    return type(recipe)(name=recipe.name)  # type: ignore[call-arg]


def differences(recipe: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """:func:`recnb.settings.differing` of two recipes, but for their names and titles."""
    return differing(*(each.model_dump(mode="json", exclude={"name", "title"}) for each in (recipe, other)))


def side_by_side(rows: list[tuple[str, Any, Any]], names: tuple[str, str]) -> str:
    """Differences as an aligned table."""
    return aligned([("key", *names), *((key, inline(mine), inline(theirs)) for key, mine, theirs in rows)])


def inline(value: Any) -> str:
    """A value as it stands in a recipe file, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def as_yaml(recipe: Recipe) -> str:
    """A complete recipe file."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True).rstrip()


def with_reasons(recipe: Recipe, section: str | None = None) -> str:
    """Every value, or those of one section (``embeddings.semantic``), with its reason; ``*`` marks one that is not the
    default.

    Raises:
        RecipeError: there is no such section.
    """
    keys = [key.split(".") for key in reasons(type(recipe))]
    known = list(dict.fromkeys(".".join(key[:depth]) for key in keys for depth in range(1, len(key))))
    if section and section not in known:
        raise RecipeError(f"no section '{section}'; sections: {', '.join(known)}{nearest(section, known)}")
    shown, base = (attrgetter(section)(each) if section else each for each in (recipe, defaults(recipe)))
    rows = _rows(shown, base)
    width = min(44, max(len(text) for _, text, _ in rows))
    lines = [f"{mark} {text.ljust(width)}  # {why}" if why else f"{mark} {text}" for mark, text, why in rows]
    head = f"# {section} of {recipe.name}" if section else f"# {recipe.name}"
    return "\n".join(line.rstrip() for line in (f"{head}; * is not the default", *lines))


def _rows(tree: BaseModel, base: BaseModel, indent: str = "") -> list[tuple[str, str, str]]:
    """(mark, text, reason) of each value and section."""
    rows: list[tuple[str, str, str]] = []
    told = tree.model_dump(mode="json")
    for name, field in type(tree).model_fields.items():
        value, default = getattr(tree, name), getattr(base, name)
        if isinstance(value, BaseModel):
            rows.append((" ", f"{indent}{name}:", (type(value).__doc__ or "").split("\n")[0]))
            rows += _rows(value, default, indent + "  ")
        else:
            mark = " " if value == default else "*"
            rows.append((mark, f"{indent}{name}: {inline(told[name])}", field.description or ""))
    return rows
