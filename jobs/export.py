"""`spacex export` as a file, for `ray job submit` and `python jobs/export.py`."""

from spacex.commands.door import run
from spacex.commands.export import app

if __name__ == "__main__":
    run(app)
