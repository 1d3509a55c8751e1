# The two promises of the README. Each sets up .venv by itself on a fresh machine.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TESTED := $(VENV)/.installed-tests

.PHONY: map test check weights europe clean
.DELETE_ON_ERROR:

# The embedded region: a synthetic landscape, its own STAC catalogue, the weights that ship.
map: $(STAMP)
	rm -rf out/map.zarr out/map.run && mkdir -p out
	$(RUN) jobs/map_region.py --catalogue demo --local --output out/map.zarr --quicklook out/map.png
	@echo "The cube is out/map.zarr, its picture out/map.png"

# two processes: one for the tests that start clusters and wait, one for the rest
test: $(TESTED) check
	$(RUN) -m pytest -n 2 --dist loadscope --no-loadscope-reorder

check: $(TESTED)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The weights that ship (spacex/synthetic/weights): two ordinary training jobs on the embedded data set, CPU only.
weights: $(STAMP)
	$(RUN) jobs/train_classifier.py --data demo --output runs/weights/classifier --base 8 --epochs 10 \
	  --set recipe.batch=8 --set recipe.rate=0.0015 --set recipe.cutmix=0.2 --set recipe.loss=bce --precision bfloat16
	$(RUN) jobs/train_gan.py --data demo --classifier runs/weights/classifier --output runs/weights/patterns \
	  --preset delta --epochs 6 --set batch=4 --set warmup=30 --set generator.base=12 --set generator.cap=48 \
	  --set generator.blocks=3 --set generator.downs=2 --set generator.stem=5 --precision float32
	rm -f spacex/synthetic/weights/*.safetensors
	cp runs/weights/patterns/card.json runs/weights/patterns/*.safetensors spacex/synthetic/weights/

# Those of real land (spacex/weights/europe): the same two jobs on EuroSAT as published, with a places.csv beside it.
PATTERNS = --data eurosat:$(DATA) --classifier runs/europe/classifier --preset delta --limit 6000 \
	  --set batch=16 --set warmup=20 --set weights.similarity=2 --set weights.edges=3 --set cells=4 --set generator.base=12 \
	  --set generator.cap=48 --set generator.blocks=3 --set generator.downs=2 --set generator.stem=5 --precision bfloat16

europe: $(STAMP)
	@test -n "$(DATA)" || { echo "make europe DATA=FOLDER: the folder of EuroSAT's zips and places.csv"; exit 2; }
	$(RUN) jobs/train_classifier.py --data eurosat:$(DATA) --bands B02,B03,B04 --output runs/europe/classifier \
	  --network spacex.models.residual:ResidualNetwork --network-args '{"bands": 3, "widths": [32, 64, 128, 192]}' \
	  --epochs 12 --set recipe.batch=64 --set recipe.rate=0.003 --set recipe.weight_decay=0.05 --set recipe.loss=bce \
	  --set recipe.cutmix=0.5 --set recipe.gains=[0.15,0.08] --set recipe.offsets=[0.0086,0.0086] --precision bfloat16
	$(RUN) jobs/train_gan.py $(PATTERNS) --output runs/europe/start \
	  --epochs 6 --set weights.activation=1.2 --set other_cost=2
	$(RUN) jobs/train_gan.py $(PATTERNS) --output runs/europe/patterns --start runs/europe/start \
	  --epochs 2 --set weights.activation=2 --set other_cost=10 --set rate=0.0005 --set generator.threshold=0.02 \
	  --set turns=0.97
	.venv/bin/spacex certify runs/europe/patterns --data eurosat:$(DATA) --planted
	rm -f spacex/weights/europe/*.safetensors
	cp runs/europe/patterns/card.json runs/europe/patterns/*.safetensors spacex/weights/europe/

clean:
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade "pip>=24"
	@# torch first and alone: pip then takes the build that fits this machine, and nothing below may replace it
	$(RUN) -m pip install --quiet -c constraints.txt torch
	$(RUN) -m pip install --quiet -c constraints.txt -e .
	touch $(STAMP)

# what only the tests need (services, mocks, linters) stays out of a machine that maps
$(TESTED): $(STAMP)
	$(RUN) -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $(TESTED)
