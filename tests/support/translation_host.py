"""A translation host that follows commands in the texts, for tests of the code around the host.

It spells as the model of `translation_model` does, and a text that `misbehaviour.obey` understands makes its
window misbehave.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from stenobird.inference.child import join_parent
from stenobird.translation.host_child import serve
from tests.support.misbehaviour import obey
from tests.support.translation_model import spell

if TYPE_CHECKING:
    from collections.abc import Sequence

FAKE_TRANSLATION_HOST = (sys.executable, "-I", "-m", "tests.support.translation_host")


class ObedientEngine:
    """Answers windows as their texts say."""

    def translate(self, texts: Sequence[str], _source: str, _target: str) -> list[str | None]:
        """Obey each text, then spell it."""
        for text in texts:
            obey(text.split())
        return [spell(text) for text in texts]


def main(arguments: Sequence[str]) -> None:
    """Run as `stenobird.translation.host_child` runs."""
    channel = join_parent(arguments)
    if channel.receive() is not None:
        info = {"model": "fake", "device": "cpu", "compute_type": "int8", "languages": ("en", "fr", "he")}
        serve(channel, ObedientEngine().translate, info)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
