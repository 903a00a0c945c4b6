"""Recipes for people: every value with its reason, and what differs from another recipe."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from recnb.errors import RecipeError
from recnb.settings import Recipe, flatten


def defaults(recipe: Recipe) -> Recipe:
    """The recipe with all defaults, under the same name."""
    return type(recipe)(name=recipe.name)  # type: ignore[call-arg]


def differences(recipe: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """``(key, value, other value)`` for each key in which two recipes differ, but for their names and titles."""
    mine, theirs = flat(recipe), flat(other)
    keys = [key for key in dict.fromkeys([*mine, *theirs]) if key not in ("name", "title")]
    return [(key, mine.get(key), theirs.get(key)) for key in keys if mine.get(key) != theirs.get(key)]


def flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted keys and plain values of a recipe."""
    return flatten(recipe.model_dump(mode="json"))


def side_by_side(rows: list[tuple[str, Any, Any]], names: tuple[str, str]) -> str:
    """Differences as an aligned table."""
    cells = [("key", *names), *((key, inline(a), inline(b)) for key, a, b in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    padded = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in cells]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def inline(value: Any) -> str:
    """A value as it stands in a recipe file, on one line."""
    if value is None:
        return "null"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).strip()
    return text.removesuffix("...").strip()


def as_yaml(recipe: Recipe) -> str:
    """A complete recipe file."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True).rstrip()


def with_reasons(recipe: Recipe, section: str | None = None) -> str:
    """Every value with its reason; ``*`` marks a value that is not the default."""
    tree: BaseModel = recipe
    base: BaseModel = defaults(recipe)
    prefix = ""
    for part in section.split(".") if section else []:
        if not isinstance(getattr(tree, part, None), BaseModel):
            raise RecipeError(f"no section '{section}'; sections: {', '.join(sections(recipe))}")
        tree, base, prefix = getattr(tree, part), getattr(base, part), f"{prefix}{part}."
    rows = list(_rows(tree, base))
    width = min(44, max(len(text) for _, text, _ in rows))
    lines = [f"{mark} {text.ljust(width)}  # {why}" if why else f"{mark} {text}" for mark, text, why in rows]
    head = f"# {prefix.rstrip('.')} of " if prefix else "# "
    return f"{head}{recipe.name}; * is not the default\n" + "\n".join(line.rstrip() for line in lines)


def sections(recipe: BaseModel, prefix: str = "") -> list[str]:
    """Dotted names of all sections."""
    found: list[str] = []
    for name in type(recipe).model_fields:
        inner = getattr(recipe, name)
        if isinstance(inner, BaseModel):
            found += [prefix + name, *sections(inner, f"{prefix}{name}.")]
    return found


def reasons(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Dotted key to the reason of its field, or of the section's docstring where a field has none."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= reasons(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.description or ""
    return found


def _rows(tree: BaseModel, base: BaseModel, depth: int = 0) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, field in type(tree).model_fields.items():
        value, default = getattr(tree, name), getattr(base, name)
        indent = "  " * depth
        if isinstance(value, BaseModel):
            rows.append((" ", f"{indent}{name}:", (type(value).__doc__ or "").split("\n")[0]))
            rows += _rows(value, default, depth + 1)
        else:
            mark = " " if value == default else "*"
            rows.append((mark, f"{indent}{name}: {inline(value)}", field.description or ""))
    return rows
