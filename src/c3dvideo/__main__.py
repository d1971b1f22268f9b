"""`python -m c3dvideo` is the command `c3dvideo`, for environments whose scripts are not on the path."""

from c3dvideo.cli import main

if __name__ == "__main__":
    main()
