"""The HTTP layer: it reads requests, calls the services, and renders their results and errors."""
