"""The notebooks: as written (cards, links, parameters, short cells, no outputs) and as executed (strictly compared)."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import nbformat
import pytest
from sandbox import ROOT, STAGES, Again, ToyRun, nbval

from recnb.eager_llm.recipe import EagerLLM
from recnb.gallery.recipe import Gallery
from recnb.llm4sbr.recipe import LLM4SBR
from recnb.rsllm.recipe import RSLLM

NOTEBOOKS = list(STAGES)
each_stage = pytest.mark.parametrize("name", NOTEBOOKS)
# What a notebook opens with by itself, and in Colab: the quickstart and the toy of its system.
RECIPES = {EagerLLM: ("params/quickstart.yaml", "params/toy.yaml"), LLM4SBR: ("params/sessions.yaml", "params/llm4sbr/toy.yaml"),
           RSLLM: ("params/ranking.yaml", "params/rsllm/toy.yaml"),
           Gallery: ("params/gallery.yaml", "params/gallery/toy.yaml")}  # fmt: skip
WALKS = {spec.notebook: system for system in reversed(RECIPES) for spec in system.stages}
SPECS = {spec.notebook: spec for system in reversed(RECIPES) for spec in system.stages}
each_notebook = pytest.mark.parametrize("name", SPECS)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|mnt|var)/\w|[A-Z]:\\\\")


def load(name: str) -> nbformat.NotebookNode:
    return nbformat.read(SPECS[name].file(ROOT), as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def lines(cell: nbformat.NotebookNode) -> int:
    return sum(1 for line in cell.source.splitlines() if line.strip())


# --- as written -----------------------------------------------------------------------------------------------------


def test_one_notebook_per_stage() -> None:
    assert {spec.file(ROOT) for spec in SPECS.values()} == set((ROOT / "notebooks").rglob("*.ipynb"))


@each_notebook
def test_is_stored_clean(name: str) -> None:
    notebook = load(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not [cell for cell in code_cells(notebook) if cell.outputs or cell.execution_count is not None]
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@each_notebook
def test_names_no_machine(name: str) -> None:
    text = SPECS[name].file(ROOT).read_text(encoding="utf-8")
    assert not MACHINE_PATH.search(text)
    assert "localhost" not in text


@each_notebook
def test_starts_with_the_card(name: str) -> None:
    card = load(name).cells[0]
    assert card.cell_type == "markdown"
    number = SPECS[name].name[:2] if SPECS[name].name[:2].isdigit() else "Gallery"
    assert re.match(rf"# {number} · \S", card.source), "the card's title is '# NN · Name', or '# Gallery · Name'"
    parts = ["What you will learn", "Paper", "Reads / writes", "Time and memory", "Previous / next"]
    places = [card.source.find(f"**{part}") for part in parts]
    assert -1 not in places and places == sorted(places), dict(zip(parts, places, strict=True))
    learn = card.source[places[0] : places[1]]
    assert len(re.findall(r"^\s*[-*] ", learn, re.M)) == 3, "three bullets"
    assert "<!-- measured -->" in card.source[places[3] : places[4]], "time and memory are measured, never typed"


@each_notebook
def test_card_says_what_the_stage_declares(name: str) -> None:
    """Behind the arrow stand exactly the artifacts that its recipe's `StageSpec` knows, those that may be left out too."""
    line = next(line for line in load(name).cells[0].source.splitlines() if line.startswith("**Reads / writes"))
    named = [re.sub(r"<\w+>", "*", found).rstrip("/") for found in re.findall(r"`([^`]+)`", line.partition("→")[2])]
    assert sorted(named) == sorted((*SPECS[name].outputs, *SPECS[name].optional))


@each_notebook
def test_card_names_its_neighbours(name: str) -> None:
    card, walk = load(name).cells[0].source, list(WALKS[name].stages)
    position = walk.index(SPECS[name])
    links = re.findall(r"\(([\w./]+\.ipynb)\)", card[card.find("**Previous / next") :])
    linked = {(SPECS[name].file(ROOT).parent / link).resolve() for link in links}
    assert linked >= {spec.file(ROOT) for spec in walk[max(0, position - 1) : position + 2]} - {SPECS[name].file(ROOT)}
    assert all(path.is_file() for path in linked)


