"""How the fixture model was made: its language, its voices, its training, its clips. See README.md."""
