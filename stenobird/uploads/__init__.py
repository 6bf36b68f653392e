"""Media that clients send as bytes: slots, their bytes in the blob store, and how jobs read them."""