def prose(name: str) -> str:
    return "\n".join(cell.source for cell in load(name).cells if cell.cell_type == "markdown")


@each_notebook
def test_links_lead_somewhere_and_are_called_what_is_there(name: str) -> None:
    links = [(words, link) for words, link in re.findall(r"(?<!!)\[([^\[\]]+)\]\(([^)]+)\)", prose(name)) if "://" not in link]
    places = {link: SPECS[name].file(ROOT).parent / link.partition("#")[0] for _, link in links}
    assert not [link for link, place in places.items() if not place.is_file()]
    titles = {spec.file(ROOT): load(other).cells[0].source.splitlines()[0].removeprefix("# ") for other, spec in SPECS.items()}
    wrong = [(words, title) for words, link in links if (title := titles.get(places[link].resolve(), words)) != words]
    assert links and not wrong


@each_notebook
def test_names_in_prose_exist(name: str) -> None:
    """Modules and functions of recnb, recipes and notebooks that the text or a comment of the code mentions."""
    text = "\n".join(cell.source for cell in load(name).cells)
    missing = [found for found in re.findall(r"\brecnb(?:\.[a-zA-Z_]\w*)+", text) if not importable(found)]
    files = re.findall(r"\b(?:params|notebooks)/[\w./-]+\.(?:yaml|ipynb|py)\b", text)
    assert not missing + [file for file in files if not (ROOT / file).is_file()]


def importable(dotted: str) -> bool:
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


@each_notebook
def test_second_cell_is_parameters(name: str) -> None:
    notebook = load(name)
    assert tags(notebook.cells[1]) == ["parameters"]
    assert sum("parameters" in tags(cell) for cell in notebook.cells) == 1
    scope: dict[str, object] = {}
    exec(notebook.cells[1].source, scope)
    assert scope["recipe"] == RECIPES[WALKS[name]][0] and scope["overrides"] == []
    assert "#" in notebook.cells[1].source, "parameters are commented"


@each_notebook
def test_third_cell_is_for_colab(name: str) -> None:
    """The same in every notebook but for the stage it reads from; what it does, `test_colab.py` says."""
    notebook = load(name)
    assert [tags(cell) for cell in notebook.cells].index(["colab"]) == 2
    assert sum("colab" in tags(cell) for cell in notebook.cells) == 1
    cell, first = notebook.cells[2], load(NOTEBOOKS[0]).cells[2].source.replace("params/toy.yaml", RECIPES[WALKS[name]][1])
    assert lines(cell) <= 8
    before = SPECS[name].inputs[-1:]
    assert cell.source == first.removesuffix(")") + "".join(f', to="{stage}"' for stage in before) + ")"


@each_notebook
def test_opens_and_closes_its_own_stage(name: str) -> None:
    code = "\n".join(cell.source for cell in code_cells(load(name)))
    assert re.search(rf'Stage\.open\(\s*"{SPECS[name].name}",\s*recipe,\s*overrides', code)
    assert "stage.close()" in code


@each_notebook
def test_one_idea_per_cell(name: str) -> None:
    long = [cell.source for cell in code_cells(load(name)) if len(cell.source.splitlines()) > 15]
    assert not long, "cells of more than 15 lines:\n\n" + "\n\n".join(long)


@each_notebook
def test_a_page_shows_whole_lines(name: str) -> None:
    wide = [line for cell in code_cells(load(name)) for line in cell.source.splitlines() if len(line) > 100]
    assert not wide, "lines of code of more than 100 characters:\n" + "\n".join(wide)


@each_notebook
def test_explains_more_than_it_computes(name: str) -> None:
    notebook = load(name)
    code = code_cells(notebook)
    assert len(notebook.cells) - len(code) >= len(code) / 2, "prose between the code"


@each_notebook
def test_ends_with_what_we_saw_and_solved_exercises(name: str) -> None:
    notebook = load(name)
    headings = [(i, line.strip("# *").lower()) for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"
                for line in cell.source.splitlines() if line.startswith(("#", "**"))]  # fmt: skip
    saw = [i for i, text in headings if text.startswith("what we saw")]
    exercises = [i for i, text in headings if text.startswith("exercise")]
    assert saw and exercises and saw[-1] <= exercises[0]
    rest = notebook.cells[exercises[0] :]
    runnable = [cell for cell in code_cells(notebook) if "solution" in tags(cell)]
    folded = [cell for cell in rest if cell.cell_type == "markdown" and "<details>" in cell.source]
    assert runnable, "at least one exercise is solved by code that runs"
    assert all(cell in rest for cell in runnable)
    assert len(runnable) + len(folded) >= 2, "two or three exercises, each solved"


