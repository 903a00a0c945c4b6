"""The command line: exit codes, one sentence instead of a trace, help that teaches, nothing heavy loaded in vain."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox import ROOT, STAGES

from recnb import cli
from recnb.errors import DataError
from recnb.workflow import run
from recnb.workflow.execute import StageFailedError
from recnb.workflow.plan import Plan
from recnb.workflow.recipe import load_recipe


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    source = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "recipe = 1\noverrides = 1"}
    for spec in STAGES.values():
        spec.file(tmp_path).parent.mkdir(exist_ok=True)
        spec.file(tmp_path).write_text(json.dumps({"cells": [source]}))
    for name in ("quickstart", "mine"):
        (tmp_path / "params" / f"{name}.yaml").write_text(f"name: {name}\ntrain: {{epochs: 5}}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_explain_says_what_would_run_and_runs_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "params/mine.yaml", "--explain", "--from", "index", "--to", "04"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["03_index", "run", "no", "result", "yet"], ["04_train", "run", "no", "result", "yet"]]  # fmt: skip
    assert not (project / "runs").exists() and not (project / "reports").exists()


def test_benchmarks_run_where_they_are_asked_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stages(*arguments: str) -> list[str]:
        assert cli.main(["run", "params/mine.yaml", "--explain", *arguments]) == 0
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()]

    assert "10_speed" not in stages() and "08_prefix_map" in stages()
    assert stages("--set", "speed.enabled=true")[-1] == "10_speed"
    assert stages("--from", "10") == ["10_speed"]


@pytest.mark.parametrize("arguments", [[], ["--set", "train.epochs=2"]])
def test_run_without_a_recipe_is_the_quickstart(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(run, "run", plans.append)
    assert cli.main(["run", *arguments]) == 0
    assert plans[0].recipe.name == "quickstart" and plans[0].recipe_path == "params/quickstart.yaml"
    assert plans[0].recipe.train.epochs == (2 if arguments else 5) and len(plans[0].stages) == 8
    assert capsys.readouterr().out == "report: reports/quickstart/index.html\n"


def test_settings_may_be_grouped_or_repeated(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(run, "run", plans.append)
    cli.main(["run", "params/mine.yaml", "--set", "seed=1", "train.epochs=2", "--set", "seed=3"])
    assert plans[0].overrides == ("seed=1", "train.epochs=2", "seed=3") and plans[0].recipe.seed == 3
    assert plans[0].command == "recnb run params/mine.yaml --set 'seed=1' --set 'train.epochs=2' --set 'seed=3'"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StageFailedError("03_index.ipynb, cell In [4]: ValueError"), 1),
        (StageFailedError("01_data.ipynb, cell In [4]: DataError", by_user=True), 2),
        (DataError("here.csv: no such file"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def fail(plan: Plan) -> None:
        raise error

    monkeypatch.setattr(run, "run", fail)
    assert cli.main(["run", "params/mine.yaml"]) == code
    said = capsys.readouterr()
    assert "recnb: " in said.err and str(error) in said.err and "Traceback" not in said.err and said.out == ""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("run params/mine.yaml --set train.epoch=1", "nearest valid key: train.epochs"),
        ("run params/mine.yaml --set train.epochs", "expected key=value"),
        ("run params/mne.yaml", "no such recipe file; nearest: 'params/mine.yaml'"),
        ("run params/mine.yaml --from trian", "no stage 'trian'; nearest: '04_train'"),
        ("run params/mine.yaml --from 04 --to 03", "nothing to run"),
        ("params show params/mine.yaml --section trian", "no section 'trian'; sections: paths"),
        ("report params/mne.yaml", "no such recipe file"),
        ("doctor --recipe params/mne.yaml", "no such recipe file"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    project: Path, capfd: pytest.CaptureFixture[str], command: str, expected: str
) -> None:
    assert cli.main(shlex.split(command)) == 2
    said = capfd.readouterr()
    assert expected in said.err + said.out and "Traceback" not in said.err
    assert not (project / "runs").exists() and not (project / "reports").exists()


@pytest.mark.parametrize("command", ["", "rn", "run --frm 3", "params", "params look"])
def test_what_is_no_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(command.split())
    assert stop.value.code == 2 and "usage: recnb" in capsys.readouterr().err


def test_compare_runs_a_comparison_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from recnb.studies import comparisons

    asked = []

    def run(path: Path, root: Path, overrides: tuple[str, ...], minutes: float) -> Path:
        asked.append((overrides, minutes))
        return root / "reports" / "ablations" / path.name

    monkeypatch.setattr(comparisons, "run_comparison", run)
    assert cli.main(["compare", "params/mine.yaml", "--minutes", "9", "--set", "seed=3", "data.k_core=0"]) == 0
    assert capsys.readouterr().out == "comparison: reports/ablations/mine.yaml\n"
    assert asked == [(("seed=3", "data.k_core=0"), 9.0)]
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert cli.main(["compare", "params/none.yaml"]) == 2
    assert "no such comparison file" in capsys.readouterr().err


def test_params_show_and_plain(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["params", "show", "params/mine.yaml", "--section", "train", "--set", "train.warmup=0.5"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^\* epochs: 5", shown, re.M) and re.search(r"^\* warmup: 0.5", shown, re.M)
    assert re.search(r"^  patience: 3 +# evaluations without", shown, re.M)
    assert cli.main(["params", "show", "params/mine.yaml", "--plain"]) == 0
    again = project / "params" / "again.yaml"
    again.write_text(capsys.readouterr().out)
    assert load_recipe(again) == load_recipe(project / "params" / "mine.yaml")


def test_params_validate_checks_every_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params" / "bad.yaml").write_text("name: bad\nseeds: 1\n")
    files = ["params/bad.yaml", "params/mine.yaml"]
    assert cli.main(["params", "validate", *files]) == 2
    said = capsys.readouterr()
    assert said.out == "params/mine.yaml: valid (mine)\n" and "bad.yaml:2: unknown key 'seeds'" in said.err
    assert cli.main(["params", "validate", files[1]]) == 0


def test_params_diff(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["params", "diff", "params/mine.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["key", "params/mine.yaml", "default"], ["train.epochs", "5.0", "3.0"]]
    assert cli.main(["params", "diff", "params/mine.yaml", "params/quickstart.yaml"]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_params_work_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    assert cli.main(["params", "validate", "mine.yaml"]) == 0


def test_run_outside_a_project_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    assert cli.main(["run", "mine.yaml"]) == 2
    assert "no folder with notebooks/ and params/ here or above" in capsys.readouterr().err


def test_help_teaches_with_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Every example in every help text is parsed by the parser it explains."""
    texts = []
    params = ("params", "params show", "params diff", "params validate")
    for command in ("", "run", "report", "compare", "table", "export", "recommend", *params, "doctor"):
        with pytest.raises(SystemExit) as stop:
            cli.main([*command.split(), "--help"])
        assert stop.value.code == 0
        texts.append(capsys.readouterr().out)
    examples = [re.split(r"   +", line.strip())[0] for line in "\n".join(texts).splitlines() if line.startswith("  recnb ")]
    assert len(examples) > 10
    for example in examples:
        options = cli.build_parser().parse_args(shlex.split(example)[1:])
        named = [getattr(options, "recipe", None), *getattr(options, "recipes", [])]
        assert all((ROOT / name).is_file() for name in named if name and "*" not in name), example


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from recnb import __version__

    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"recnb {__version__}\n"


def test_python_m_recnb_and_a_closed_pipe(project: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m recnb params show params/mine.yaml"
    done = subprocess.run(f"{command} | head -1", shell=True, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("# mine") and done.stderr == ""


def test_deciding_that_nothing_is_to_do_loads_nothing_heavy(project: Path) -> None:
    """`make report` a second time takes seconds: neither torch nor papermill nor pandas is imported for it."""
    code = (
        "import sys; from recnb import cli; from recnb.report import notebooks, page; code = cli.main(['run', 'params/mine.yaml', '--explain']); "
        "heavy = {'torch', 'transformers', 'papermill', 'nbconvert', 'pandas', 'matplotlib', 'sklearn', 'scipy'}; "
        "print(sorted(heavy & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
