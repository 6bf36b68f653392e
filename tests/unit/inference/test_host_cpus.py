from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stenobird.inference.host import usable_cpus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("quota", "cpus"), [("100000 100000", 1), ("150000 100000", 1), ("5000 100000", 1)])
def test_cgroup_v2_quota_limits_the_cores(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")

    assert usable_cpus(tmp_path) == cpus


def test_cgroup_v1_quota_limits_the_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")

    assert usable_cpus(tmp_path) == 1


def test_without_a_quota_the_affinity_mask_counts(tmp_path: Path) -> None:
    affinity = len(os.sched_getaffinity(0))
    assert usable_cpus(tmp_path) == affinity
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == affinity
