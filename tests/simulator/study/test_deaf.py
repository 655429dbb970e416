"""Ctrl-C and processes that are being spawned: in fresh interpreters, as the first spawn differs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CHILD = """
import signal
def tell(pipe):
    pipe.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def _outcome(folder: Path, script: str) -> str:
    (folder / "child.py").write_text(_CHILD)
    (folder / "parent.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "parent.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_spawned_process_hears_it_not_even_the_first(tmp_path: Path) -> None:
    script = """
import multiprocessing, signal
from child import tell
from warmroute_simulator.study.deaf import interrupts_held
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        ours, theirs = context.Pipe()
        with interrupts_held():
            process = context.Process(target=tell, args=(theirs,))
            process.start()
        print(ours.recv())
        process.join()
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    assert _outcome(tmp_path, script).split() == ["True", "True", "False"]


def test_one_that_another_thread_takes_is_raised_at_the_end(tmp_path: Path) -> None:
    script = """
import signal, socket, threading
from warmroute_simulator.study.deaf import interrupts_held
up, stop = threading.Event(), threading.Event()
other = threading.Thread(target=lambda: (up.set(), stop.wait()))
other.start()
up.wait()
came, writer = socket.socketpair()
writer.setblocking(False)
signal.set_wakeup_fd(writer.fileno())
try:
    with interrupts_held():
        signal.pthread_kill(other.ident, signal.SIGINT)
        came.recv(1)  # it was taken, and Python's handler runs before the next line
        print("whole")
except KeyboardInterrupt:
    print("interrupted")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
stop.set()
"""
    assert _outcome(tmp_path, script).split() == ["whole", "interrupted", "True"]
