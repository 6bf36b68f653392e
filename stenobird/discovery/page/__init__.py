"""Reads pages: candidates for the audio, their scores, and what is said about the episode."""
