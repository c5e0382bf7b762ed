# The commands of the project; `make help` lists them. The work is done by tests/checks and tests/lab.

PYTHON ?= /usr/bin/python3
CHECKS = PYTHONPATH=tests $(PYTHON) -m checks

.DEFAULT_GOAL := help
.PHONY: help test test-storage checks list format docs pins tree lab demo bench clean

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

test: ## Run all checks and tests; ONLY=units,lab picks some by the beginnings of their names, LONG=1 has all of the lab
	@LONG="$(LONG)" $(CHECKS) run --only "$(ONLY)"

checks: ## Run all that needs no virtual machine
	@$(CHECKS) run --without lab

list: ## List the names of the checks
	@$(CHECKS) list

format: ## Bring the Python sources into the project's format
	@$(CHECKS) format

docs: ## Write the pages of error codes again, from the catalogue and its Chinese texts
	@$(CHECKS) docs

pins: ## Renew the exact versions in tests/checks/requirements
	@$(CHECKS) pins

tree: ## Copy the collection to where Ansible looks for it; prints ANSIBLE_COLLECTIONS_PATH
	@$(CHECKS) tree

lab: ## Work with the lab's hosts and guests, for example: make lab ARGS="--help"
	@tests/lab/lab $(ARGS)

test-storage: ## Run all tests of storage, also those that only show the same of other storage
	@LONG=1 $(CHECKS) run --only lab-storage

demo: ## Show the main job on a real host and a real virtual machine
	@tests/demo/run

bench: ## Measure the collection beside other ways, for example: make bench ARGS="--vms 10,25,50"
	@tests/bench/run $(ARGS)

clean: ## Remove everything that was made outside the sources
	@$(CHECKS) clean
