/* Mailboxes: order, limits, closing, the descriptor, several senders. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>

#include "base/err.h"
#include "base/mailbox.h"

static bool readable(const struct mailbox *m)
{
    struct pollfd p = {.fd = m->fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void mail_comes_out_in_order_and_clears_the_descriptor(void **state)
{
    struct mail mails[3] = {{.kind = 10}, {.kind = 11}, {.kind = 12}};
    struct mailbox m;
    struct mail *got;

    (void)state;
    assert_int_equal(mailbox_init(&m, 10), 0);
    assert_null(mailbox_take(&m));
    assert_false(readable(&m));
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(mailbox_send(&m, &mails[i], false), 0);
        assert_true(readable(&m));
        got = mailbox_take(&m);
        assert_false(readable(&m));
        for (int i = 0; i < 3; i++, got = got->next)
            assert_int_equal(got->kind, 10 + i);
        assert_null(got);
        assert_null(mailbox_take(&m));
    }
    mailbox_fini(&m);
}

static void a_full_box_refuses_all_but_urgent_mail(void **state)
{
    struct mail mails[4] = {{.kind = 0}, {.kind = 1}, {.kind = 2}, {.kind = 3}};
    struct mailbox m;
    const struct mail *got;

    (void)state;
    assert_int_equal(mailbox_init(&m, 2), 0);
    assert_int_equal(mailbox_send(&m, &mails[0], false), 0);
    assert_int_equal(mailbox_send(&m, &mails[1], false), 0);
    assert_int_equal(mailbox_send(&m, &mails[2], false), ERR_LIMIT);
    assert_int_equal(mailbox_send(&m, &mails[3], true), 0);
    got = mailbox_take(&m);
    assert_ptr_equal(got, &mails[0]);
    assert_ptr_equal(got->next->next, &mails[3]);
    assert_null(got->next->next->next);
    assert_int_equal(mailbox_send(&m, &mails[2], false), 0);
    assert_ptr_equal(mailbox_take(&m), &mails[2]);
    mailbox_fini(&m);
}

static void a_closed_box_gives_what_it_holds_and_takes_nothing(void **state)
{
    struct mail before = {.kind = 1};
    struct mail after = {.kind = 2};
    struct mailbox m;

    (void)state;
    assert_int_equal(mailbox_init(&m, 2), 0);
    assert_int_equal(mailbox_send(&m, &before, false), 0);
    mailbox_close(&m);
    mailbox_close(&m);
    assert_int_equal(mailbox_send(&m, &after, false), ERR_CANCELLED);
    assert_int_equal(mailbox_send(&m, &after, true), ERR_CANCELLED);
    assert_true(readable(&m));
    assert_ptr_equal(mailbox_take(&m), &before);
    assert_null(mailbox_take(&m));
    mailbox_fini(&m);
}

#define SENDERS    4
#define PER_SENDER 5000
#define BOX_LIMIT  64

struct letter {
    struct mail mail; /* first: the receiver casts back */
    int sender;
    int number;
};

struct sender {
    pthread_t thread;
    struct mailbox *box;
    struct letter *letters;
    int refused;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;

    for (int i = 0; i < PER_SENDER; i++) {
        /* Every 16th is urgent and passes the limit; the others try again. */
        while (mailbox_send(s->box, &s->letters[i].mail, i % 16 == 0) == ERR_LIMIT) {
            s->refused++;
            sched_yield();
        }
    }
    return NULL;
}

/* Waits on the descriptor alone: a wake-up that got lost would hang it (and time out). */
static void receive_all(struct mailbox *m, int next_number[SENDERS])
{
    int received = 0;

    while (received < SENDERS * PER_SENDER) {
        struct pollfd p = {.fd = m->fd, .events = POLLIN};

        assert_int_equal(poll(&p, 1, 60000), 1);
        for (struct mail *mail = mailbox_take(m); mail; received++) {
            struct letter *letter = (struct letter *)(void *)mail;

            mail = mail->next;
            assert_int_equal(letter->number, next_number[letter->sender]);
            next_number[letter->sender]++;
        }
    }
}

static void several_senders_lose_nothing_and_keep_their_order(void **state)
{
    struct sender senders[SENDERS];
    int next_number[SENDERS] = {0};
    struct mailbox m;

    (void)state;
    assert_int_equal(mailbox_init(&m, BOX_LIMIT), 0);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.box = &m};
        senders[i].letters = calloc(PER_SENDER, sizeof(struct letter));
        assert_non_null(senders[i].letters);
        for (int j = 0; j < PER_SENDER; j++) {
            senders[i].letters[j].sender = i;
            senders[i].letters[j].number = j;
        }
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]),
                         0);
    }
    receive_all(&m, next_number);
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
        assert_int_equal(next_number[i], PER_SENDER);
        free(senders[i].letters);
    }
    assert_null(mailbox_take(&m));
    assert_false(readable(&m));
    mailbox_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_comes_out_in_order_and_clears_the_descriptor),
        cmocka_unit_test(a_full_box_refuses_all_but_urgent_mail),
        cmocka_unit_test(a_closed_box_gives_what_it_holds_and_takes_nothing),
        cmocka_unit_test(several_senders_lose_nothing_and_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
