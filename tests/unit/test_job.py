"""What every rule's script has around its one call."""

import os
import subprocess
import sys
from pathlib import Path

import slideunet


def test_garbage_is_looked_for_as_ever_once_the_imports_are_done(tmp_path):
    code = (
        "import gc; usual = gc.get_threshold()\n"
        "from slideunet.job import job\n"
        "while_importing = gc.get_threshold()\n"
        f"with job({str(tmp_path / 'log')!r}):\n"
        "    assert gc.isenabled() and gc.get_threshold() == usual != while_importing\n"
        "    assert gc.get_freeze_count() > 10_000\n"
    )
    scripts = str(Path(slideunet.__path__[0]).parent)
    environment = {**os.environ, "PYTHONPATH": scripts}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
