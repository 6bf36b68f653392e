"""Reads podcast feeds and directories, and chooses the episode that was meant."""
