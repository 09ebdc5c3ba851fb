# Commands for a newcomer: `make demo`, `make test` and `make bench`. Each installs what is missing and says so.

.PHONY: demo test bench

demo: export KEEP := $(KEEP)
demo:
	@scripts/prepare
	@scripts/demo

test:
	@scripts/prepare test
	@scripts/cargo xtask check

# Measures the data path beside its peers, in RAM; `make bench ARGS='--size-gib 0.25 --rounds 1'` for a quick look.
bench:
	@scripts/prepare bench
	@scripts/cargo run --release --quiet -p bench -- run $(ARGS)
