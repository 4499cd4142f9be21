# A thin front: every target says what it runs. The build itself is CMake's (CMakePresets.json).
# Works with GNU make 3.81 and later.

SHELL := /bin/bash
DEMO_PROMPT := It was a bright cold morning, and the old sailor
SLUICE := build/release/sluice

.PHONY: all demo check bench asan tsan clang macos fuzz check-aarch64 format format-check clean help
.NOTPARALLEL:

all:
	@tools/bootstrap.sh
	@tools/build.sh release sluice

demo: all
	@echo '$$ $(SLUICE) run -p "$(DEMO_PROMPT)" -n 64'
	@$(SLUICE) run -p "$(DEMO_PROMPT)" -n 64

check:
	@tools/bootstrap.sh --with test
	@tools/check.sh release

bench:
	@tools/bootstrap.sh --with test
	@tools/bench.sh

asan:
	@tools/bootstrap.sh --with test,sanitize
	@tools/check.sh asan

# The rooms with threads in them; the thread pool is base's.
tsan:
	@tools/bootstrap.sh --with test,sanitize
	@tools/check.sh tsan '_(base|io|cache|pool|integrity|streaming|server)(_|$$)'

clang:
	@tools/bootstrap.sh --with test,clang
	@CI=1 tools/build.sh clang

macos:
	@tools/bootstrap.sh --with test,macos
	@tests/check_macos.sh .

fuzz:
	@tools/bootstrap.sh --with test,fuzz
	@tools/fuzz.sh

check-aarch64:
	@tools/bootstrap.sh --with test,cross
	@tools/aarch64_sysroot.sh
	@SLUICE_TEST_FAST=1 tools/check.sh aarch64

format:
	@git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

format-check:
	@git ls-files -z '*.c' '*.h' | xargs -0 clang-format --dry-run -Werror

clean:
	rm -rf build

help:
	@echo 'make                build build/release/sluice (installs what is missing first)'
	@echo 'make demo           build it and let the committed demo model write 64 tokens'
	@echo 'make check          run the tests'
	@echo 'make bench          run the benches'
	@echo 'make asan           run the tests under AddressSanitizer and UBSan'
	@echo 'make tsan           run the tests of the threaded rooms under ThreadSanitizer'
	@echo 'make clang          build with clang, warnings as errors'
	@echo 'make macos          compile and link for macOS with zig, warnings as errors'
	@echo 'make fuzz           run every fuzz target for FUZZ_SECONDS (30) seconds'
	@echo 'make check-aarch64  cross-build for aarch64 Linux, run the tests under qemu'
	@echo 'make format         lay out the C files with clang-format'
	@echo 'make clean          remove build/'
