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
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

PACK, HOME = "pack.json", "home.json"
TO_MEND, EXIT_CODES = 2, {"done": 0, "failed": 1, "stopped": 3}
_SMALL = 2**20  # larger files are weights and vectors, which no compression makes smaller
_LEAST = 2.0  # seconds for which a stage is worth starting
_IPYTHON = {  # what notebooks and libraries ask of it, where there is none: what is displayed is printed
    "__init__.py": "version_info, get_ipython = (9, 0, 0), lambda: None",
    "display.py": """\
import re
display = lambda *values, **_: print(*values, sep="\\n")
Markdown = HTML = lambda data="": re.sub("<[^>]+>", " ", str(data))
""",
}


class PackError(Exception):
    """Something about a pack that the user can mend."""


def put(files: dict[str, Path], folder: Path, stem: str, largest: int) -> dict[str, str]:
    """Files by their names there, as a zip in parts ``<stem>.01`` ... of at most ``largest`` bytes: part -> sha256."""
    parts = {}
    with tempfile.TemporaryFile(dir=folder) as whole:
        with zipfile.ZipFile(whole, "w", strict_timestamps=False) as archive:
            for name, path in files.items():
                archive.write(path, name, zipfile.ZIP_DEFLATED if path.stat().st_size < _SMALL else zipfile.ZIP_STORED)
        whole.seek(0)
        for number, content in enumerate(iter(lambda: whole.read(largest), b""), 1):
            part = f"{stem}.{number:02}"
            (folder / part).write_bytes(content)
            parts[part] = hashlib.sha256(content).hexdigest()
    return parts


def take(parts: dict[str, str], folders: list[Path], target: Path) -> None:
    """Join the parts of a zip, wherever among the folders each lies, and lay its files out in ``target``.

    Raises:
        PackError: a part is missing, or not what its sha256 says; names it.
    """
    with tempfile.TemporaryFile(dir=target) as whole:
        for name, sha in parts.items():
            path = next((place for folder in folders if (place := folder / name).is_file()), None)
            if path is None:
                looked = ", ".join(map(str, folders))
                raise PackError(f"{name} is missing ({len(parts)} parts belong together); looked in {looked}")
            content = path.read_bytes()
            if (found := hashlib.sha256(content).hexdigest()) != sha:
                raise PackError(f"{path} is damaged: sha256 {found[:12]}…, expected {sha[:12]}…; carry it once more")
            whole.write(content)
        try:
            with zipfile.ZipFile(whole) as archive:
                for entry in archive.infolist():  # with its time: a stage tells a large model's file by that
                    then = calendar.timegm((*entry.date_time, 0, 0, 0))
                    os.utime(archive.extract(entry, target), (then, then))
        except zipfile.BadZipFile as error:
            raise PackError(f"{', '.join(parts)}: {error}") from None


