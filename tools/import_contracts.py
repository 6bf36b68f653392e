"""A contract type for import-linter, which pyproject.toml uses beside the built-in ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grimp
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract

if TYPE_CHECKING:
    from importlinter.domain.contract import ContractCheck


class RuntimeAcyclicSiblings(AcyclicSiblingsContract):
    """`acyclic_siblings` without type-only imports, while the other contracts of the run still see those."""

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001
        """Check the imports that happen at run time."""
        roots = sorted(
            name for name in graph.modules if "." not in name and not graph.is_module_squashed(name)
        )
        runtime = grimp.build_graph(*roots, exclude_type_checking_imports=True, cache_dir=None)
        return super().check(runtime, verbose)
