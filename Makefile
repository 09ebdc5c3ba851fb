# Two commands for a newcomer: `make demo` and `make test`. Both install what is missing and say so.

.PHONY: demo test

demo: export KEEP := $(KEEP)
demo:
	@scripts/prepare
	@scripts/demo

test:
	@scripts/prepare test
	@scripts/cargo xtask check
