"""Speech to text: windows of PCM in, segments with source times out, inference in a child process."""

from stenobird.speech.protocol import SpeechSettings
from stenobird.speech.recognizer import WhisperRecognizer, open_recognizer

__all__ = ["SpeechSettings", "WhisperRecognizer", "open_recognizer"]
