"""Accounts and the API keys that stand for them."""
