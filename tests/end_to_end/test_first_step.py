"""What a run does before its first step: it imports nothing that it needs only later, and composes its config once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from command import NARROW

ASKED = """
import gc, json, os, sys
import lightning as L

class Asked(L.Callback):
    def on_train_batch_end(self, *_):
        slow = [name for name in ("sklearn", "pandas", "skimage", "onnx") if name in sys.modules]
        found = {"slow": slow, "enabled": gc.isenabled(), "kept": gc.get_freeze_count()}
        print("found", json.dumps(found), flush=True)
        os._exit(0)
"""


def test_before_the_first_step_a_default_run_imports_nothing_that_its_tasks_need(tmp_path: Path) -> None:
    (tmp_path / "asked.py").write_text(ASKED)
    called = [sys.executable, "-m", "narrows.commands.train", *NARROW, "+callbacks.asked._target_=asked.Asked"]
    done = subprocess.run(called, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("found ")] or [done.stderr]
    found = json.loads(line.removeprefix("found "))
    assert found["slow"] == []
    # What torch and Lightning made is never looked through again, and what comes later is collected.
    assert found["enabled"]
    assert found["kept"] > 100_000
