/* CRC-32C: published vectors, continuation, and the table against the instruction. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.c" // NOLINT(bugprone-suspicious-include)

static void published_vectors_come_out(void **state)
{
    unsigned char bytes[32];

    (void)state;
    assert_int_equal(crc32c(0, "", 0), 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, 32), 0x8A9136AAu);
    memset(bytes, 0xFF, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, 32), 0x62A8AB43u);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46DD794Eu);
}

static void pieces_continue_to_the_same_sum(void **state)
{
    unsigned char bytes[100];
    uint32_t whole;

    (void)state;
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 37 + 11);
    whole = crc32c(0, bytes, sizeof(bytes));
    for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
        uint32_t crc = crc32c(0, bytes, cut);

        assert_int_equal(crc32c(crc, bytes + cut, sizeof(bytes) - cut), whole);
    }
}

static void the_table_agrees_with_the_instruction(void **state)
{
    unsigned char bytes[256];

    (void)state;
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 151 + 7);
    for (size_t start = 0; start < 9; start++) {
        for (size_t n = 0; n + start <= sizeof(bytes); n++)
            assert_int_equal(update(0x12345678u, bytes + start, n),
                             update_table(0x12345678u, bytes + start, n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_come_out),
        cmocka_unit_test(pieces_continue_to_the_same_sum),
        cmocka_unit_test(the_table_agrees_with_the_instruction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
