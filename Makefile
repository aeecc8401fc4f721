# etcd in C. `make` builds ./etcd and ./etcdctl; `make test` tests them.
#
#   make [SAN=address|undefined|address,undefined|thread] [DEBUG=1] [TLS=0]
#   make test | static | bench | timing | fuzz | lint | dist | install | clean
#
# Needs a C11 compiler, make and sh. No library but libc and POSIX threads.

VERSION := $(shell sed -n 's/^.define ETCD_VERSION "\(.*\)"/\1/p' config.h)
CC ?= cc
PREFIX ?= /usr/local
DESTDIR ?=
SAN ?=
TLS ?= 1

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wvla
# Files past 2 GB and times past 2038 where a long has 32 bits.
WIDE := $(if $(findstring __LP64__,$(shell $(CC) -dM -E - </dev/null)),,\
	-D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64)
CFLAGS ?= $(if $(DEBUG),-O0 -g3,-O2 -g)
# Nothing unwinds the stack but debuggers and sanitizers: the former read -g's
# own tables, so a fifth of the program can be left out.
SMALL := $(if $(SAN),,-ffunction-sections -fdata-sections \
	-fno-asynchronous-unwind-tables -fno-unwind-tables)
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE $(WIDE) -pthread $(WARN) $(SMALL) $(CFLAGS) \
	$(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer -O1)
ALL_LDFLAGS := -pthread $(if $(SAN),,-Wl,--gc-sections) $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN))

# One folder of objects per compiler and sanitizer, so that they never mix.
comma := ,
BUILD := build/$(notdir $(firstword $(CC)))$(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(DEBUG),-debug)$(if $(STATIC),-static)$(if $(filter 0,$(TLS)),-notls)

