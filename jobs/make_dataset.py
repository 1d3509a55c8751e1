"""`spacex make-dataset` as a file, for `ray job submit` and `python jobs/make_dataset.py`."""

from spacex.commands.app import main
from spacex.commands.make_dataset import app

if __name__ == "__main__":
    main(app)
