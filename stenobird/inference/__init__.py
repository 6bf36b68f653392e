"""What every child process that runs a model shares: frames, the process, its pool, the way to the hub."""
