"""Which code a stage uses, function by function: a changed one runs again the stages that reach it, and no others.

Every name that a notebook takes from ``recnb`` is followed through the faces to its definition, and from there to all
that the definition names in turn. A definition counts by its code: comments, docstrings and annotations change no
result and may be mended without a training being thrown away; so may a definition be moved to another file.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

# Running a stage is not its result, and settings reach one by the recipe's values, which are hashed themselves.
_NOT_HASHED = ("recnb.workflow.", "recnb.errors.")
_SETTINGS = ("settings", "recipe")
_DATA_SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".txt")
Place = tuple[str, str]  # module and name; an empty name: the whole module


@dataclass
class _Module:
    """A parsed file: what each name is made of, what it imports, and the statements that have no name."""

    name: str
    path: Path
    made_of: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Place] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)


def used_sources(cells: Iterable[str], package: Path | None = None) -> dict[str, str]:
    """Hash of every definition that a notebook's code reaches, by its dotted name.

    Args:
        cells: source of its code cells; lines of IPython's magic are passed over.
        package: folder of ``recnb``; none: the one at work.

    Returns:
        16 hex digits each; a data file beside a module counts where a definition names it.
    """
    package = package or Path(__file__).parents[1]
    code = "\n".join(line for cell in cells for line in _without_magic(cell).split("\n"))
    notebook = _read(code, "a notebook", package / "of no file")
    statements = [*notebook.loose, *(part for parts in notebook.made_of.values() for part in parts)]
    return _followed(_named(statements, notebook, package), package)


def sources_of(function: str) -> dict[str, str]:
    """The same for one function, given as ``package.module:name``."""
    module, _, name = function.partition(":")
    package = Path(__file__).parents[1]
    return _followed(_resolved((module, name), package), package)


def _followed(todo: set[Place], package: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    done: set[Place] = set()
    while todo := todo - done:
        for place in todo:
            hashes, _ = _definition(place, package)
            found |= hashes
        done |= todo
        todo = {named for place in todo for named in _definition(place, package)[1]}
    return dict(sorted(found.items()))


@cache
def _definition(place: Place, package: Path) -> tuple[dict[str, str], frozenset[Place]]:
    """Hashes of one definition and of the data files that it names, and the definitions that it names."""
    module = _module(place[0], package)
    if module is None:
        return {}, frozenset()
    statements = [*module.made_of.get(place[1], []), *module.loose]
    named = frozenset(_named(statements, module, package))
    if _is_machinery(place[0]):
        return {}, named
    hashes = {".".join(place): _digest("".join(_bare(part) for part in statements))}
    files = _files(statements, module)
    return hashes | {f"{place[0]} {file.name}": _digest(file.read_text("utf-8")) for file in files}, named


def _is_machinery(module: str) -> bool:
    return f"{module}.".startswith(_NOT_HASHED) or module.rpartition(".")[2] in _SETTINGS


def _without_magic(cell: str) -> str:
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in cell.split("\n"))


@cache
def _module(name: str, package: Path) -> _Module | None:
    """The parsed module, or the stub of a face; None for what is not of ``recnb``."""
    parts = name.split(".")
    base = package.joinpath(*parts[1:])
    places = (base.with_suffix(".py"), base / "__init__.pyi", base / "__init__.py")
    file = next((place for place in places if parts[0] == "recnb" and place.is_file()), None)
    return None if file is None else _read(file.read_text(encoding="utf-8"), name, file)


def _read(source: str, name: str, path: Path) -> _Module:
    module = _Module(name, path)
    try:
        body = ast.parse(source).body
    except SyntaxError:  # somebody's cell; running it will say so
        return module
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        imported = _imported(statement, module)
        names = _assigned(statement)
        module.imports |= imported
        for one in names:
            module.made_of.setdefault(one, []).append(statement)
        if not names and not imported and not _is_text(statement):
            module.loose.append(statement)
    return module


def _imported(node: ast.AST, module: _Module) -> dict[str, Place]:
    """What the import statements in a node bring, by the name it has here."""
    found: dict[str, Place] = {}
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0]: (alias.name, "") for alias in each.names}
        elif isinstance(each, ast.ImportFrom):
            base = _absolute(each, module)
            found |= {alias.asname or alias.name: (base, alias.name) for alias in each.names}
    return found


def _absolute(node: ast.ImportFrom, module: _Module) -> str:
    parts = module.name.split(".")
    above = parts[: len(parts) - node.level + (module.path.stem == "__init__")] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _assigned(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    parts = [node for target in targets if target is not None for node in ast.walk(target)]
    return [node.id for node in parts if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _named(statements: Iterable[ast.AST], module: _Module, package: Path) -> set[Place]:
    """Definitions of ``recnb`` that these statements of a module name."""
    found: set[Place] = set()
    for statement in statements:
        known = module.imports | _imported(statement, module)
        for first, *rest in _chains(statement):
            if first in known:
                found |= _resolved(known[first], package, rest)
            elif first in module.made_of:
                found.add((module.name, first))
    return found


def _chains(statement: ast.AST) -> Iterator[list[str]]:
    """Names with what is taken from them (``a.b.c``: a, b, c); not those in annotations."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        chain, inner = [], node
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield [inner.id, *reversed(chain)]
            continue
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns"):
                parts = value if isinstance(value, list) else [value]
                todo += [part for part in parts if isinstance(part, ast.AST)]


def _resolved(place: Place, package: Path, rest: Iterable[str] = ()) -> set[Place]:
    """Where a name is defined, through all the modules that only pass it on; a module alone stands for all it holds."""
    module, names = place[0], [*([place[1]] if place[1] else []), *rest]
    found = _module(module, package)
    if found is None:
        return set()
    if not names:
        return {(module, name) for name in found.made_of}
    if names[0] in found.made_of:
        return {(module, names[0])}
    target = found.imports.get(names[0], (module, names[0]))
    if target != (module, names[0]):
        return _resolved(target, package, names[1:])
    return _resolved((f"{module}.{names[0]}", ""), package, names[1:])


def _files(statements: Iterable[ast.AST], module: _Module) -> list[Path]:
    nodes = [node for statement in statements for node in ast.walk(statement)]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {text for text in texts if text.endswith(_DATA_SUFFIXES) and "\n" not in text and len(text) < 100}
    return sorted(file for name in names if (file := module.path.parent / name).is_file())


class _Bare(ast.NodeTransformer):
    """Leaves out what changes no result: docstrings and annotations."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """A copy of the node without them."""
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)] or [ast.Pass()]  # type: ignore[attr-defined]
        for name in ("annotation", "returns"):
            if hasattr(node, name):
                setattr(node, name, ast.Constant(None) if isinstance(node, ast.AnnAssign) else None)
        return super().generic_visit(node)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _bare(statement: ast.stmt) -> str:
    return ast.dump(_Bare().visit(ast.parse(ast.unparse(statement))))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
