"""Counts what Python is asked to do, where the time that it takes would depend on the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pandas as pd


def effort(task: Callable[[], object], *, rows: bool = True) -> int:
    """How much work a task is: calls of functions, plus the rows of each table or column that a method is called of.

    So a loop that asks for all rows again at each turn counts as what it costs. Loops within C functions, such as a
    search in a list, do not count.

    Parameters
    ----------
    task : callable
        What is done.
    rows : bool
        Whether rows count, or calls alone.
    """
    work = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal work
        if event not in ("call", "c_call"):
            return
        work += 1
        code = frame.f_code
        method = code.co_argcount > 0 and code.co_varnames[0] == "self" and "pandas" in code.co_filename
        # A new object around the same memory is made of a whole table for each group of it, and looks at no row.
        if rows and event == "call" and method and not code.co_name.endswith("_from_mgr"):
            own = frame.f_locals["self"]
            if isinstance(own, (pd.Series, pd.DataFrame)) and "_mgr" in own.__dict__:
                work += len(own._mgr.axes[-1])

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        task()
    finally:
        sys.setprofile(before)
    return work