# TLS=0 leaves TLS out: nothing refers to it then, so it is not linked.
# What a server that idles does not need comes last, so that it touches fewer pages.
ALL_SRC := $(filter-out etcd.c $(if $(filter 0,$(TLS)),secure.c,nosecure.c),$(wildcard *.c))
TLS_SRC := $(filter aead% bignum% bolt% crl% crypto% curve% der% dns% ec% hash% jwt% pem% pk% rsa% secure% tls% x509% yaml%,$(ALL_SRC))
CTL_SRC := $(filter ctl% etcdctl% etcdutl%,$(ALL_SRC))
SRC := $(filter-out $(TLS_SRC) $(CTL_SRC),$(ALL_SRC)) $(TLS_SRC) $(CTL_SRC)
OBJ := $(SRC:%.c=$(BUILD)/%.o)
LIB := $(BUILD)/libetcd.a
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/*_test.c)) \
	$(addprefix $(BUILD)/tests/,freeport benchtool loadtool \
		chaos/client chaos/judge chaos/wire chaos/faults.so)

.DELETE_ON_ERROR:
# Objects are kept, even those that only pattern rules name.
.PRECIOUS: $(BUILD)/%.o $(BUILD)/tests/%.o build/fuzz/obj/%.o
.PHONY: FORCE all test tests static bench timing fuzzers fuzz lint dist install clean

all: etcd etcdctl etcdutl

# The program under all its names: what it is called decides what it is.
# Compared by content, not by age: builds of several kinds take turns here.
etcd: $(BUILD)/etcd FORCE
	@cmp -s $< $@ || { cp -f $< $@.new && mv -f $@.new $@; }
etcdctl etcdutl: etcd
	@ln -f etcd $@

$(BUILD)/etcd: $(BUILD)/etcd.o $(LIB)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDFLAGS)

$(LIB): $(OBJ)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%.o: tests/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(LIB)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(LINK) $(ALL_LDFLAGS)

# For LD_PRELOAD, into any build of etcd: without sanitizers.
$(BUILD)/tests/chaos/faults.so: tests/chaos/faults.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -shared -fPIC -o $@ $< -ldl

# Tests of several files: their other objects, and linker options of their own.
include tests/link.mk

tests: $(TESTS)

test: all tests
	@BUILD=$(BUILD) SAN=$(SAN) sh tests/run.sh

# Short targets of everything that parses bytes, with seeds in tests/fuzz.
FUZZ := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_SECONDS ?= 20
FUZZ_CC ?= clang
FUZZ_FLAGS := -std=c11 -D_GNU_SOURCE -pthread -O1 -g -fno-sanitize-recover=all
FUZZ_OBJ := $(SRC:%.c=build/fuzz/obj/%.o)
FUZZ_LIB := build/fuzz/libetcd.a
COVER := fuzzer-no-link,

# No branch depends on what they are given: nothing to learn there.
build/fuzz/obj/hash.o build/fuzz/obj/aead%.o build/fuzz/obj/bignum.o build/fuzz/obj/curve25519.o: private COVER :=

build/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=$(COVER)address,undefined -MMD -MP -c -o $@ $<

$(FUZZ_LIB): $(FUZZ_OBJ)
	@rm -f $@
	@ar rcs $@ $^

build/fuzz/%_fuzz: tests/fuzz/%_fuzz.c $(FUZZ_LIB)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -I. -o $@ $^ $(LINK)

# Without the cost of public keys.
CHEAP := $(patsubst %,build/fuzz/%_fuzz,x509 tlsclient tlsmsg tlsrecord tlsserver)
$(CHEAP): tests/fuzz/cheap.c
$(CHEAP): private LINK := @tests/fuzz/cheap.wrap

fuzzers: $(FUZZ)

fuzz: fuzzers
	@FUZZ_SECONDS=$(FUZZ_SECONDS) sh scripts/fuzz.sh $(FUZZ)

# Does time tell secrets? Takes a minute or two of a processor; see tests/timing.c.
$(BUILD)/tests/timing: private LINK := -lm
timing: $(BUILD)/tests/timing
	@$<

bench: all tests
	@sh scripts/bench.sh

# What is checked beyond compiler warnings; see the head of the script.
lint:
	@sh scripts/lint.sh

# Fully static: with musl where its compiler is installed, else with glibc.
STATIC_CC ?= $(shell command -v musl-gcc || echo $(CC))
static:
	@$(MAKE) --no-print-directory CC="$(STATIC_CC)" STATIC=1 \
		CFLAGS="-Os $(STATIC_CFLAGS)" LDFLAGS="-static -s" all

ARCH ?= $(shell uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/; s/armv.*/arm/')
DIST := etcd-$(VERSION)-linux-$(ARCH)
dist: static
	@rm -rf dist/$(DIST) && mkdir -p dist/$(DIST)
	cp -a README.md CHANGELOG.md LICENSE man scripts/init dist/$(DIST)/
	cp -f etcd dist/$(DIST)/etcd && ln -f dist/$(DIST)/etcd dist/$(DIST)/etcdctl && ln -f dist/$(DIST)/etcd dist/$(DIST)/etcdutl
	tar -C dist -czf dist/$(DIST).tar.gz $(DIST)
	@ls -l dist/$(DIST).tar.gz

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 etcd $(DESTDIR)$(PREFIX)/bin/etcd
	ln -f $(DESTDIR)$(PREFIX)/bin/etcd $(DESTDIR)$(PREFIX)/bin/etcdctl
	ln -f $(DESTDIR)$(PREFIX)/bin/etcd $(DESTDIR)$(PREFIX)/bin/etcdutl
	install -m 644 man/etcdctl.1 man/etcdutl.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 man/etcd.8 $(DESTDIR)$(PREFIX)/share/man/man8/

clean:
	rm -rf build dist etcd etcdctl etcdutl

-include $(wildcard $(BUILD)/*.d $(BUILD)/tests/*.d $(BUILD)/tests/chaos/*.d build/fuzz/obj/*.d)
