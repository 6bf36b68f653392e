"""Text to text in another language: an NLLB or M2M-100 model on CTranslate2, in a child process."""

from stenobird.translation.protocol import TranslationSettings
from stenobird.translation.translator import HostTranslator, open_configured_translator, open_translator

__all__ = ["HostTranslator", "TranslationSettings", "open_configured_translator", "open_translator"]
