"""Kernels without the wait: one process loads the libraries once, and each kernel is a fork of it.

Most of a small stage's seconds go into imports. The process that is forked runs no cell, so no kernel knows anything of
the one before it; where nobody listens any more, however that came about, it ends, and its kernels with it. For Linux,
and for runs that compute on the CPU: what a GPU's driver has opened does not survive a fork.
"""

from __future__ import annotations

import atexit
import gc
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

LIBRARIES = (
    "ipykernel.kernelapp", "IPython.display", "pydantic", "numpy", "pandas", "pyarrow.parquet", "scipy.stats",
    "sklearn.preprocessing", "sklearn.decomposition", "sklearn.feature_extraction.text", "torch", "matplotlib.pyplot",
    "seaborn", "transformers.modeling_utils", "transformers.models.llama.modeling_llama", "peft",
)  # fmt: skip
_ORDINARY = "local-provisioner"  # jupyter_client's name for the start of an interpreter


class Kernel:
    """A fork at work, as jupyter_client handles a ``subprocess.Popen``; its exit code stays unknown (0)."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid, self._end = pid, os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it runs."""
        return 0 if select.select([self._end], [], [], 0)[0] else None

    def wait(self) -> int:
        """Until it has ended."""
        select.select([self._end], [], [])
        os.close(self._end)
        return 0

    def send_signal(self, number: int) -> None:
        """To it, and to no process that came after it."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._end, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """With notice."""
        self.send_signal(signal.SIGTERM)


class Parent:
    """The process that is forked; it starts when the first kernel is asked for.

    Args:
        environment: what libraries may look at as they are loaded, beside this process's own.
        libraries: modules to load.
    """

    def __init__(self, environment: Mapping[str, str], libraries: Sequence[str] = LIBRARIES) -> None:
        self._environment, self._libraries = environment, libraries
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, arguments: list[str], folder: str, environment: dict[str, str]) -> Kernel:
        """A kernel with these arguments, in this folder."""
        try:
            if self._process is None:
                self._start()
            self._pipe.send((arguments, folder, environment))
            return Kernel(self._pipe.recv())
        except (EOFError, OSError):
            raise RuntimeError("Kernel died before it started") from None

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """Within, every kernel that jupyter_client starts is a fork."""
        from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

        class Fork(LocalProvisioner):
            """Asks for a fork instead of starting an interpreter."""

            async def launch_kernel(own, cmd: list[str], **options: Any) -> Any:
                arguments, folder = cmd[cmd.index("-m") + 1 :], str(options.get("cwd") or Path.cwd())
                kernel: Any = self.fork(arguments, folder, options["env"])
                own.process, own.pid, own.pgid = kernel, kernel.pid, kernel.pid
                return own.connection_info

        factory = KernelProvisionerFactory.instance()
        kind = SimpleNamespace(load=lambda: Fork)  # in place of an entry point
        with patch.dict(factory.provisioners, {_ORDINARY: kind}):
            yield

    def close(self) -> None:
        """With it end the kernels that are left."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), *self._libraries]
        self._process = subprocess.Popen(
            command, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            start_new_session=True,
        )  # fmt: skip
        theirs.close()


def main(descriptor: int, libraries: list[str]) -> None:
    """Load the libraries, then fork a kernel for each request: arguments, folder, environment."""
    if Path(sys.path[0]) == Path.cwd():
        del sys.path[0]  # as ipykernel_launcher does
    for name in libraries:
        with suppress(ImportError):  # then its notebook will say so
            import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, _reap)
    pipe = Connection(descriptor)
    while True:
        try:
            asked = pipe.recv()
        except (EOFError, ConnectionError):  # who asked has ended
            return
        if not (pid := os.fork()):
            pipe.close()
            return _become_kernel(*asked)
        pipe.send(pid)


def _reap(*_: Any) -> None:
    """Take leave of kernels that have ended; what they computed counts as this process's children's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become_kernel(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """In the fork: what ``python -m ipykernel_launcher`` would find, and then do."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] == "recnb"]:
        del sys.modules[name]  # ours are read when a notebook asks for them: somebody may have edited them
    sys.argv[:] = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]  # whom it watches, and ends with
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
    atexit._run_exitfuncs()
    os._exit(0)  # nothing is left to do but to take thousands of modules apart


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
