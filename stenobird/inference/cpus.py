"""How many CPU cores this process may use: the affinity mask and the cgroup's quota, whichever is less."""

from __future__ import annotations

import os
from pathlib import Path

MAX_REPLICAS = 16
"""Replicas share the weights but each needs its own activations, some 200 MB for `base`."""


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of whole cores, at least 1.

    A quota of one and a half cores counts as one: two busy threads would be stopped for a third of the time.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, int(quota)))


def _quota(cgroup: Path) -> float | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if limit in {"max", "-1"}:
        return None
    return int(limit) / int(period)
