"""The command line: ``recnb run | report | compare | table | pack | unpack | export | recommend | params | doctor``.

A command is a function: its docstring is its ``--help``, from ``examples:`` on below the options (none: those of its
group); it returns an exit code, or nothing if all went well. Heavy imports wait until they are needed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recnb import __version__
from recnb.artifacts import find_root
from recnb.errors import RecnbError
from recnb.report.page import build_report
from recnb.settings import Recipe
from recnb.style import aligned
from recnb.workflow import doctor as examination, pack as packing, recipe_text, run as runner
from recnb.workflow.execute import StageFailedError
from recnb.workflow.plan import explain, make_plan
from recnb.workflow.recipe import resolve_recipe

QUICKSTART = "params/quickstart.yaml"
OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
Argument = tuple[tuple[str, ...], dict[str, Any]]
Command = Callable[[Namespace], int | None]
_COMMANDS: dict[str, tuple[str, tuple[Argument, ...], Command]] = {}
_MAIN = """\
Learn, run and judge recommendation with language models, one notebook per step.

a first walk:
  recnb doctor                         what this machine can run, and what is missing
  recnb run                            all notebooks on MovieLens-100K, then the report
  recnb run params/toy.yaml            the same on a generated catalogue, in minutes
  recnb params show params/toy.yaml    every setting with its reason

then take the model away:
  recnb export params/toy.yaml --to exports/toy                      one folder that works alone
  recnb recommend --model exports/toy --history "i0003,i0017"        what comes next, from that folder
