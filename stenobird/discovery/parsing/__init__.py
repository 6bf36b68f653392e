"""Parses documents in a confined child process, and holds what parsing returns."""
