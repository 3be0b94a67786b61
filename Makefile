# The front door; the work is in scripts/ and CMakePresets.json.
.PHONY: help run test build lint format fresh matrix soak clean
help:   ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
run:    ## install what is missing, build, start Postgres, server and demo (ARGS=--help)
	@scripts/run.sh $(ARGS)
test:   ## install what is missing, build, run every test
	@scripts/test.sh
build:  ## the everyday build in build/dev
	@cmake --preset dev && cmake --build --preset dev
lint:   ## layers, banned functions, format, clang-tidy, cppcheck, shellcheck
	@scripts/lint.sh
format: ## clang-format every C file in place
	@scripts/format.sh
fresh:  ## make test and make run on a just-installed Debian 12, root and user
	@scripts/fresh.sh
matrix: ## the suite with real clients against Postgres 14 to 18
	@scripts/matrix.sh
soak:   ## the randomised oracle for thousands of rounds, every fault, a huge transaction
	@scripts/soak.sh
clean:  ## remove everything built
	@rm -rf build
