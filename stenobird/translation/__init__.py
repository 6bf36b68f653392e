"""Text to text in another language: an NLLB or M2M-100 model on CTranslate2, in a child process."""

from stenobird.translation.translator import (
    HostTranslator,
    TranslationSettings,
    open_configured_translator,
    open_translator,
)

__all__ = ["HostTranslator", "TranslationSettings", "open_configured_translator", "open_translator"]
