"""Speech to text: windows of PCM in, segments with source times out, inference in a child process."""

from stenobird.speech.engines import SpeechEngines, open_engines, premium_units, tier_models
from stenobird.speech.protocol import SpeechSettings
from stenobird.speech.recognizer import WhisperRecognizer, open_recognizer

__all__ = [
    "SpeechEngines",
    "SpeechSettings",
    "WhisperRecognizer",
    "open_engines",
    "open_recognizer",
    "premium_units",
    "tier_models",
]
