"""`spacex import-checkpoint` as a file, for `ray job submit` and `python jobs/import_checkpoint.py`."""

from spacex.commands.app import main
from spacex.commands.import_checkpoint import app

if __name__ == "__main__":
    main(app)
