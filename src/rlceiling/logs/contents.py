"""What is in a log: keys, how many evaluations each has, and resources."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rlceiling.logs.choose import COMPUTES
from rlceiling.logs.conventions import held_out_by_kind, training_keys
from rlceiling.logs.gather import Log, Source, opened
from rlceiling.logs.history import History
from rlceiling.runs.files import open_table


def log_contents(path: Source) -> pd.DataFrame:
    """List what is in a log.

    Parameters
    ----------
    path : path, pattern or sequence of them
        As in `read_log`.

    Returns
    -------
    DataFrame
        One row per run and key: `run`, `key`, `kind` ("held-out", "training" or "other"), `rows`, `first_step`,
        `last_step`, `lowest` and `highest`. ``attrs["notes"]`` are the notes, and ``attrs["compute"]`` the resources
        that each run logs.
    """
    with opened(path) as log:
        return _contents(log)


def _contents(log: Log) -> pd.DataFrame:
    lines, notes, computes = [], list(log.notes), {}
    for one in log.runs:
        history = History(one, "keep-last")
        notes += history.notes
        keys = one.rows.keys
        held_out = {*one.metrics, *(key for kind in held_out_by_kind(keys) for key in kind)}
        training = set(training_keys(keys))
        for key in keys:
            steps, values, _ = history.values(key)
            kind = "held-out" if key in held_out else "training" if key in training else "other"
            if len(values):
                ends = (steps[0], steps[-1], values.min(), values.max())
                lines.append((one.name, key, kind, len(values), *map(float, ends)))
        computes[one.name] = [name for name in COMPUTES if name == "step" or history.resource(name, None) is not None]
    for place in log.tables:
        table = open_table(place).cells
        if table.empty:
            notes.append(f"{place.name} has no rows")
        lines += [(place.name, str(c), "column", int((table[c].astype(str) != "").sum()), *[np.nan] * 4) for c in table]
    names = ["run", "key", "kind", "rows", "first_step", "last_step", "lowest", "highest"]
    contents = pd.DataFrame(lines, columns=names)
    contents.attrs.update(notes=notes, compute=computes)
    return contents
