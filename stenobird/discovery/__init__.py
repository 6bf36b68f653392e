"""Finding the audio behind a URL: the ladder and its rungs."""
