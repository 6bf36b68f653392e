"""Hints that something was committed: inside one process, or between several."""
