"""`spacex train-classifier` as a file, for `ray job submit` and `python jobs/train_classifier.py`."""

from spacex.commands.app import main
from spacex.commands.train_classifier import app

if __name__ == "__main__":
    main(app)
