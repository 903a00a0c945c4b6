"""A pack at work on a far machine: every pack holds this file as ``run.py``, which needs Python's own library alone.

    python pack/run.py --minutes 8      run the next stages, stop in time; the same command goes on

It lays the pack out in ``<recipe>-work`` beside it and runs each stage's notebook cells in a process of their own. What
they made, or how far they came, lies in ``<recipe>-home`` for ``recnb unpack``; a new pack starts both afresh.

exit codes: 0 all done, 1 a stage failed (its log is shown), 2 something to mend first, 3 out of time: call it again
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from importlib import metadata, util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

PACK, HOME = "pack.json", "home.json"
DONE, FAILED, TO_MEND, OUT_OF_TIME = 0, 1, 2, 3
_SMALL = 2**20  # larger files are weights and vectors, which no compression makes smaller
_LEAST = 2.0  # seconds for which a stage is worth starting


class PackError(Exception):
    """Something about a pack that the user can mend."""


def put(files: dict[str, Path], folder: Path, stem: str, largest: int) -> dict[str, str]:
    """Files by their names there, as a zip in parts ``<stem>.01`` ... of at most ``largest`` bytes: part -> sha256."""
    parts = {}
    with tempfile.TemporaryFile(dir=folder) as whole:
        with zipfile.ZipFile(whole, "w", strict_timestamps=False) as archive:
            for name, path in files.items():
                small = path.stat().st_size < _SMALL
                archive.write(path, name, zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED)
        count = -(-whole.seek(0, os.SEEK_END) // largest)
        whole.seek(0)
        for number in range(1, count + 1):
            content = whole.read(largest)
            parts[f"{stem}.{number:02}"] = hashlib.sha256(content).hexdigest()
            (folder / f"{stem}.{number:02}").write_bytes(content)
    return parts


def take(parts: dict[str, str], folders: list[Path], target: Path) -> None:
    """Join the parts of a zip, wherever among the folders each lies, and lay its files out in ``target``.

    Raises:
        PackError: a part is missing, or not what its sha256 says; names it.
    """
    with tempfile.TemporaryFile(dir=target) as whole:
        for name, sha in parts.items():
            path = next((folder / name for folder in folders if (folder / name).is_file()), None)
            if path is None:
                looked = ", ".join(map(str, folders))
                raise PackError(f"{name} is missing ({len(parts)} parts belong together); looked in {looked}")
            content = path.read_bytes()
            if (found := hashlib.sha256(content).hexdigest()) != sha:
                raise PackError(f"{path} is damaged: sha256 {found[:12]}…, expected {sha[:12]}…; carry it once more")
            whole.write(content)
        with zipfile.ZipFile(whole) as archive:
            archive.extractall(target)


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def main() -> int:
    """Command line; ``--stage`` is how this file calls itself."""
    parser = argparse.ArgumentParser("python pack/run.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=0.0, help="end within this time (0: no limit)")
    parser.add_argument("--last", default="", metavar="STAGE", help="stop after this stage, e.g. 06")
    parser.add_argument("--out", type=Path, help="where what comes home is put (default: <recipe>-home)")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    here = Path(__file__).resolve().parent
    index = _json(here / PACK)
    if options.stage:
        return _cells(index, options.stage)
    try:
        return _run(index, here, options)
    except PackError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return TO_MEND


def _run(index: dict[str, Any], here: Path, options: argparse.Namespace) -> int:
    started = time.monotonic()
    seconds = 60 * options.minutes or float("inf")
    until = started + seconds - min(30.0, seconds / 10)  # the rest: to put together what comes home
    last = next((stage for stage in index["there"] if options.last and stage.startswith(options.last)), options.last)
    if last not in ("", *index["there"]):
        raise PackError(f"--last {last}: expected one of {', '.join(index['there'])}")
    work, out = here.parent / f"{index['name']}-work", options.out or here.parent / f"{index['name']}-home"
    _lay_out(index, here, work)
    _check(index, work)
    out.mkdir(parents=True, exist_ok=True)
    for stage in index["there"]:
        began = time.monotonic()
        state = "done" if _made(index, stage, work) else _stage(index, stage, work, until)
        _bring(index, stage, state, time.monotonic() - began, work, out)
        if state != "done":
            again = "; the same command goes on" if state == "stopped" else f": {work / 'logs' / stage}.txt"
            print(f"{stage} {state}{again}\nto carry home: {out}")
            return OUT_OF_TIME if state == "stopped" else FAILED
        if stage == last:
            break
    print(f"all done; to carry home: {out}")
    return DONE


def _lay_out(index: dict[str, Any], here: Path, work: Path) -> None:
    """The project as far as it was packed, once; every pack beside this one may hold parts."""
    mark = work / PACK
    if _json(mark) == index:
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    take(index["parts"], [pack.parent for pack in here.parent.glob(f"*/{PACK}") if _json(pack) == index], work)
    for wheel in sorted(work.glob("wheels/*.whl")):
        if _fits(wheel.name):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work / "site")
    mark.write_text(json.dumps(index), encoding="utf-8")


def _fits(wheel: str) -> bool:
    """Whether a wheel is for this Python, by its name."""
    python, abi = wheel.removesuffix(".whl").split("-")[-3:-1]
    mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return abi == "abi3" or any(tag in ("py3", mine) for tag in python.split("."))


def _check(index: dict[str, Any], work: Path) -> None:
    sys.path[:0] = [str(work / "site")]
    absent = [f"{name} (packed with {version})" for name, version in index["needs"].items() if not _version(name)]
    if absent:
        raise PackError(
            f"Python {sys.version.split()[0]} here lacks {', '.join(absent)}: install them, or pack again with "
            "--wheels and their wheels for this Python"
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _made(index: dict[str, Any], stage: str, work: Path) -> dict[str, Any]:
    """A stage's manifest; empty: it is not complete."""
    return _json(work / "runs" / index["name"] / stage / "manifest.json")


