"""`spacex train-gan` as a file, for `ray job submit` and `python jobs/train_gan.py`."""

from spacex.commands.app import main
from spacex.commands.train_gan import app

if __name__ == "__main__":
    main(app)
