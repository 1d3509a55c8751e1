"""`spacex evaluate` as a file, for `ray job submit` and `python jobs/evaluate.py`."""

from spacex.commands.app import main
from spacex.commands.evaluate import app

if __name__ == "__main__":
    main(app)