def _stage(index: dict[str, Any], stage: str, work: Path, until: float) -> str:
    """Run a stage in a process of its own, and end it when time is out: done, failed or stopped."""
    if until - time.monotonic() < _LEAST:
        return "stopped"
    print(f"{stage} running", flush=True)
    paths = [str(work / "site"), str(work), os.environ.get("PYTHONPATH", "")]
    environment = index["environment"] | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {"RECNB_COMMIT": index["commit"], "GIT_CEILING_DIRECTORIES": str(work.parent)}
    command = [sys.executable, "-u", str(Path(__file__).resolve()), "--stage", stage]
    log = work / "logs" / f"{stage}.txt"
    log.parent.mkdir(exist_ok=True)
    with log.open("a", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, cwd=work, env=environment, stdout=said, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            process.wait(None if until == float("inf") else until - time.monotonic())
        except subprocess.TimeoutExpired:
            return "done" if _made(index, stage, work) else "stopped"
        finally:  # also when this process is told to end
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode or not _made(index, stage, work):
        print("".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-20:]))
        return "failed"
    return "done"


def _bring(index: dict[str, Any], stage: str, state: str, seconds: float, work: Path, out: Path) -> None:
    """Put what a stage has made, or how far it came, and what is known of it, into the folder that goes home."""
    kept = _json(work / HOME)
    entry = kept.get("stages", {}).get(stage, {})
    if state == "done" == entry.get("state") and all((out / part).is_file() for part in entry["parts"]):
        return
    for old in out.glob(f"{stage}.zip.*"):
        old.unlink()
    run, figures = work / "runs" / index["name"] / stage, work / "reports" / index["name"] / "figures"
    files = [*run.rglob("*"), *figures.glob(f"{stage}-*"), *work.glob(f"logs/{stage}.txt")]
    inside = {file.relative_to(work).as_posix(): file for file in files if file.is_file()}
    made = _made(index, stage, work)
    entry = {
        "state": state,
        "seconds": made.get("seconds", round(seconds, 3)),
        "peak_memory": made.get("peak_memory", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024),
        **{name: made.get(name) for name in ("peak_gpu_memory", "device", "dtype", "facts")},
        "parts": put(inside, out, f"{stage}.zip", index["largest"]),
    }
    about = {name: index[name] for name in ("name", "recipe", "overrides", "commit", "there")}
    kept = about | {"stages": kept.get("stages", {}) | {stage: entry}}
    for folder in (work, out):
        (folder / "new.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
        (folder / "new.json").replace(folder / HOME)
    print(f"{stage} {state}: {entry['seconds']:.1f} s, {entry['peak_memory'] / 2**20:.0f} MiB", flush=True)


def _cells(index: dict[str, Any], stage: str) -> int:
    """One stage, in this process: the cells of its notebook."""
    if util.find_spec("IPython") is None:
        _stand_in()
    from recnb.workflow.launch import main as launch

    settings = [*index["overrides"], "paths.runs=runs", "paths.reports=reports"]
    return launch([stage, index["recipe"], *(f"--set={setting}" for setting in settings)])


def _stand_in() -> None:
    """What notebooks and libraries ask of IPython, where there is none: what is displayed is printed."""

    class Shown:
        def __init__(self, data: object = "") -> None:
            self.data = data

        def __str__(self) -> str:
            return re.sub(r"<[^>]+>", " ", str(self.data))

    def display(*values: object, **_: object) -> None:
        print(*values, sep="\n")

    top, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    top.__spec__, inner.__spec__ = ModuleSpec("IPython", None), ModuleSpec("IPython.display", None)
    vars(top).update(version_info=(9, 0, 0), get_ipython=lambda: None, display=inner)
    vars(inner).update(display=display, Markdown=Shown, HTML=Shown)
    sys.modules.update({"IPython": top, "IPython.display": inner})


if __name__ == "__main__":
    sys.exit(main())
