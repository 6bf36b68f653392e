"""Parses documents in a confined child process, and defines the facts that parsing returns."""