"""


def _argument(*names: str, **options: Any) -> Argument:
    return names, options


_RECIPE = _argument("recipe", nargs="?", default=QUICKSTART, help=f"a recipe file (default: {QUICKSTART})")
_SET = _argument(
    "--set", action="extend", default=[], dest="overrides", metavar="KEY=VALUE", nargs="+",
    help="change settings, e.g. train.epochs=1; the value is read as YAML; may be repeated",
)  # fmt: skip
_FOLDER = _argument("--to", required=True, type=Path, metavar="DIR", help="the folder to write")
_SIZE: dict[str, Any] = {"type": packing.bytes_of, "default": 0, "metavar": "SIZE"}
_MINUTES = _argument("--minutes", type=float, default=0.0, help="start no further run after this long")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. An error that the user can mend is one message on stderr, no trace."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the kernel is stopped, its notebook kept
    # nbformat's jsonschema would spend a second on 38 grammars, to check addresses of a kind that no notebook has.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    try:
        options = build_parser().parse_args(arguments)
        return options.command(options) or OK
    except RecnbError as error:
        print(f"recnb: {error}", file=sys.stderr)
        return FAILED if isinstance(error, StageFailedError) and not error.by_user else USER_ERROR
    except KeyboardInterrupt:
        print("\nrecnb: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return OK


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; each command's ``--help`` has examples."""
    layout: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser("recnb", description=_MAIN, **layout)
    parser.add_argument("--version", action="version", version=f"recnb {__version__}")
    groups = {"": parser.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    epilogs = {"": ""}
    for name, (line, arguments, function) in _COMMANDS.items():
        group, _, own = name.rpartition(" ")
        text, found, examples = (function.__doc__ or "").replace("\n    ", "\n").partition("examples:")
        epilogs[name] = found + examples or epilogs[group]
        one = groups[group].add_parser(own, help=line, description=text, epilog=epilogs[name], **layout)
        one.set_defaults(command=function)
        for names, options in arguments:
            one.add_argument(*names, **options)
        if not arguments:  # a command of commands
            groups[name] = one.add_subparsers(metavar="ACTION", required=True)
    return parser


def _command(name: str, line: str, *arguments: Argument) -> Callable[[Command], Command]:
    """Make a function a command: its name, its line in the list, its arguments."""

    def keep(function: Command) -> Command:
        _COMMANDS[name] = line, arguments, function
        return function

    return keep


@_command(
    "run", "execute the notebooks of a recipe, then write its report", _RECIPE, _SET,
    _argument("--from", dest="first", metavar="STAGE", help="start at this stage: 03_index, 03 or index"),
    _argument("--to", dest="last", metavar="STAGE", help="stop after this stage"),
    _argument("--explain", action="store_true", help="say what would run and why; run nothing"),
    _argument("--force", action="store_true", help="run the stages in range even if nothing changed"),
)  # fmt: skip
def run(options: Namespace) -> None:
    """Execute the notebooks of a recipe in order and write reports/<recipe>/index.html.
    A stage whose notebook, recipe section, source, inputs and packages are unchanged is skipped.
    After a failure or a kill, the same command goes on where it stopped.

    examples:
      recnb run                                          params/quickstart.yaml, everything that changed
      recnb run params/toy.yaml --explain                say what would run and why, run nothing
      recnb run params/toy.yaml --set train.epochs=1     change a setting for this run
      recnb run params/toy.yaml --set name=toy-k8 --set index.codes=8    ... and keep its results apart
      recnb run params/toy.yaml --from train             stages from 04_train on; earlier ones stay as they are
      recnb run params/toy.yaml --from 03 --to 03 --force    03_index once more, though nothing changed

    exit codes: 0 done, 1 a notebook failed, 2 something to mend first (the message says what), 130 interrupted
    """
    plan = make_plan(options.recipe, options.overrides, options.first, options.last, options.force)
    if options.explain:
        print(aligned([(one.spec.name, "run" if one.run else "skip", one.reason) for one in explain(plan)]))
    else:
        runner.run(plan)
        _write_report(plan.recipe, plan.root, plan.recipe_path, plan.overrides)


@_command("report", "write a recipe's report again", _RECIPE, _SET)
def report(options: Namespace) -> None:
    """Write reports/<recipe>/index.html again from what earlier runs left; runs nothing.

    examples:
      recnb report params/toy.yaml
    """
    root = find_root(options.recipe)
    _write_report(resolve_recipe(options.recipe, options.overrides, root), root, options.recipe, options.overrides)


@_command(
    "compare", "what each choice bought: variants of a recipe",
    _argument("comparison", help="a comparison file: base, what is judged, and variants"), _MINUTES, _SET,
)  # fmt: skip
def compare(options: Namespace) -> None:
    """Run a recipe with one thing changed at a time and write what validation says of each variant to
    reports/ablations/. Every variant is an ordinary run; after a kill the same command goes on where it stopped.

    examples:
      recnb compare params/ablations/quickstart.yaml
      recnb compare params/ablations/quickstart.yaml --minutes 9     as much as fits; again for the rest
      recnb compare params/ablations/beauty-index.yaml --set data.path=/where/beauty/is
    """
    from recnb.studies.comparisons import run_comparison

    root = find_root(options.comparison)
    written = run_comparison(Path(options.comparison), root, tuple(options.overrides), minutes=options.minutes)
    print(f"comparison: {written.relative_to(root)}")


@_command(
    "table", "the main table: several recipes, several seeds",
    _argument("table", help="a table file: entries, each a recipe with seeds"), _MINUTES, _SET,
)  # fmt: skip
def table(options: Namespace) -> None:
    """Run the recipes of a table file, each with its seeds, up to its evaluation, and write what a table needs of
    each to reports/<recipe>/results.json. After a kill the same command goes on where it stopped. Seeds
    measured on another machine with the same settings are taken from there.

    examples:
      recnb table params/tables/amazon.yaml
      recnb table params/tables/amazon.yaml --minutes 9     as much as fits; again for the rest
      recnb table params/tables/amazon-cpu.yaml --set runtime.threads=1
    """
    from recnb.studies.tables import run_table

    run_table(Path(options.table), find_root(options.table), tuple(options.overrides), minutes=options.minutes)


@_command(
    "pack", "the next stages as a folder for a far machine", _RECIPE, _SET, _FOLDER,
    _argument("--limit", help="most bytes of a folder, e.g. 64MiB: several are written, DIR-1, DIR-2", **_SIZE),
    _argument("--largest", help="most bytes of a file that comes home, e.g. 16MiB (default: 256MiB)", **_SIZE),
    _argument(
        "--wheels", nargs="+", type=Path, default=[], metavar="PATH",
        help="wheels, or folders of wheels, for packages that the machine lacks, built for its Python and system",
    ),
)  # fmt: skip
def pack(options: Namespace) -> None:
    """Pack the stages of a recipe that are not made yet, with what they read, for a machine without a network: a
    compute node with a GPU, say. Copy the folder there, and run: python DIR/run.py --minutes 8
    It stops in time, and goes on when called again. Copy the folder it leaves home, and run: recnb unpack FOLDER
    Which stages are for there, which for home, and what Python there must have, stands in DIR/README.md.

    examples:
      recnb run params/toy.yaml --set runtime.device=auto --to index       first stages here; auto: a GPU there is used
      recnb pack params/toy.yaml --set runtime.device=auto --to packs/toy
      recnb pack params/toy.yaml --set runtime.device=auto --to packs/toy --limit 64MiB --largest 16MiB --wheels wheels/
      pip download pydantic --python-version 3.12 --only-binary=:all: -d wheels    wheels for a node with Python 3.12
    """
    plan = make_plan(options.recipe, options.overrides)
    written = packing.pack(plan, options.to, options.wheels, options.limit, options.largest)
    print(f"pack: {', '.join(map(str, written))}; there: python {written[0].name}/run.py --minutes 8")
    if plan.recipe.runtime.device == "cpu":
        print("runtime.device is cpu: a GPU there will not be used; with auto, here and there, it would be")


@_command(
    "unpack", "take home what a far machine made",
    _argument("folder", type=Path, help="the folder that the pack's run.py has left, e.g. toy-home"),
)  # fmt: skip
def unpack(options: Namespace) -> None:
    """Check what a pack's run.py has left, take its stages, results and figures into runs/ and reports/, and write the
    report again. Stages made there count as made: `recnb run` goes on behind them. Of a stage that was stopped, its
    checkpoints come, and go with the next pack.

    examples:
      recnb unpack toy-home
    """
    plan, said = packing.unpack(options.folder)
    print("\n".join(said))
    _write_report(plan.recipe, plan.root, plan.recipe_path, plan.overrides)
    print(f"to go on: {plan.command}")


@_command("export", "write the trained model as a folder to take away", _RECIPE, _SET, _FOLDER)
def export(options: Namespace) -> None:
    """Write the trained model of a finished run as a Hugging Face folder: weights, tokenizer, adapter, the catalogue
    with its codes, settings and checksums (recnb.json), and a model card with what was measured. An earlier export is
    replaced; a folder that holds anything else is left alone.

    examples:
      recnb export params/quickstart.yaml --to exports/quickstart
      recnb export params/toy.yaml --set name=toy-k8 --set index.codes=8 --to exports/toy-k8    as it was run
    """
    from recnb.export.load import load_export
    from recnb.export.write import export_model

    root = find_root(options.recipe)
    written = export_model(resolve_recipe(options.recipe, options.overrides, root), root, options.to)
    about = load_export(written).about
    print(f"export: {options.to}, {len(about.files)} files and their card")
    if about.measured is None:
        print("not measured: run 06_evaluate and export again, and the card says how good it is")


@_command(
    "recommend", "recommend from an exported folder",
    _argument("--model", required=True, type=Path, metavar="DIR", help="a folder that `recnb export` wrote"),
    _argument("--history", required=True, action="append", metavar="ITEMS",
              help="item ids, oldest first; may be repeated"),
    _argument("--top", type=int, default=10, metavar="N", help="length of the list (default: 10)"),
    _argument("--beam", type=int, metavar="W", help="beams of the search (default: as in the run)"),
    _argument("--device", choices=("cpu", "cuda", "mps"), default="cpu", help="default: cpu"),
    _argument("--exclude-history", action="store_true", help="leave out the items of the history"),
    _argument("--json", action="store_true", help="print JSON"),
)  # fmt: skip
def recommend(options: Namespace) -> None:
    """Recommend from an exported folder. Items are named by their ids in the source, oldest first.

    examples:
      recnb recommend --model exports/toy --history "i0003,i0017"
      recnb recommend --model exports/toy --history i0003 --history i0017 --top 5    the same history
      recnb recommend --model exports/toy --history i0003 --exclude-history --json    for another program

    A value of --history that is an id is taken whole, commas and all; any other is cut at its commas.
    """
    from recnb.export.load import as_json, as_table, load_export

    exported = load_export(options.model, options.device)
    history = exported.split(options.history)
    found = exported.recommend([history], options.top, options.beam, options.exclude_history)[0]
    print(as_json(history, found) if options.json else as_table(found))


@_command("params", "show, validate or compare recipes")
def params(options: Namespace) -> None:
    """Look at recipes.

    examples:
      recnb params show params/toy.yaml                    every value, marked where it is not the default
      recnb params show params/toy.yaml --section train    one section only
      recnb params validate params/*.yaml                  check files, run nothing
      recnb params diff params/toy.yaml                    against the defaults
      recnb params diff params/toy.yaml params/quickstart.yaml
    """


@_command(
    "params show", "every setting", _RECIPE, _SET,
    _argument("--section", help="one section only, e.g. train or embeddings.semantic"),
    _argument("--plain", action="store_true", help="a complete recipe file, without reasons"),
)  # fmt: skip
def params_show(options: Namespace) -> None:
    """Every setting of a recipe with its reason; * marks what is not the default."""
    recipe = _load(options.recipe, options.overrides)
    print(recipe_text.as_yaml(recipe) if options.plain else recipe_text.with_reasons(recipe, options.section))


@_command("params validate", "check recipe files", _argument("recipes", nargs="+", metavar="recipe"))
def params_validate(options: Namespace) -> int:
    """Check recipe files, every one; the exit code is 2 if one was wrong."""
    code = OK
    for path in options.recipes:
        try:
            print(f"{path}: valid ({_load(path).name})")
        except RecnbError as error:
            print(error, file=sys.stderr)
            code = USER_ERROR
    return code


@_command(
    "params diff", "compare with another recipe", _argument("recipe"),
    _argument("other", nargs="?", help="another recipe (default: the defaults)"),
)  # fmt: skip
def params_diff(options: Namespace) -> None:
    """What differs between two recipes, or between a recipe and the defaults."""
    recipe = _load(options.recipe)
    other = _load(options.other) if options.other else recipe_text.defaults(recipe)
    rows = recipe_text.differences(recipe, other)
    print(recipe_text.side_by_side(rows, (options.recipe, options.other or "default")) if rows else "no difference")


@_command(
    "doctor", "check this machine",
    _argument("--recipe", help="check one recipe closely, its memory by stage; exit code 2 if it cannot run here"),
    _SET,
)  # fmt: skip
def doctor(options: Namespace) -> int:
    """What this machine can run, what is missing, and how to get it.

    examples:
      recnb doctor
      recnb doctor --recipe params/beauty.yaml
      recnb doctor --recipe params/toy.yaml --set backbone.width=4096    would that fit?
    """
    text, usable = examination.examine(find_root(options.recipe), options.recipe, options.overrides)
    print(text)
    return OK if usable else USER_ERROR


def _write_report(recipe: Recipe, root: Path, recipe_path: str, overrides: Sequence[str]) -> None:
    page = build_report(recipe, root, recipe_path, overrides)
    print(f"report: {page.relative_to(root) if page.is_relative_to(root) else page}")


def _load(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe; a file outside any project is fine here."""
    try:
        root = find_root(path)
    except RecnbError:
        root = Path.cwd()
    return resolve_recipe(path, overrides, root)
