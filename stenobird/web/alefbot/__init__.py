"""The AlefBot dialect, at `{STENOBIRD_API_PREFIX}/api/v1`: uploads in, artifacts out, nested errors."""
