"""The process of other people's converters does not outlive ours."""

import os
import signal
import subprocess
import sys

import psutil


def test_a_busy_child_ends_with_a_parent_that_was_killed() -> None:
    code = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', "
        "'import os, threading; from converters.apart import _end_with; "
        "threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start();"
        'print("busy", flush=True)\\nwhile True: pass\']);'
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        told = {ours.stdout.readline().strip() for _ in range(2)}
        child = psutil.Process(int((told - {"busy"}).pop()))
        os.kill(ours.pid, signal.SIGKILL)
        psutil.wait_procs([child], timeout=20)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
