PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help run test lab bench docs gallery picture lint lock clean
help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 10

run: .venv/users  ## make the environment and run the main job into runs/atlas
	$(BIN)/skynb run atlas --out runs/atlas

test: .venv/developers  ## make the environment, lint, and pass every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest -n 2 --dist worksteal --junitxml=runs/junit.xml

lab: .venv/users  ## open the notebooks in JupyterLab
	$(BIN)/skynb lab

bench: .venv/developers  ## speed and accuracy side by side with peers
	$(BIN)/python -m benchmarks

docs: .venv/developers  ## the reference of all functions, from their docstrings, in runs/docs
	PDOC_ALLOW_EXEC=1 $(BIN)/pdoc --docformat numpy --template-directory docs --output-directory \
		runs/docs skynb

gallery: .venv/developers  ## run every notebook on one core and write what it costs into README
	$(BIN)/python docs/gallery.py

picture: run .venv/developers  ## make the pictures in docs/: the main job's and the explorers'
	SKYNB_SCREENSHOTS=runs/screenshots $(BIN)/pytest -q tests/browser \
		-k "(explorer or explanation or label or map) and not report and not lesson"
	$(BIN)/python docs/picture.py

lint: .venv/developers  ## mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/developers  ## pin every version anew, for every platform
	$(BIN)/uv pip compile $(UV) --extra networks pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(UV) --extra networks --extra dev -c requirements.lock pyproject.toml \
		-o requirements-dev.lock
UV := --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url \
	--custom-compile-command "make lock"

clean:  ## remove the environment and everything made (the data cache: skynb data clear)
	rm -rf .venv runs dist .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/users: requirements.lock pyproject.toml
	@echo "Making the environment in .venv: about 800 MB to download, some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@touch $@

.venv/developers: .venv/users requirements-dev.lock
	$(BIN)/pip install --quiet -r requirements-dev.lock
	@touch $@
