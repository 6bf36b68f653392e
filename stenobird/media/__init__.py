"""Fetches the bytes behind a link, and decodes them to 16 kHz mono PCM in a confined child process."""
