"""The command line: ``recnb run | report | compare | table | export | recommend | params | doctor``.

Heavy imports wait until they are needed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from recnb import __version__
from recnb.errors import RecnbError

if TYPE_CHECKING:
    from recnb.settings import Recipe

QUICKSTART = "params/quickstart.yaml"
OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

_MAIN = """\
Learn, run and judge LLM-based generative recommendation, one notebook per step.

a first walk:
  recnb doctor                         what this machine can run, and what is missing
  recnb run                            all nine notebooks on MovieLens-100K, then the report
  recnb run params/toy.yaml            the same on a generated catalogue, in a minute or two
  recnb params show params/toy.yaml    every setting with its reason

then take the model away:
  recnb export params/toy.yaml --to exports/toy                      one folder that works alone
  recnb recommend --model exports/toy --history "i0003,i0017"        what comes next, from that folder
"""
_RUN = """\
Execute the notebooks of a recipe in order and write reports/<recipe>/index.html.
A stage whose notebook, recipe section, source, inputs and packages are unchanged is skipped.
After a failure or a kill, the same command goes on where it stopped.
"""
_RUN_EXAMPLES = """\
examples:
  recnb run                                          params/quickstart.yaml, everything that changed
  recnb run params/toy.yaml --explain                say what would run and why, run nothing
  recnb run params/toy.yaml --set train.epochs=1     change a setting for this run
  recnb run params/toy.yaml --set name=toy-k8 --set index.codes=8    ... and keep its results apart
  recnb run params/toy.yaml --from train             stages from 04_train on; earlier ones stay as they are
  recnb run params/toy.yaml --from 03 --to 03 --force    03_index once more, though nothing changed

exit codes: 0 done, 1 a notebook failed, 2 something to mend first (the message says what), 130 interrupted
"""
_EXPORT = """\
Write the trained model of a finished run as a Hugging Face folder: weights, tokenizer, adapter, the catalogue with its
codes, settings and checksums (recnb.json), and a model card with what was measured. An earlier export is replaced;
a folder that holds anything else is left alone.
"""
_EXPORT_EXAMPLES = """\
examples:
  recnb export params/quickstart.yaml --to exports/quickstart
  recnb export params/toy.yaml --set name=toy-k8 --set index.codes=8 --to exports/toy-k8    as it was run
"""
_RECOMMEND = """\
Recommend from an exported folder. Items are named by their ids in the source, oldest first.
"""
_RECOMMEND_EXAMPLES = """\
examples:
  recnb recommend --model exports/toy --history "i0003,i0017"
  recnb recommend --model exports/toy --history i0003 --history i0017 --top 5    the same history
  recnb recommend --model exports/toy --history i0003 --exclude-history --json    for another program

