"""Which code a stage uses, function by function: a changed one runs again the stages that reach it, and no others.

Every name that a notebook takes from ``recnb``, or from the package that its system comes from, is followed through
the faces to its definition, and from there to all that the definition names in turn. A definition counts by its code:
comments, docstrings and annotations of functions change no result; to mend them throws no training away.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path

from recnb.artifacts import hash_artifact

# Running a stage is not its result, and settings reach one by the recipe's values, which are hashed themselves.
_NOT_HASHED = re.compile(r"recnb\.(workflow|errors)\b|.*\.(settings|recipe)$")
_TIMED = re.compile(r"(^[ \t]*|=[ \t]*)%%?time(?:it)?[ \t]+(?:-\w+[ \t]+(?:\d+[ \t]+)?)*", re.MULTILINE)
_MAGIC = re.compile(r"^([ \t]*)(?:[%!?].*|[\w.]+\?\??[ \t]*$)", re.MULTILINE)
_DATA_FILE = re.compile(r".{1,90}\.(ya?ml|jsonl?|csv|txt)")
_COMPOUND = (ast.If, ast.Try, ast.With, ast.For, ast.While, ast.Match)
_RECNB = Path(__file__).parents[1]
Place = tuple[str, str]  # module and name of a definition; no name: the module itself


@dataclass(frozen=True)
class Home:
    """Whose code counts, and where a system's own data files lie."""

    packages: tuple[Path, ...] = (_RECNB,)  # folders of packages; a module that is one file: its path without suffix
    wing: Path = _RECNB

    @classmethod
    def of(cls, module: str) -> Home:
        """That of the system to which a module, which is imported, belongs."""
        top, file = sys.modules[module.partition(".")[0]], Path(sys.modules[module].__file__ or "")
        place = Path(top.__path__[0]) if hasattr(top, "__path__") else file.with_suffix("")
        return cls(tuple(dict.fromkeys((_RECNB, place))), file.parent)


@dataclass
class _Module:
    """A parsed file: what each name is made of, where imported ones come from, and the statements that have no name."""

    name: str
    path: Path
    made_of: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, set[Place]] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)


def used_sources(cells: Iterable[str], home: Home = Home()) -> dict[str, str]:
    """Hash of every definition that a notebook's code reaches, by its dotted name.

    Args:
        cells: source of its code cells; lines of IPython's magic are passed over, what is timed counts.
        home: whose code counts.

    Returns:
        16 hex digits each; a data file counts where a definition names it that lies beside it, or in the system's wing.
    """
    bare = (_bare(cell) or _bare(_MAGIC.sub(r"\1pass", _TIMED.sub(r"\1", cell))) for cell in cells)
    notebook = _read(chain(*bare), _Module("a notebook", _RECNB))
    return _followed(_named([*notebook.loose, *chain(*notebook.made_of.values())], notebook, home), home)


def sources_of(function: str) -> dict[str, str]:
    """The same for one function, given as ``package.module:name``; the module is imported."""
    module, _, name = function.partition(":")
    home = Home.of(import_module(module).__name__)
    return _followed(_resolved((module, name), [], home), home)


def _followed(todo: set[Place], home: Home) -> dict[str, str]:
    found: dict[str, str] = {}
    done: set[Place] = set()
    while todo:
        place = todo.pop()
        done.add(place)
        hashes, named = _definition(place, home)
        found |= hashes
        todo |= named - done
    return dict(sorted(found.items()))


@cache
def _definition(place: Place, home: Home) -> tuple[dict[str, str], frozenset[Place]]:
    """Hashes of one definition and of the data files that it names, and the definitions that it names."""
    module = _module(place[0], home)
    if module is None:
        return {}, frozenset()
    statements = [*module.made_of[place[1]], *module.loose]
    named = frozenset(_named(statements, module, home))
    if _NOT_HASHED.match(module.name):
        return {}, named
    code = "".join(ast.dump(ast.Module([statement], [])) for statement in statements)
    hashes = {".".join(place): hashlib.sha256(code.encode()).hexdigest()[:16]}
    nodes = chain(*map(ast.walk, statements))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    folders = {module.path.parent, home.wing}
    files = [folder / text for text in texts if _DATA_FILE.fullmatch(text) for folder in folders]
    hashes |= {f"{module.name} {file.name}": hash_artifact(file)[:16] for file in files if file.is_file()}
    return hashes, named


@cache
def _module(name: str, home: Home) -> _Module | None:
    """The parsed module, or the stub of a face; None for what is somebody else's."""
    first, *rest = name.split(".")
    for base in (package.joinpath(*rest) for package in home.packages if package.name == first):
        for file in (base.with_suffix(".py"), base / "__init__.pyi", base / "__init__.py"):
            if file.is_file():
                return _read(_bare(file.read_text(encoding="utf-8", errors="replace")), _Module(name, file))
    return None


def _bare(source: str) -> list[ast.stmt]:
    """Statements of Python without what changes no result: docstrings, and annotations but those of a class's fields,
    which libraries read. None of what is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # somebody's cell; running it will say so
        return []
    fields: set[ast.stmt] = set()
    for node in ast.walk(tree):  # a class before what it holds
        if isinstance(node, ast.ClassDef):
            fields.update(node.body)
        if isinstance(body := getattr(node, "body", None), list):
            code = [part for part in body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
            node.body = code or [ast.Pass()]  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign):
            node.annotation = node.annotation if node in fields else ast.Constant(None)
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
        compound = isinstance(statement, _COMPOUND)
        names = [name for part in (ast.walk(statement) if compound else [statement]) for name in _assigned(part)]
        imported = list(_imported(statement, module))
        for name, place in imported:
            module.imports.setdefault(name, set()).add(place)
        for name in names:
            module.made_of.setdefault(name, []).append(statement)
        if compound or not (names or imported):
            module.loose.append(statement)
    return module


def _assigned(statement: ast.AST) -> list[str]:
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


def _named(statements: Iterable[ast.AST], module: _Module, home: Home) -> set[Place]:
    """Definitions that these statements of a module name; a star brings all that it may."""
    found: set[Place] = set()
    for star, _ in module.imports.get("*", ()):
        found |= _resolved((star, ""), [], home)
    for first, *rest in chain(*map(_chains, statements)):
        if first in module.made_of:
            found.add((module.name, first))
        for origin in module.imports.get(first, ()):
            found |= _resolved(origin, rest, home)
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


def _resolved(place: Place, rest: list[str], home: Home) -> set[Place]:
    """Where a name is defined, through all the modules that only pass it on; a module alone stands for all it holds."""
    module = _module(place[0], home)
    if module is None:
        return set()
    if not (names := [*filter(None, place[1:]), *rest]):
        passed_on = chain(*module.imports.values()) if module.path.suffix == ".pyi" else ()
        whole = {(module.name, name) for name in module.made_of}
        return whole.union(*(_resolved(origin, [], home) for origin in passed_on))
    if names[0] in module.made_of:
        return {(module.name, names[0])}
    file_of_the_folder = (f"{module.name}.{names[0]}", "")
    origins = module.imports.get(names[0], set()) - {(module.name, names[0])} or {file_of_the_folder}
    return set().union(*(_resolved(origin, names[1:], home) for origin in origins))
