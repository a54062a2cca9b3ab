"""A scheduler of one machine that begins what it is given at once, for tests of what SLURM is told."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

SBATCH = """#!{python}
import os, subprocess, sys
from pathlib import Path
script = Path({folder!r}, f"job{{os.getpid()}}.sh")
script.write_text(Path(sys.argv[-1]).read_text())
job = subprocess.Popen(["bash", script], start_new_session=True, stdout=open(script.with_suffix(".out"), "w"),
                       stderr=subprocess.STDOUT)
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!{python}
import os, signal, sys
for job in sys.argv[1:]:
    try:
        os.killpg(int(job), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def write_slurm(folder: Path) -> None:
    """Write sbatch and scancel; the scripts of jobs go into the same folder."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text.format(python=sys.executable, folder=str(folder)))
        (folder / name).chmod(stat.S_IRWXU)
