"""Child processes: how the service starts and ends them, and how they confine themselves."""
