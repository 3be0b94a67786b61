/* A bounded queue of messages from any thread to one, with a descriptor to poll.
 *
 * The sender embeds struct mail first in its message and keeps the memory alive until it
 * is taken. Urgent mail (control messages that must not be lost) may pass the limit. */
#ifndef COULOMB_BASE_MAILBOX_H
#define COULOMB_BASE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct mail {
    struct mail *next;
    int kind; /* the receiver's enum */
};

struct mailbox {
    pthread_mutex_t lock;
    struct mail *head;
    struct mail **tail;
    size_t count;
    size_t max_count;
    int fd;      /* eventfd: readable while mail waits */
    bool closed; /* nothing is accepted any more */
};

/* ERR_IO when no eventfd could be had. */
int mailbox_init(struct mailbox *m, size_t max_count);
/* Undelivered mail must have been taken before. */
void mailbox_fini(struct mailbox *m);
/* Any thread. ERR_LIMIT when full (never when urgent), ERR_CANCELLED when closed: the
 * caller keeps the message then. */
int mailbox_send(struct mailbox *m, struct mail *mail, bool urgent);
/* The receiver: takes all that waits, in order, as a list (NULL when none); clears the
 * fd. */
struct mail *mailbox_take(struct mailbox *m);
void mailbox_close(struct mailbox *m);

#endif
