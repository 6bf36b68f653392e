"""A transcript's life: its events, its service towards HTTP, and the worker that carries it out."""
