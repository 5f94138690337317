# Two commands do all the set-up: `make demo` and `make test`. Everything else is `cargo xtask`.

CARGO ?= cargo

.PHONY: demo test

## The main job: real worker processes exchange messages over a bus that cleans up after itself.
demo:
	$(CARGO) run --quiet --package ipcm -- demo $(DEMO)

## Install what the tests need, then check and test everything.
test:
	tools/install-test-needs
	tools/run-tests
