"""Speech to text: windows of PCM in, segments with source times out, inference in a child process."""
