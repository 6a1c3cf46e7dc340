"""`python -m rain` is the same as `rain`."""

from rain.cli import main

if __name__ == "__main__":
    main()