def minutes(text: str) -> float:
    """A time, 0 for no limit."""
    if not 0 <= (value := float(text)) < float("inf"):
        raise ValueError
    return value


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser("python pack/run.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=minutes, default=0.0, help="end within this time (0: no limit)")
    parser.add_argument("--last", nargs=1, default=[], metavar="STAGE", help="end with this stage, e.g. 06")
    parser.add_argument("--leave", nargs="+", default=[], metavar="STAGE", help="not to be carried home: too large")
    parser.add_argument("--out", type=Path, help="where what comes home is put (default: <recipe>-home)")
    options = parser.parse_args()
    seconds = 60 * options.minutes or float("inf")
    until = time.monotonic() + seconds - min(30.0, seconds / 10)  # the rest: to put together what comes home
    here = Path(__file__).resolve().parent
    index = _json(here / PACK)
    beside = str(here.parent / index["name"])
    machine = Machine(index, Path(f"{beside}-work"), options.out or Path(f"{beside}-home"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what there is goes home
    try:
        for asked in [*options.last, *options.leave]:
            if not any(stage.startswith(asked) for stage in index["there"]):
                raise PackError(f"no stage '{asked}' in this pack; expected one of {', '.join(index['there'])}")
        machine.lay_out(here)
        return machine.run(until, tuple(options.last), tuple(options.leave))
    except KeyboardInterrupt:  # between two stages: what is made stays in the folder at work
        print("told to end: the same command goes on")
        return EXIT_CODES["stopped"]
    except PackError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return TO_MEND


@dataclass(frozen=True)
class Machine:
    """A pack at work here: its index, where it is laid out, and where what comes home is put."""

    index: dict[str, Any]
    work: Path
    out: Path

    def lay_out(self, here: Path) -> None:
        """The project as far as it was packed, once; packs beside this one hold parts. Then a look at this Python."""
        if _json(self.work / PACK) != self.index:
            if self.work.exists() and not (self.work / PACK).is_file():
                raise PackError(f"{self.work} is there, and no pack was laid out in it: move it, or the packs")
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir()
            (self.work / PACK).write_text("{}", encoding="utf-8")  # begun: laid out anew if it does not come to its end
            packs = [pack.parent for pack in here.parent.glob(f"*/{PACK}") if _json(pack) == self.index]
            take(self.index["parts"], packs, self.work)
            for wheel in filter(_fits, self.work.glob("wheels/*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(self.work / "site")
            (self.work / PACK).write_text(json.dumps(self.index), encoding="utf-8")
        sys.path.insert(0, str(self.work / "site"))
        if util.find_spec("IPython") is None:
            (self.work / "site" / "IPython").mkdir(parents=True)
            for name, text in _IPYTHON.items():
                (self.work / "site" / "IPython" / name).write_text(text, encoding="utf-8")
        needs = self.index["needs"]
        absent = [f"{name} (packed: {needs[name]})" for name in needs if not any(metadata.distributions(name=name))]
        if absent or sys.version_info < (3, 11):
            raise PackError(
                f"Python {sys.version.split()[0]} lacks {', '.join(absent) or 'nothing'}; expected: 3.11 or newer, "
                "with all packages that README.md names. Install them, or pack again with --wheels for this Python"
            )
        self.out.mkdir(parents=True, exist_ok=True)

    def run(self, until: float, last: tuple[str, ...], left: tuple[str, ...]) -> int:
        """Run the stages in order, up to the ``last``, until time is out; returns an exit code."""
        for stage in self.index["there"]:
            started = time.monotonic()
            state = "done" if self.made(stage) else self.start(stage, until)
            self.bring(stage, state, time.monotonic() - started, stage.startswith(left))
            if state != "done":
                print({"stopped": "out of time: the same command goes on", "failed": self.log(stage)}[state])
            if state != "done" or stage.startswith(last):
                break
        print(f"to carry home: {self.out}")
        return EXIT_CODES[state]

    def made(self, stage: str) -> dict[str, Any]:
        """A stage's manifest; empty: it is not complete."""
        return _json(self.work / "runs" / self.index["name"] / stage / "manifest.json")

    def log(self, stage: str) -> Path:
        """What a stage says goes here."""
        return self.work / f"{stage}.txt"

    def start(self, stage: str, until: float) -> str:
        """Run a stage in a process of its own, and end it when time is out: done, failed or stopped."""
        if until - time.monotonic() < _LEAST:
            return "stopped"
        paths = [str(self.work / "site"), str(self.work), os.environ.get("PYTHONPATH", "")]
        environment = self.index["environment"] | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment |= {"RECNB_COMMIT": self.index["commit"], "GIT_CEILING_DIRECTORIES": str(self.work.parent)}
        command = [sys.executable, "-um", "recnb.workflow.launch", stage, self.index["recipe"]]
        command += [f"--set={one}" for one in (*self.index["overrides"], "paths.runs=runs", "paths.reports=reports")]
        with self.log(stage).open("a", encoding="utf-8") as said:
            tied: dict[str, Any] = {"stdout": said, "stderr": subprocess.STDOUT, "process_group": 0}
            try:
                print(f"{stage} running", flush=True)
                done = subprocess.run(command, cwd=self.work, env=environment, timeout=until - time.monotonic(), **tied)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # or this process is told to end
                return "done" if self.made(stage) else "stopped"
        if done.returncode == 0 and self.made(stage):
            return "done"
        print("\n".join(self.log(stage).read_text(encoding="utf-8", errors="replace").splitlines()[-20:]))
        return "failed"

    def bring(self, stage: str, state: str, seconds: float, left: bool) -> None:
        """Put what a stage has made, or how far it came, and what is known of it, into the folder that goes home."""
        known = _json(self.out / HOME)
        if known | self.index != known:  # none yet, or of another pack
            known = self.index | {"stages": {}}
        before = known["stages"].get(stage, {"parts": {}})
        entry = known["stages"][stage] = _measured(self.made(stage), state, seconds) | {"parts": before["parts"]}
        if entry != before:
            entry["parts"] = {}
            print(f"{stage} {state}: {entry['seconds']:.1f} s, {entry['peak_memory'] / 2**20:.0f} MiB", flush=True)
        if not left and not (entry["parts"] and all((self.out / part).is_file() for part in entry["parts"])):
            for old in self.out.glob(f"{stage}.zip.*"):
                old.unlink()
            entry["parts"] = put(self.files(stage), self.out, f"{stage}.zip", self.index["largest"])
        new = self.out / "new.json"
        new.write_text(json.dumps(known, indent=1), encoding="utf-8")
        new.replace(self.out / HOME)

    def files(self, stage: str) -> dict[str, Path]:
        """All that goes home of a stage, by its place there; its figures where a stage keeps them."""
        folder = f"runs/{self.index['name']}/{stage}"
        made = [path for path in (*self.work.glob(f"{folder}/**/*"), self.log(stage)) if path.is_file()]
        figures = self.work.glob(f"reports/{self.index['name']}/figures/{stage}-*")
        files = {path.relative_to(self.work).as_posix(): path for path in made}
        return files | {f"{folder}/page/{path.name}": path for path in figures}


def _measured(made: dict[str, Any], state: str, seconds: float) -> dict[str, Any]:
    """What is known of a stage beside what it made: by its manifest, if that is complete."""
    peak = made.get("peak_memory", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    told = {name: made.get(name) for name in ("key", "peak_gpu_memory", "device", "dtype", "facts")}
    return {"state": state, "seconds": made.get("seconds", round(seconds, 3)), "peak_memory": peak, **told}


def _fits(wheel: Path) -> bool:
    """Whether a wheel is for this Python, by its name."""
    python, abi = wheel.stem.split("-")[-3:-1]
    mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return abi == "abi3" or not {"py3", mine}.isdisjoint(python.split("."))


if __name__ == "__main__":
    sys.exit(main())
