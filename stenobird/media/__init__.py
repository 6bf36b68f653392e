"""Fetch and decode: the bytes behind a link, become 16 kHz mono PCM, in a child that can do no harm."""
