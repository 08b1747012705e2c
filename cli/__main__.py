"""``python -m cli``: what torchrun starts."""

from cli.entry import main

if __name__ == "__main__":
    main()
