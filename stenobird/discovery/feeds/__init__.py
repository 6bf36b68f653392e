"""Reads podcast feeds and directories, and picks the episode that is meant."""
