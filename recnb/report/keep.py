"""A recipe's executed walk as notebooks fit to be committed: small, the same each time, no place of this machine.

``python -m recnb.report.keep params/quickstart.yaml reports/example/notebooks`` puts them beside the report's pages.
"""

import argparse
import base64
import os.path
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recnb.artifacts import find_root, write_text
from recnb.errors import ArtifactError, RecnbError
from recnb.report.notebooks import linked
from recnb.settings import Recipe
from recnb.style import small_png
from recnb.workflow.graph import stage_named
from recnb.workflow.plan import executed_path
from recnb.workflow.progress import size
from recnb.workflow.recipe import resolve_recipe

_WIDTH = 1000  # pixels of a picture
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])[^)\s]+(?=\))")  # relative ones
_FOLDER_OF_A_SETTING = re.compile(r'(?<=[="])/[^"\s]*/')


def keep(recipe: Recipe, root: Path, folder: Path, stages: Sequence[str] = ()) -> list[Path]:
    """Write the executed notebooks of a recipe as committed ones: ``<folder>/<stage>.ipynb``.

    Links lead to the notebooks beside them and else into the project. Of the metadata, tags and the seconds of each
    cell stay; outputs that no viewer shows go; pictures have 256 colours and are at most 1,000 pixels wide. Those of
    ``stages`` are kept; none named: all that have run.
    """
    asked = [stage_named(name, recipe.stages) for name in stages] or recipe.stages
    walk = [spec for spec in asked if executed_path(recipe, spec.name, root).is_file()]
    if not walk or (stages and len(walk) < len(asked)):
        wanted = ", ".join(stages) or "any notebook"
        raise ArtifactError(f"no executed page of {wanted} in the report of '{recipe.name}': `recnb run` makes them")
    beside = {f"notebooks/{spec.notebook}.ipynb": f"{spec.name}.ipynb" for spec in walk}
    for source, name in beside.items():

        def leads(link: re.Match[str], source: str = source) -> str:
            place = linked(source, link[0])
            return beside.get(place) or os.path.relpath(root / place, folder)

        _slim(executed_path(recipe, name.removesuffix(".ipynb"), root), folder / name, leads, root)
    return [folder / name for name in beside.values()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep the walk of a recipe file."""
    parser = argparse.ArgumentParser("python -m recnb.report.keep", description="Keep executed notebooks, small.")
    parser.add_argument("recipe", help="a recipe file that was run")
    parser.add_argument("folder", type=Path, help="where its notebooks go")
    parser.add_argument("stages", nargs="*", help="these only")
    options = parser.parse_args(arguments)
    try:
        root = find_root(options.recipe)
        kept = keep(resolve_recipe(options.recipe, (), root), root, options.folder, options.stages)
    except RecnbError as error:
        print(f"recnb: {error}", file=sys.stderr)
        return 2
    print(f"{options.folder}: {len(kept)} notebooks, {size(sum(file.stat().st_size for file in kept))}")
    return 0


def _slim(executed: Path, target: Path, leads: Callable[[re.Match[str]], str], root: Path) -> None:
    """Write an executed notebook as a kept one."""
    import nbformat

    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata = {"kernelspec": notebook.metadata.get("kernelspec", {}), "language_info": {"name": "python"}}
    for cell in notebook.cells:
        tags, seconds = cell.metadata.get("tags"), cell.metadata.get("recnb", {}).get("seconds")
        cell.metadata = ({"tags": tags} if tags else {}) | ({"recnb": {"seconds": seconds}} if seconds else {})
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(leads, cell.source)
        if "injected-parameters" in (tags or ()):
            cell.source = _FOLDER_OF_A_SETTING.sub("", cell.source)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_slim_output, cell.outputs) if output.get("data") != {}]
    write_text(target, nbformat.writes(nbformat.from_dict(_without_places(notebook, _places(root)))) + "\n")


def _slim_output(output: Any) -> Any:
    """An output without what no viewer shows, its picture small."""
    if "data" in output:
        output.data = {kind: data for kind, data in output.data.items() if kind.startswith(("text/", "image/"))}
        if encoded := output.data.get("image/png"):
            picture = base64.b64decode(encoded)
            output.data["image/png"] = base64.b64encode(min(small_png(picture, _WIDTH), picture, key=len)).decode()
    return output


def _places(root: Path) -> re.Pattern[str]:
    """Folders of this machine, and what the kernel called a cell's code."""
    folders = sorted({str(path) for path in (root, Path.home(), Path(sys.prefix), Path(tempfile.gettempdir()))} - {"/"})
    known = "|".join(re.escape(folder) for folder in reversed(folders))  # of two, the one within the other first
    return re.compile(rf"(?<![\w.-])(?:(?:{known})(?:/|(?![\w.-])))(?:ipykernel_\d+/\d+\.py)?")


def _without_places(value: Any, places: re.Pattern[str]) -> Any:
    """JSON values, pictures aside, without the folders of this machine."""
    if isinstance(value, dict):
        encoded = {key for key, inner in value.items() if key.startswith("image/") and isinstance(inner, str)}
        return {key: inner if key in encoded else _without_places(inner, places) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner, places) for inner in value]
    return places.sub("", value) if isinstance(value, str) else value


if __name__ == "__main__":
    sys.exit(main())
