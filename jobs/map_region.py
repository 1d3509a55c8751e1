"""`spacex map` as a file, for `ray job submit` and `python jobs/map_region.py`."""

from spacex.commands.app import main
from spacex.commands.map_region import app

if __name__ == "__main__":
    main(app)
