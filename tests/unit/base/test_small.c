/* The small ones: lists, clocks, assertions. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"

struct item {
    int number;
    struct list link;
};

static void lists_keep_order_and_let_go_anywhere(void **state)
{
    struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct list head;
    int seen = 0;

    (void)state;
    list_init(&head);
    assert_true(list_empty(&head));
    for (size_t i = 0; i < 4; i++)
        list_push(&head, &items[i].link);
    list_remove(&items[1].link);
    assert_true(list_empty(&items[1].link));
    list_remove(&items[1].link); /* a link in no list may be removed again */
    for (struct list *l = head.next; l != &head; l = l->next)
        seen = seen * 10 + LIST_ENTRY(l, struct item, link)->number;
    assert_int_equal(seen, 23); /* 0, 2, 3 */
    list_remove(&items[0].link);
    list_remove(&items[3].link);
    list_remove(&items[2].link);
    assert_true(list_empty(&head));
}

static void clocks_go_forward_and_agree_on_units(void **state)
{
    int64_t us = clock_mono_us();
    int64_t ms = clock_mono_ms();

    (void)state;
    assert_true(ms - us / 1000 >= 0 && ms - us / 1000 < 10000);
    assert_true(clock_mono_us() >= us);
    assert_true(clock_wall_us() > (int64_t)1700000000 * 1000000);
}

static void sleeping_takes_at_least_the_time(void **state)
{
    int64_t before = clock_mono_us();

    (void)state;
    clock_sleep_ms(0);
    clock_sleep_ms(-5);
    clock_sleep_ms(20);
    assert_true(clock_mono_us() - before >= 20000);
}

/* Runs in a child: says on fd 2 what failed, then aborts. */
static void die_of_an_assertion(int fd)
{
    dup2(fd, STDERR_FILENO);
    signal(SIGABRT, SIG_DFL); /* cmocka catches it */
    ASSERT(fd == -12345);
    _exit(0);
}

static void a_false_assertion_aborts_with_its_place(void **state)
{
    char text[600] = "";
    size_t len = 0;
    int status = 0;
    int fds[2];
    ssize_t n;
    pid_t child;

    (void)state;
    ASSERT(state != NULL || state == NULL);
    assert_int_equal(pipe(fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        die_of_an_assertion(fds[1]);
    close(fds[1]);
    while (len < sizeof(text) - 1 &&
           (n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0)
        len += (size_t)n;
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "test_small.c:"));
    assert_non_null(strstr(text, "assertion failed: fd == -12345\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_keep_order_and_let_go_anywhere),
        cmocka_unit_test(clocks_go_forward_and_agree_on_units),
        cmocka_unit_test(sleeping_takes_at_least_the_time),
        cmocka_unit_test(a_false_assertion_aborts_with_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
