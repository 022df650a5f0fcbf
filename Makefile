# SPDX-License-Identifier: GPL-3.0-or-later
# "make help" lists what can be done here.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .work/venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.work/collections
# What Ansible keeps belongs to .work, but for its sockets: their paths may have 100 bytes at most.
export ANSIBLE_HOME := $(CURDIR)/.work/ansible
export ANSIBLE_SSH_CONTROL_PATH_DIR := $(HOME)/.ansible/cp
export PYTHONDONTWRITEBYTECODE := 1

# What finds a typo in seconds, and what takes minutes but needs no container.
FORM := test-format test-types test-yamllint test-changelog test-docs
QUICK := test-unit test-lint test-importer test-sanity

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-24s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: venv ## build a test network, install the gateway in it and prove it
	@tools/demo

.PHONY: test
test: ## run every gate and every test of Debian 13; two gateways and the rest stand side by side
	@tools/gates $(FORM) + images venv-ldap -- test-molecule-runs + test-molecule-default + $(QUICK)

.PHONY: test-quick
test-quick: ## run every gate that needs no container
	@tools/gates $(FORM) $(QUICK)

.PHONY: docs
docs: stage ## write the reference and the page of promises from what they are made of
	@python tools/reference.py
	@python tools/promises.py

.PHONY: clean
clean: ## take away all that the project made on this machine (packages stay)
	@if [ -x tools/beside ]; then tools/beside remove; fi
	@if [ -x tools/testnet ]; then tools/testnet clean; fi
	@rm -rf .work changelogs/.plugin-cache.yaml

.PHONY: venv
venv: ## make .work/venv with the tools of requirements-dev.txt
	@tools/venv

.PHONY: venv-ldap
venv-ldap: venv
	@tools/venv ldap

.PHONY: stage
stage: venv
	@tools/stage >/dev/null

.PHONY: format
format: venv ## write the form of every Python file anew
	@ruff format --quiet .

.PHONY: test-format
test-format: venv ## the form of Python files
	@ruff format --quiet --diff .

.PHONY: test-types
test-types: stage ## the types of plugins
	@mypy --no-error-summary

.PHONY: test-unit
test-unit: stage ## unit tests
	@pytest -q --tb=short --numprocesses=4 tests/unit

.PHONY: images
images: ## make the images of the test network, where they are missing
	@tools/testnet setup
	@tools/testnet images

.PHONY: gateway
gateway: stage ## have a gateway stand in the test network; one that stands is used as it is
	@tools/gateway

.PHONY: test-playbooks
test-playbooks: venv-ldap gateway ## runs of the playbook against a gateway: bad input, interruption, repair
	@pytest -q tests/playbooks

.PHONY: bench
bench: gateway ## relay_recipients beside copy and postmap, on a gateway
	@python3 tools/bench/recipients.py

.PHONY: bench-flood
bench-flood: gateway ## clean mail under a flood of unwanted clients, beside the configuration of origin
	@python3 tools/bench/flood.py

.PHONY: bench-verdict
bench-verdict: gateway ## ham and spam of a public corpus that are refused, by the rules alone and with Bayes
	@python3 tools/bench/verdict.py

.PHONY: bench-more
bench-more: gateway ## what the checks of docs/more-to-look-with.md cost, and what they do to wanted mail
	@python3 tools/bench/more.py

.PHONY: bench-trace
bench-trace: venv ## gateway-trace on a day of 100,000 messages, beside grep and journalctl
	@tools/packages systemd-journal-remote
	@python3 tools/bench/trace.py

.PHONY: test-mutations
test-mutations: gateway ## break promises by hand, one after the other: a test has to notice each
	@python3 tools/mutations.py

.PHONY: test-ansible-core
test-ansible-core: gateway ## a run and the unit tests with each ansible-core of tools/ansible-core.txt, or with VERSION=
	@tools/ansible_core $(VERSION)

.PHONY: test-rows
test-rows: stage ## list the promises, each with the tests that hold it
	@pytest tests/gateway tests/playbooks --collect-only -q --rows | grep -P '^[SDT][0-9]+\t'

.PHONY: test-yamllint
test-yamllint: venv ## yamllint on every YAML file
	@yamllint --strict --format parsable .

.PHONY: test-changelog
test-changelog: venv ## changelog fragments and CHANGELOG.md
	@tools/changelog

.PHONY: test-docs
test-docs: venv ## antsibull-docs on roles and modules
	@antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self .

.PHONY: test-lint
test-lint: stage ## ansible-lint, profile production
	@ansible-lint -q --nocolor

.PHONY: test-importer
test-importer: venv ## build the archive and check it as Ansible Galaxy does
	@tools/importer

.PHONY: test-sanity
test-sanity: venv ## ansible-test sanity
	@tools/sanity

.PHONY: test-molecule
test-molecule: ## every Molecule scenario
	@tools/gates test-molecule-runs + test-molecule-default -- test-molecule-debian12

.PHONY: test-molecule-default
test-molecule-default: stage venv-ldap ## Molecule scenario default: what a gateway does, on Debian 13
	@MOLECULE_GLOB='molecule/*/molecule.yml' molecule test -s default

# In a network of its own, so that it runs beside the scenario default.
.PHONY: test-molecule-runs
test-molecule-runs: stage ## Molecule scenario runs: what runs of the playbook do, on Debian 13
	@MOLECULE_GLOB='molecule/*/molecule.yml' tools/beside molecule test -s runs

.PHONY: test-molecule-debian12
test-molecule-debian12: stage ## Molecule scenario debian12: what a gateway does, on Debian 12
	@MOLECULE_GLOB='molecule/*/molecule.yml' molecule test -s debian12
