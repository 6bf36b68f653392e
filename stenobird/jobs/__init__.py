"""Transcription jobs: their events, the service that the APIs use, and the worker that runs them."""
