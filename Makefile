# The two promises of the README. Each sets up .venv by itself on a fresh machine.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: map test check weights clean
.DELETE_ON_ERROR:

# The embedded region: a synthetic landscape, its own STAC catalogue, the weights that ship.
map: $(STAMP)
	rm -rf out/map.zarr out/map.run
	$(RUN) jobs/map_region.py --catalogue demo --local --output out/map.zarr --quicklook out/map.png
	@echo "The cube is out/map.zarr, its picture out/map.png"

test: $(STAMP) check
	$(RUN) -m pytest

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade "pip>=24"
	@# torch first and alone: pip then takes the build that fits this machine, and nothing below may replace it
	$(RUN) -m pip install --quiet -c constraints.txt torch
	$(RUN) -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $(STAMP)
