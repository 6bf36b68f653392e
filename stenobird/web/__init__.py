"""HTTP, and nothing else: requests in, the services' answers out, errors rendered in one place."""
