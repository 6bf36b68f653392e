"""`python -m stenobird` is the `stenobird` command."""

from stenobird.cli import main

if __name__ == "__main__":
    main(prog_name="stenobird")
