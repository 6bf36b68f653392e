"""Reads pages: candidates for the audio, their scores, and facts about the episode."""