@each_notebook
def test_figures_have_alt_text_and_one_style(name: str) -> None:
    code = "\n".join(cell.source for cell in code_cells(load(name)))
    assert "plt.show()" not in code, "figures go through recnb.style.show, with alt text"
    assert code.count("show(") == 0 or "alt" in code or "figures" in code


# --- as executed on the toy recipe ----------------------------------------------------------------------------------


@pytest.mark.e2e
@each_stage
def test_runs_by_papermills_command_line(name: str, toy_run: ToyRun) -> None:
    assert name in toy_run.results, "an earlier notebook failed"
    result = toy_run.results[name]
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Passed unknown parameter" not in result.stderr


@pytest.mark.e2e
@each_stage
def test_every_cell_was_run(name: str, toy_run: ToyRun) -> None:
    """nbval silently skips cells without an execution count, so nothing may be without one."""
    assert not cells_not_run(toy_run.executed(name))


def cells_not_run(path: Path) -> list[str]:
    cells = code_cells(nbformat.read(path, as_version=4))
    return [cell.source for cell in cells if cell.source.strip() and cell.execution_count is None]


@pytest.mark.e2e
@each_stage
def test_prints_nothing_unwanted(name: str, toy_run: ToyRun) -> None:
    notebook = nbformat.read(toy_run.executed(name), as_version=4)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    stderr = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stderr")
    assert not stderr, "warnings and progress bars break a strict comparison"
    shown = "".join(o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs)
    assert str(toy_run.root) not in shown and not MACHINE_PATH.search(shown)


@pytest.mark.e2e
@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if "05" <= name < "10"])
def test_prints_no_wider_than_the_page(name: str, toy_run: ToyRun) -> None:
    """A page breaks longer lines in the middle of a word; what `close` says of the files is no text to read."""
    notebook = nbformat.read(toy_run.executed(name), as_version=4)
    printed = "".join(o.text for cell in code_cells(notebook) for o in cell.outputs if o.output_type == "stream")
    assert not [line for line in printed.splitlines() if len(line) > 110 and f"{name} complete" not in line]


@pytest.mark.e2e
@each_stage
def test_every_picture_has_alt_text(name: str, toy_run: ToyRun) -> None:
    notebook = nbformat.read(toy_run.executed(name), as_version=4)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert all(len(p.metadata.get("image/png", {}).get("alt", "")) > 20 for p in pictures)
    assert pictures, "a notebook of ours shows something"


@pytest.mark.e2e
@pytest.mark.slow
def test_outputs_are_the_same_when_run_again(toy_run: ToyRun, again: Again) -> None:
    """nbval, strict: every cell of every executed copy runs again, and its outputs are compared one by one."""
    assert not again.outcome["failed"], again.outcome["text"][-6000:]
    cells = {name: len(code_cells(nbformat.read(toy_run.executed(name), as_version=4))) for name in NOTEBOOKS}
    assert again.outcome["passed"] == sum(cells.values()), "as many comparisons as cells"


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "override"), [("01_data", "data.toy.users=60"), ("03_index", "index.codes=12")])
def test_a_changed_parameter_is_noticed(name: str, override: str, toy_copy: ToyRun) -> None:
    """The comparison can fail: the same stored outputs, another parameter."""
    path = toy_copy.executed(name)
    notebook = nbformat.read(path, as_version=4)
    injected = next(cell for cell in notebook.cells if "injected-parameters" in tags(cell))
    injected.source += f'\noverrides = ["{override}"]'
    nbformat.write(notebook, path)
    assert nbval(toy_copy.root, [path])["failed"] > 0


@pytest.mark.e2e
def test_a_stripped_copy_is_noticed(toy_copy: ToyRun) -> None:
    """nbval passes a notebook without execution counts; our own check must not."""
    path = toy_copy.executed(NOTEBOOKS[0])
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)
    assert cells_not_run(path)
