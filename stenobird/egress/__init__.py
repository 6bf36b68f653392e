"""All requests to addresses that a client, a page, a feed or a redirect can influence."""
