# Two commands for a stranger: `make quickstart` and `make test`. README.md says what they do and how long they take.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: quickstart test lint interop cluster control-plane bench clean help

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

quickstart: ## Build longshore, install it into .venv, run examples/quickstart/train.py
	scripts/prerequisites quickstart
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet .
	$(VENV)/bin/python examples/quickstart/train.py

test: ## Install what the tests need (with apt where that is allowed) and run them all
	scripts/prerequisites test
	scripts/test

lint: ## Formatting, lints and types of the Rust and Python code
	scripts/lint

interop: ## Try images, registry and orchestrators with the clients, servers and SDKs of others (needs Go)
	scripts/prerequisites interop
	scripts/interop
	scripts/services

cluster: ## Run the quickstart on the Kubernetes cluster that KUBECONFIG names, if there is one
	tests/cluster/run

control-plane: ## Build a Kubernetes control plane (needs Go and root), and try runs on it with a node that runs their pods
	tests/cluster/control-plane

bench: ## Measure against other builders; see benches/README.md
	benches/main_job/run

clean: ## Remove what was built here (images and runs in the data folder stay)
	rm -rf target $(VENV) dist
