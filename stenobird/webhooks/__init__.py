"""Webhooks: events sent to URLs that clients chose, checked, signed and sent through egress."""
