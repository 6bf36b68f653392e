"""A translator without a model or a process, for tests of what uses one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stenobird.errors import TranslationFailed
from stenobird.ports import Translation
from tests.support.translation_model import EMPTY, spell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


@dataclass
class FakeTranslator:
    """`ports.Translator` that spells English, French and Hebrew in other letters, as the made model does.

    `asked` notes the source language and the texts of each call; `before` may wait or raise.
    """

    languages: frozenset[str] = frozenset({"en", "fr", "he"})
    max_characters: int = 100_000
    refuses: str | None = None
    before: Callable[[], Awaitable[None]] | None = None
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    @property
    def model(self) -> str:
        """Its name."""
        return "fake"

    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, job_id: str
    ) -> Sequence[Translation]:
        """Spell each text."""
        del job_id
        if sum(map(len, texts)) > self.max_characters or source not in (self.sources(target) or ()):
            raise TranslationFailed(f"{self.model} can't translate this from {source} to {target}.")
        self.asked.append((source, tuple(texts)))
        if self.before is not None:
            await self.before()
        stripped = [text.strip() for text in texts]
        return [
            Translation(text, translated=False) if EMPTY in text else Translation(spell(text))
            for text in stripped
        ]

    def sources(self, target: str) -> frozenset[str] | None:
        """Return all it knows but the target."""
        return self.languages - {target} if target in self.languages else frozenset()

    def refusal(self) -> str | None:
        """Return what the test says."""
        return self.refuses

    async def ready(self) -> bool:
        """Whether it refuses nothing."""
        return self.refuses is None

    def status(self) -> Mapping[str, Any]:
        """Describe the fake."""
        return {"model": self.model, "state": "ready"}
