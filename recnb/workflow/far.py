"""A pack at work on a far machine: every pack holds this file as ``run.py``, which needs Python's own library alone.

    python pack/run.py --minutes 8      run the next stages, stop in time; the same command goes on

It lays the pack out in ``<recipe>-work`` beside it and runs each stage's notebook cells in a process of their own. What
they made, or how far they came, lies in ``<recipe>-home`` for ``recnb unpack``; a new pack starts both afresh.

exit codes: 0 all done, 1 a stage failed (its log is shown), 2 something to mend first, 3 out of time: call it again
"""

from __future__ import annotations

import argparse
import calendar
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
from dataclasses import dataclass
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
            for entry in archive.infolist():  # with its time: a stage tells a large model's file by that
                then = calendar.timegm((*entry.date_time, 0, 0, 0))
                os.utime(archive.extract(entry, target), (then, then))


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def main() -> int:
    """Command line; ``--stage`` is how this file calls itself."""
    parser = argparse.ArgumentParser("python pack/run.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=0.0, help="end within this time (0: no limit)")
    parser.add_argument("--last", metavar="STAGE", help="end with this stage, e.g. 06")
    parser.add_argument("--leave", nargs="+", default=[], metavar="STAGE", help="not to be carried home: too large")
    parser.add_argument("--out", type=Path, help="where what comes home is put (default: <recipe>-home)")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = 60 * options.minutes or float("inf")
    until = time.monotonic() + seconds - min(30.0, seconds / 10)  # the rest: to put together what comes home
    here = Path(__file__).resolve().parent
    index = _json(here / PACK)
    if options.stage:
        return _cells(index, options.stage)
    beside = here.parent / index["name"]
    machine = Machine(index, beside.with_name(f"{index['name']}-work"), options.out or Path(f"{beside}-home"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what there is goes home
    try:
        last = machine.named(options.last) if options.last else ""
        left = {machine.named(asked) for asked in options.leave}
        machine.lay_out(here)
        return machine.run(until, last, left)
    except PackError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return TO_MEND


@dataclass(frozen=True)
class Machine:
    """A pack at work here: its index, where it is laid out, and where what comes home is put."""

    index: dict[str, Any]
    work: Path
    out: Path

    def named(self, asked: str) -> str:
        """The stage whose name begins so."""
        for stage in self.index["there"]:
            if stage.startswith(asked):
                return str(stage)
        raise PackError(f"no stage '{asked}' in this pack; expected one of {', '.join(self.index['there'])}")

    def lay_out(self, here: Path) -> None:
        """The project as far as it was packed, once; packs beside this one hold parts. Then a look at this Python."""
        if _json(self.work / PACK) != self.index:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir()
            packs = [pack.parent for pack in here.parent.glob(f"*/{PACK}") if _json(pack) == self.index]
            take(self.index["parts"], packs, self.work)
            for wheel in filter(_fits, self.work.glob("wheels/*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(self.work / "site")
            (self.work / PACK).write_text(json.dumps(self.index), encoding="utf-8")
        sys.path.insert(0, str(self.work / "site"))
        absent = [f"{name} (packed: {version})" for name, version in self.index["needs"].items() if not _is_here(name)]
        if absent or sys.version_info < (3, 11):
            raise PackError(
                f"Python {sys.version.split()[0]} lacks {', '.join(absent) or 'nothing'}; expected: 3.11 or newer, "
                "with all packages that README.md names. Install them, or pack again with --wheels for this Python"
            )
        self.out.mkdir(parents=True, exist_ok=True)

    def run(self, until: float, last: str, left: set[str]) -> int:
        """Run the stages in order, up to the ``last``, until time is out; returns an exit code."""
        for stage in self.index["there"]:
            started = time.monotonic()
            state = "done" if self.made(stage) else self.start(stage, until)
            self.bring(stage, state, time.monotonic() - started, stage in left)
            if state != "done":
                print({"stopped": "out of time: the same command goes on", "failed": self.log(stage)}[state])
            if state != "done" or stage == last:
                break
        print(f"to carry home: {self.out}")
        return {"done": DONE, "failed": FAILED, "stopped": OUT_OF_TIME}[state]

    def made(self, stage: str) -> dict[str, Any]:
        """A stage's manifest; empty: it is not complete."""
        return _json(self.work / "runs" / self.index["name"] / stage / "manifest.json")

    def log(self, stage: str) -> Path:
        """What a stage says goes here."""
        return self.work / "logs" / f"{stage}.txt"

    def start(self, stage: str, until: float) -> str:
        """Run a stage in a process of its own, and end it when time is out: done, failed or stopped."""
        if until - time.monotonic() < _LEAST:
            return "stopped"
        print(f"{stage} running", flush=True)
        paths = [str(self.work / "site"), str(self.work), os.environ.get("PYTHONPATH", "")]
        environment = self.index["environment"] | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment |= {"RECNB_COMMIT": self.index["commit"], "GIT_CEILING_DIRECTORIES": str(self.work.parent)}
        command = [sys.executable, "-u", str(Path(__file__).resolve()), "--stage", stage]
        self.log(stage).parent.mkdir(exist_ok=True)
        with self.log(stage).open("a", encoding="utf-8") as said:
            tied: dict[str, Any] = {"stdout": said, "stderr": subprocess.STDOUT, "process_group": 0}
            process = subprocess.Popen(command, cwd=self.work, env=environment, **tied)
            try:
                process.wait(None if until == float("inf") else until - time.monotonic())
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # or this process is told to end
                return "done" if self.made(stage) else "stopped"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode == 0 and self.made(stage):
            return "done"
        print("\n".join(self.log(stage).read_text(encoding="utf-8", errors="replace").splitlines()[-20:]))
        return "failed"

    def bring(self, stage: str, state: str, seconds: float, left: bool) -> None:
        """Put what a stage has made, or how far it came, and what is known of it, into the folder that goes home."""
        known = {name: self.index[name] for name in ("name", "recipe", "overrides", "commit", "there")} | {"stages": {}}
        known |= _json(self.work / HOME)
        entry = known["stages"].get(stage, {"state": ""})
        if not state == "done" == entry["state"]:
            entry = known["stages"][stage] = _measured(self.made(stage), state, seconds)
            print(f"{stage} {state}: {entry['seconds']:.1f} s, {entry['peak_memory'] / 2**20:.0f} MiB", flush=True)
        if not left and not (entry["parts"] and all((self.out / part).is_file() for part in entry["parts"])):
            for old in self.out.glob(f"{stage}.zip.*"):
                old.unlink()
            figures = self.work.glob(f"reports/{self.index['name']}/figures/{stage}-*")
            files = [*self.work.glob(f"runs/{self.index['name']}/{stage}/**/*"), *figures, self.log(stage)]
            inside = {file.relative_to(self.work).as_posix(): file for file in files if file.is_file()}
            entry["parts"] = put(inside, self.out, f"{stage}.zip", self.index["largest"])
        for folder in (self.work, self.out):
            (folder / "new.json").write_text(json.dumps(known, indent=1), encoding="utf-8")
            (folder / "new.json").replace(folder / HOME)


def _measured(made: dict[str, Any], state: str, seconds: float) -> dict[str, Any]:
    """What is known of a stage beside what it made."""
    peak = made.get("peak_memory") or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    told = {name: made.get(name) for name in ("peak_gpu_memory", "device", "dtype", "facts")}
    return {"state": state, "seconds": made.get("seconds", round(seconds, 3)), "peak_memory": peak, **told, "parts": {}}


def _fits(wheel: Path) -> bool:
    """Whether a wheel is for this Python, by its name."""
    python, abi = wheel.stem.split("-")[-3:-1]
    mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return abi == "abi3" or not {"py3", mine}.isdisjoint(python.split("."))


def _is_here(package: str) -> bool:
    return next(iter(metadata.distributions(name=package)), None) is not None


def _cells(index: dict[str, Any], stage: str) -> int:
    """One stage, in this process: the cells of its notebook."""
    if util.find_spec("IPython") is None:
        _stand_in()
    from recnb.workflow.launch import main as launch

    settings = [*index["overrides"], "paths.runs=runs", "paths.reports=reports"]
    return launch([stage, index["recipe"], *(f"--set={setting}" for setting in settings)])


def _stand_in() -> None:
    """What notebooks and libraries ask of IPython, where there is none: what is displayed is printed."""

    def shown(data: object = "") -> str:
        return re.sub(r"<[^>]+>", " ", str(data))

    def display(*values: object, **_: object) -> None:
        print(*values, sep="\n")

    top, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    top.__spec__, inner.__spec__ = ModuleSpec("IPython", None), ModuleSpec("IPython.display", None)
    vars(top).update(version_info=(9, 0, 0), get_ipython=lambda: None, display=inner)
    vars(inner).update(display=display, Markdown=shown, HTML=shown)
    sys.modules.update({"IPython": top, "IPython.display": inner})


if __name__ == "__main__":
    sys.exit(main())
