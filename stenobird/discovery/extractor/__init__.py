"""Finds audio with yt-dlp, which runs in a confined child process."""
