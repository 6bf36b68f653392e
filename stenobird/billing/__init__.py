"""Paying: Checkout, keys that are shown once, meter events, and what Stripe says of an account."""
