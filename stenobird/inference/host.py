"""What a model host gets of this machine: its environment, and how many CPU cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REPLICAS = 16
"""Replicas share the weights but each needs its own activations, some 200 MB for `base`."""

_PASSED_ON = frozenset({"PATH", "HOME", "USER", "LANG", "TMPDIR", "LD_LIBRARY_PATH"})
_PASSED_ON_PREFIXES = ("LC_", "XDG_C", "CUDA_", "NVIDIA_", "CT2_")
_FOR_DOWNLOADS = (
    *("HF_", "PIP_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)


def host_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `environment` that a model host may see, plus one thread a library.

    Everything else is left out, our settings among it; see also `download_environment`. glibc puts the heap
    on huge pages, which saves 5 to 10 % of the CPU of recognition. ONNX Runtime's official builds report to
    Microsoft from the moment they are imported, under an identifier that they keep in HOME; only
    `ORT_DISABLE_TELEMETRY` prevents all of it.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    memory = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    return kept | threads | memory | {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}


def download_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the hub, of pip and of proxies: downloads are the operator's own connections.

    They may hold tokens and passwords. A host therefore gets them in its first message, not in its
    environment, which others could read, and drops them when its model is loaded.
    """
    return {name: value for name, value in environment.items() if name.startswith(_FOR_DOWNLOADS)}


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of whole cores that this process may use, at least 1.

    It is the affinity mask or the cgroup's quota, whichever is less. A quota of one and a half cores counts
    as one: two busy threads would be stopped for a third of the time.
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
