"""`python -m streams.cli`: the same as the console script `payment-engine`."""

from streams.cli import main

if __name__ == "__main__":
    main()
