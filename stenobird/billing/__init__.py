"""Billing: Checkout, keys that are shown once, meter events, and account state from Stripe."""
