"""A translation host that follows commands in the texts, for tests of the code around the host.

It spells as the model of `translation_model` does, and a text that `misbehaviour.obey` understands makes its
window misbehave.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from stenobird.inference.child import join_parent
from stenobird.ports import Translation
from stenobird.translation.host_child import serve
from stenobird.translation.protocol import TranslatorInfo
from tests.support.misbehaviour import obey
from tests.support.translation_model import spell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.translation.protocol import TranslationRequest

FAKE_TRANSLATION_HOST = (sys.executable, "-I", "-m", "tests.support.translation_host")


class ObedientEngine:
    """Answers windows as their texts say."""

    def translate(self, request: TranslationRequest) -> list[Translation]:
        """Obey each text, then spell it."""
        for text in request.texts:
            obey(text.split())
        return [Translation(spell(text)) for text in request.texts]


def main(arguments: Sequence[str]) -> None:
    """Run as `stenobird.translation.host_child` runs."""
    channel = join_parent(arguments)
    if channel.receive() is not None:
        serve(
            channel, ObedientEngine().translate, TranslatorInfo("fake", "cpu", "int8", 1, ("en", "fr", "he"))
        )
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
