"""`/v1`: links in, events out, errors in flat bodies."""
