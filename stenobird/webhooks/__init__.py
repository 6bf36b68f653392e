"""Messages to addresses that clients chose: checked, signed, sent through egress."""
