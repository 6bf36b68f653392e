"""Stenobird: URL in, events out. Finds the audio behind a link and streams its transcript."""

__version__ = "0.1.0"
