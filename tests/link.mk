# What some tests are linked with beside their own object and the library:
#
#   $(BUILD)/tests/NAME: $(BUILD)/tests/OTHER.o
#   $(BUILD)/tests/NAME: private LINK := @tests/OTHER.wrap
#
# A .wrap file holds a -Wl,--wrap=SYMBOL for each symbol that OTHER replaces.

$(BUILD)/tests/simdisk_test: $(BUILD)/tests/simdisk.o
$(BUILD)/tests/simdisk_test: private LINK := @tests/simdisk.wrap

$(BUILD)/tests/crash_test: $(BUILD)/tests/simdisk.o $(BUILD)/tests/diskscript.o $(BUILD)/tests/diskv3.o
$(BUILD)/tests/crash_test: private LINK := @tests/diskscript.wrap

$(BUILD)/tests/linear_test: $(BUILD)/tests/linear.o
$(BUILD)/tests/chaos/judge: $(BUILD)/tests/linear.o

$(BUILD)/tests/sim_test: $(patsubst %,$(BUILD)/tests/%.o,simos simdisk simnet simhost simcheck simclient simfault simtwin simv3check simv3client simv3watch linear)
$(BUILD)/tests/sim_test: private LINK := @tests/simos.wrap @tests/simdisk.wrap @tests/simcheck.wrap

$(BUILD)/tests/walkill_test: $(BUILD)/tests/simdisk.o $(BUILD)/tests/diskscript.o $(BUILD)/tests/diskv3.o
$(BUILD)/tests/walkill_test: private LINK := @tests/diskscript.wrap

$(BUILD)/tests/damage_test: $(BUILD)/tests/simdisk.o $(BUILD)/tests/diskscript.o $(BUILD)/tests/diskv3.o
$(BUILD)/tests/damage_test: private LINK := @tests/diskscript.wrap

$(BUILD)/tests/diskfail_test: $(BUILD)/tests/simdisk.o $(BUILD)/tests/diskscript.o $(BUILD)/tests/diskv3.o
$(BUILD)/tests/diskfail_test: private LINK := @tests/diskscript.wrap

$(BUILD)/tests/bootresume_test: $(BUILD)/tests/simdisk.o $(BUILD)/tests/diskscript.o $(BUILD)/tests/diskv3.o
$(BUILD)/tests/bootresume_test: private LINK := @tests/diskscript.wrap

# Tools of shell tests.
TESTS += $(addprefix $(BUILD)/tests/,liartool hostiletool failetcd h2echo backendtool benchv3 tlstool)

# A whole etcd whose calls fail on demand.
$(BUILD)/tests/failetcd: $(BUILD)/etcd.o
$(BUILD)/tests/failetcd: private LINK := @tests/failetcd.wrap
$(BUILD)/tests/fail_test: $(BUILD)/tests/failetcd

$(BUILD)/tests/grpcserver_test: $(BUILD)/tests/fakev3.o $(BUILD)/tests/gcall.o
$(BUILD)/tests/benchv3: $(BUILD)/tests/gcall.o
$(BUILD)/tests/gateway_test: $(BUILD)/tests/fakev3.o

# The same code twice: with products of 128 bits, and without.
$(BUILD)/tests/curve25519_test: $(addprefix $(BUILD)/tests/,curve25519_narrow.o curve25519_wide.o)

# Handshakes that take their time.
$(BUILD)/tests/httpd_test: private LINK := -Wl,--wrap=secure_accept

# Whose syncs are they?
$(BUILD)/tests/roles_test: private LINK := -Wl,--wrap=fdatasync

# What becomes public passes by the test.
$(BUILD)/tests/ct_test: private LINK := @tests/ct.wrap

# Limbs of 32 bits, on any machine.
$(BUILD)/tests/bignumnarrow_test $(BUILD)/tests/ecnarrow_test $(BUILD)/tests/rsanarrow_test: $(BUILD)/tests/narrow.o
