"""`spacex export` as a file, for `ray job submit` and `python jobs/export.py`."""

from spacex.commands.app import main
from spacex.commands.export import app

if __name__ == "__main__":
    main(app)