A value of --history that is an id is taken whole, commas and all; any other is cut at its commas.
"""
_PARAMS_EXAMPLES = """\
examples:
  recnb params show params/toy.yaml                    every value, marked where it is not the default
  recnb params show params/toy.yaml --section train    one section only
  recnb params validate params/*.yaml                  check files, run nothing
  recnb params diff params/toy.yaml                    against the defaults
  recnb params diff params/toy.yaml params/quickstart.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. An error that the user can mend is one message on stderr, no trace."""
    options = build_parser().parse_args(arguments)
    from recnb.workflow.execute import StageFailedError

    try:
        return int(options.command(options) or OK)
    except StageFailedError as error:
        print(f"recnb: {error}", file=sys.stderr)
        return USER_ERROR if error.by_user else FAILED
    except RecnbError as error:
        print(f"recnb: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("\nrecnb: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return OK


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; each command's ``--help`` has examples."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("recnb", description=_MAIN, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"recnb {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_table(commands)
    _add_export(commands)
    _add_recommend(commands)
    _add_params(commands)
    _add_doctor(commands)
    return parser


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(commands: _Commands, name: str, text: str, examples: str, line: str) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(
        name, help=line, description=text, epilog=examples, formatter_class=layout, allow_abbrev=False
    )


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", default=QUICKSTART, help=f"a recipe file (default: {QUICKSTART})")
    _add_overrides(parser)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="extend", default=[], dest="overrides", metavar="KEY=VALUE", nargs="+",
        help="change settings, e.g. train.epochs=1; the value is read as YAML; may be repeated",
    )  # fmt: skip


def _add_run(commands: _Commands) -> None:
    parser = _command(commands, "run", _RUN, _RUN_EXAMPLES, "execute the notebooks of a recipe, then write its report")
    _add_recipe(parser)
    parser.add_argument("--from", dest="first", metavar="STAGE", help="start at this stage: 03_index, 03 or index")
    parser.add_argument("--to", dest="last", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--explain", action="store_true", help="say what would run and why; run nothing")
    parser.add_argument("--force", action="store_true", help="run the stages in range even if nothing changed")
    parser.set_defaults(command=run)


def _add_report(commands: _Commands) -> None:
    parser = _command(
        commands, "report", "Write reports/<recipe>/index.html again from what earlier runs left; runs nothing.",
        "example:\n  recnb report params/toy.yaml\n", "write a recipe's report again",
    )  # fmt: skip
    _add_recipe(parser)
    parser.set_defaults(command=report)


def _add_compare(commands: _Commands) -> None:
    parser = _command(
        commands, "compare",
        "Run a recipe with one thing changed at a time and write what validation says of each variant to\n"
        "reports/ablations/. Every variant is an ordinary run; after a kill the same command goes on where it stopped.",
        "examples:\n  recnb compare params/ablations/quickstart.yaml\n"
        "  recnb compare params/ablations/quickstart.yaml --minutes 9     as much as fits; again for the rest\n"
        "  recnb compare params/ablations/beauty-index.yaml --set data.path=/where/beauty/is\n",
        "what each choice bought: variants of a recipe",
    )  # fmt: skip
    parser.add_argument("comparison", help="a comparison file: base, what is judged, and variants")
    parser.add_argument("--minutes", type=float, default=0.0, help="start no further run after this long")
    _add_overrides(parser)
    parser.set_defaults(command=compare)


def _add_table(commands: _Commands) -> None:
    parser = _command(
        commands, "table",
        "Run the recipes of a table file, each with its seeds, up to their evaluation, and write what a table needs\n"
        "of each to reports/<recipe>/results.json. After a kill the same command goes on where it stopped. Seeds\n"
        "measured on another machine with the same settings are taken from there.",
        "examples:\n  recnb table params/tables/amazon.yaml\n"
        "  recnb table params/tables/amazon.yaml --minutes 9     as much as fits; again for the rest\n"
        "  recnb table params/tables/beauty.yaml --set data.path=/where/beauty/is\n",
        "the main table: several recipes, several seeds",
    )  # fmt: skip
    parser.add_argument("table", help="a table file: entries, each a recipe with seeds")
    parser.add_argument("--minutes", type=float, default=0.0, help="start no further run after this long")
    _add_overrides(parser)
    parser.set_defaults(command=table)


def _add_export(commands: _Commands) -> None:
    parser = _command(commands, "export", _EXPORT, _EXPORT_EXAMPLES, "write the trained model as a folder to take away")
    _add_recipe(parser)
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="the folder to write")
    parser.set_defaults(command=export)


def _add_recommend(commands: _Commands) -> None:
    parser = _command(commands, "recommend", _RECOMMEND, _RECOMMEND_EXAMPLES, "recommend from an exported folder")
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="a folder that `recnb export` wrote")
    parser.add_argument(
        "--history", required=True, action="append", metavar="ITEMS", help="item ids, oldest first; may be repeated"
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="length of the list (default: 10)")
    parser.add_argument("--beam", type=int, metavar="W", help="beams of the search (default: as in the run)")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu", help="default: cpu")
    parser.add_argument("--exclude-history", action="store_true", help="leave out the items of the history")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=recommend)


def _add_params(commands: _Commands) -> None:
    parser = _command(commands, "params", "Look at recipes.", _PARAMS_EXAMPLES, "show, validate or compare recipes")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = _command(actions, "show", "Every setting of a recipe with its reason.", _PARAMS_EXAMPLES, "every setting")
    _add_recipe(show)
    show.add_argument("--section", help="one section only, e.g. train or embeddings.semantic")
    show.add_argument("--plain", action="store_true", help="a complete recipe file, without reasons")
    show.set_defaults(command=params_show)
    validate = _command(actions, "validate", "Check recipe files.", _PARAMS_EXAMPLES, "check recipe files")
    validate.add_argument("recipes", nargs="+", metavar="recipe")
    validate.set_defaults(command=params_validate)
    diff = _command(actions, "diff", "What differs between recipes.", _PARAMS_EXAMPLES, "compare with another recipe")
    diff.add_argument("recipe")
    diff.add_argument("other", nargs="?", help="another recipe (default: the defaults)")
    diff.set_defaults(command=params_diff)


def _add_doctor(commands: _Commands) -> None:
    parser = _command(
        commands, "doctor", "What this machine can run, what is missing, and how to get it.",
        "examples:\n  recnb doctor\n  recnb doctor --recipe params/beauty.yaml\n"
        "  recnb doctor --recipe params/toy.yaml --set train.batch_size=512    would that fit?\n", "check this machine",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", help="check one recipe closely, its memory stage by stage; exit code 2 if it cannot run here"
    )
    _add_overrides(parser)
    parser.set_defaults(command=doctor)


def run(options: argparse.Namespace) -> int:
    """``recnb run``."""
    from recnb.workflow import run
    from recnb.workflow.plan import explain, make_plan

    plan = make_plan(options.recipe, options.overrides, options.first, options.last, options.force)
    if options.explain:
        for decision in explain(plan):
            print(f"{decision.spec.name:18}{'run ' if decision.run else 'skip'}  {decision.reason}")
        return OK
    run.run(plan)
    return _write_report(plan.recipe, plan.root, plan.recipe_path, plan.overrides)


def report(options: argparse.Namespace) -> int:
    """``recnb report``."""
    from recnb.artifacts import find_root
    from recnb.workflow.recipe import resolve_recipe

    root = find_root(options.recipe)
    recipe = resolve_recipe(options.recipe, options.overrides, root)
    return _write_report(recipe, root, options.recipe, options.overrides)


def compare(options: argparse.Namespace) -> int:
    """``recnb compare``."""
    from recnb.artifacts import find_root
    from recnb.studies.comparisons import run_comparison

    root = find_root(options.comparison)
    written = run_comparison(Path(options.comparison), root, tuple(options.overrides), minutes=options.minutes)
    print(f"comparison: {written.relative_to(root)}")
    return OK


def table(options: argparse.Namespace) -> int:
    """``recnb table``."""
    from recnb.artifacts import find_root
    from recnb.studies.tables import run_table

    run_table(Path(options.table), find_root(options.table), tuple(options.overrides), minutes=options.minutes)
    return OK


def export(options: argparse.Namespace) -> int:
    """``recnb export``."""
    from recnb.artifacts import find_root
    from recnb.export.load import load_export
    from recnb.export.write import export_model
    from recnb.workflow.recipe import resolve_recipe

    root = find_root(options.recipe)
    written = export_model(resolve_recipe(options.recipe, options.overrides, root), root, options.to)
    about = load_export(written).about
    print(f"export: {options.to}, {len(about['files'])} files and their card")
    if about["measured"] is None:
        print("not measured: run 06_evaluate and export again, and the card says how good it is")
    return OK


def recommend(options: argparse.Namespace) -> int:
    """``recnb recommend``."""
    from recnb.export.load import as_json, as_table, load_export

    exported = load_export(options.model, options.device)
    history = exported.split(options.history)
    found = exported.recommend([history], options.top, options.beam, options.exclude_history)[0]
    print(as_json(history, found) if options.json else as_table(found))
    return OK


def params_show(options: argparse.Namespace) -> int:
    """``recnb params show``."""
    from recnb.workflow import recipe_text

    recipe, _ = _load(options.recipe, options.overrides)
    print(recipe_text.as_yaml(recipe) if options.plain else recipe_text.with_reasons(recipe, options.section))
    return OK


def params_validate(options: argparse.Namespace) -> int:
    """``recnb params validate``: every file is checked, then the exit code is 2 if one was wrong."""
    wrong = 0
    for path in options.recipes:
        try:
            recipe, _ = _load(path, [])
            print(f"{path}: valid ({recipe.name})")
        except RecnbError as error:
            print(error, file=sys.stderr)
            wrong += 1
    return USER_ERROR if wrong else OK


def params_diff(options: argparse.Namespace) -> int:
    """``recnb params diff``."""
    from recnb.workflow import recipe_text

    recipe, _ = _load(options.recipe, [])
    other = _load(options.other, [])[0] if options.other else recipe_text.defaults(recipe)
    rows = recipe_text.differences(recipe, other)
    names = (options.recipe, options.other or "default")
    print(recipe_text.side_by_side(rows, names) if rows else "no difference")
    return OK


def doctor(options: argparse.Namespace) -> int:
    """``recnb doctor``."""
    from recnb.artifacts import find_root
    from recnb.workflow import doctor as examination

    root = find_root(options.recipe)
    text, usable = examination.examine(root, options.recipe, options.overrides)
    print(text)
    return OK if usable else USER_ERROR


def _write_report(recipe: Recipe, root: Path, recipe_path: str, overrides: Sequence[str]) -> int:
    from recnb.report.page import build_report

    page = build_report(recipe, root, recipe_path, overrides)
    print(f"report: {page.relative_to(root) if page.is_relative_to(root) else page}")
    return OK


def _load(path: str, overrides: Sequence[str]) -> tuple[Recipe, Path]:
    """A recipe and the root; a file outside any project is fine here."""
    from recnb.artifacts import find_root
    from recnb.workflow.recipe import resolve_recipe

    try:
        root = find_root(path)
    except RecnbError:
        root = Path.cwd()
    return resolve_recipe(path, overrides, root), root


if __name__ == "__main__":
    sys.exit(main())
