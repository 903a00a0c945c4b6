"""Which code a stage uses, function by function: a changed one runs again the stages that reach it, and no others.

Every name that a notebook takes from ``recnb`` is followed through the faces to its definition, and from there to all
that the definition names in turn. A definition counts by its code: comments, docstrings and annotations change no
result and may be mended without a training being thrown away.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

from recnb.artifacts import hash_artifact

# Running a stage is not its result, and settings reach one by the recipe's values, which are hashed themselves.
_NOT_HASHED = re.compile(r"recnb\.(workflow|errors)\b|.*\.(settings|recipe)$")
_MAGIC = re.compile(r"^[ \t]*[%!].*", re.MULTILINE)
_DATA_FILE = re.compile(r".{1,90}\.(ya?ml|jsonl?|csv|txt)")
_RECNB = Path(__file__).parents[1]
Place = tuple[str, str]  # module and name of a definition; no name: the module itself


@dataclass
class _Module:
    """A parsed file: what each name is made of, where imported ones come from, and the statements that have no name."""

    name: str
    path: Path
    made_of: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, set[Place]] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)


def used_sources(cells: Iterable[str], package: Path = _RECNB) -> dict[str, str]:
    """Hash of every definition that a notebook's code reaches, by its dotted name.

    Args:
        cells: source of its code cells; lines of IPython's magic are passed over.
        package: folder of ``recnb``.

    Returns:
        16 hex digits each; a data file beside a module counts where a definition names it.
    """
    statements = (statement for cell in cells for statement in _bare(_MAGIC.sub("", cell)))
    notebook = _read(statements, _Module("a notebook", package))
    return _followed(_named([*notebook.loose, *chain(*notebook.made_of.values())], notebook, package), package)


def sources_of(function: str) -> dict[str, str]:
    """The same for one function, given as ``package.module:name``."""
    module, _, name = function.partition(":")
    return _followed(_resolved((module, name), [], _RECNB), _RECNB)


def _followed(todo: set[Place], package: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    done: set[Place] = set()
    while todo:
        place = todo.pop()
        done.add(place)
        hashes, named = _definition(place, package)
        found |= hashes
        todo |= named - done
    return dict(sorted(found.items()))


@cache
def _definition(place: Place, package: Path) -> tuple[dict[str, str], frozenset[Place]]:
    """Hashes of one definition and of the data files that it names, and the definitions that it names."""
    module = _module(place[0], package)
    if module is None:
        return {}, frozenset()
    statements = [*module.made_of[place[1]], *module.loose]
    named = frozenset(_named(statements, module, package))
    if _NOT_HASHED.match(module.name):
        return {}, named
    code = "".join(ast.dump(ast.Module([statement], [])) for statement in statements)
    hashes = {".".join(place): hashlib.sha256(code.encode()).hexdigest()[:16]}
    nodes = chain(*map(ast.walk, statements))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    files = [module.path.parent / text for text in texts if _DATA_FILE.fullmatch(text)]
    hashes |= {f"{module.name} {file.name}": hash_artifact(file)[:16] for file in files if file.is_file()}
    return hashes, named


@cache
def _module(name: str, package: Path) -> _Module | None:
    """The parsed module, or the stub of a face; None for what is not of ``recnb``."""
    first, *rest = name.split(".")
    base = package.joinpath(*rest)
    for file in (base.with_suffix(".py"), base / "__init__.pyi", base / "__init__.py"):
        if first == "recnb" and file.is_file():
            return _read(_bare(file.read_text(encoding="utf-8", errors="replace")), _Module(name, file))
    return None


def _bare(source: str) -> list[ast.stmt]:
    """Statements of Python without what changes no result: docstrings and annotations. None of what is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # somebody's cell; running it will say so
        return []
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            code = [part for part in body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
            node.body = code or [ast.Pass()]  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif hasattr(node, "annotation"):
            node.annotation = None
        elif hasattr(node, "returns"):
            node.returns = None
    return tree.body


def _read(statements: Iterable[ast.stmt], module: _Module) -> _Module:
    """Fill an empty module."""
    for statement in statements:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in (names[-1] for names in _chains(statement.test)):
            continue
        names, imported = _assigned(statement), list(_imported(statement, module))
        for name, place in imported:
            module.imports.setdefault(name, set()).add(place)
        for name in names:
            module.made_of.setdefault(name, []).append(statement)
        if not names and not imported:
            module.loose.append(statement)
    return module


def _assigned(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = getattr(statement, "targets", [getattr(statement, "target", ast.Pass())])
    parts = chain(*map(ast.walk, targets))
    return [node.id for node in parts if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _imported(statement: ast.stmt, module: _Module) -> Iterator[tuple[str, Place]]:
    """Names that import statements bring, at whatever depth, and what they stand for."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                yield name, (alias.name if alias.asname else name, "")
        elif isinstance(node, ast.ImportFrom):
            parts = module.name.split(".")
            above = parts[: len(parts) - node.level + (module.path.stem == "__init__")] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((alias.asname or alias.name, (base, alias.name)) for alias in node.names)


def _named(statements: Iterable[ast.AST], module: _Module, package: Path) -> set[Place]:
    """Definitions of ``recnb`` that these statements of a module name."""
    found: set[Place] = set()
    for first, *rest in chain(*map(_chains, statements)):
        if first in module.made_of:
            found.add((module.name, first))
        for origin in module.imports.get(first, ()):
            found |= _resolved(origin, rest, package)
    return found


def _chains(statement: ast.AST) -> Iterator[list[str]]:
    """Names with what is taken from them (``a.b.c``: a, b, c)."""
    todo = [statement]
    while todo:
        node = inner = todo.pop()
        taken: list[str] = []
        while isinstance(inner, ast.Attribute):
            taken.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield [inner.id, *reversed(taken)]
        else:
            todo += ast.iter_child_nodes(node)


def _resolved(place: Place, rest: list[str], package: Path) -> set[Place]:
    """Where a name is defined, through all the modules that only pass it on; a module alone stands for all it holds."""
    module = _module(place[0], package)
    if module is None:
        return set()
    if not (names := [*filter(None, place[1:]), *rest]):
        return {(module.name, name) for name in module.made_of}
    if names[0] in module.made_of:
        return {(module.name, names[0])}
    file_of_the_folder = (f"{module.name}.{names[0]}", "")
    origins = module.imports.get(names[0], set()) - {(module.name, names[0])} or {file_of_the_folder}
    return set().union(*(_resolved(origin, names[1:], package) for origin in origins))
