/*
 * The mailbox: a locked list and an eventfd.
 *
 * The descriptor mirrors "the list is not empty". It is written on the transition from
 * empty and read back on the take, both under the lock, so it can neither miss mail nor
 * stay readable without any; a burst costs one write and one wake-up. A lock-free list
 * would save nothing that shows here: messages are batches, not rows.
 */

#include "base/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"

int mailbox_init(struct mailbox *m, size_t max_count)
{
    m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (m->fd < 0)
        return ERR_IO;
    ASSERT(pthread_mutex_init(&m->lock, NULL) == 0);
    m->head = NULL;
    m->tail = &m->head;
    m->count = 0;
    m->max_count = max_count;
    m->closed = false;
    return 0;
}

void mailbox_fini(struct mailbox *m)
{
    ASSERT(m->head == NULL);
    ASSERT(pthread_mutex_destroy(&m->lock) == 0);
    close(m->fd);
    m->fd = -1;
}

int mailbox_send(struct mailbox *m, struct mail *mail, bool urgent)
{
    int rc = 0;

    ASSERT(pthread_mutex_lock(&m->lock) == 0);
    if (m->closed) {
        rc = ERR_CANCELLED;
    } else if (!urgent && m->count >= m->max_count) {
        rc = ERR_LIMIT;
    } else {
        mail->next = NULL;
        *m->tail = mail;
        m->tail = &mail->next;
        /* The counter goes from 0 to 1 only, so the write can't block. */
        if (m->count++ == 0)
            ASSERT(eventfd_write(m->fd, 1) == 0);
    }
    ASSERT(pthread_mutex_unlock(&m->lock) == 0);
    return rc;
}

struct mail *mailbox_take(struct mailbox *m)
{
    struct mail *taken;

    ASSERT(pthread_mutex_lock(&m->lock) == 0);
    taken = m->head;
    if (taken) {
        eventfd_t ignored;

        ASSERT(eventfd_read(m->fd, &ignored) == 0);
        m->head = NULL;
        m->tail = &m->head;
        m->count = 0;
    }
    ASSERT(pthread_mutex_unlock(&m->lock) == 0);
    return taken;
}

void mailbox_close(struct mailbox *m)
{
    ASSERT(pthread_mutex_lock(&m->lock) == 0);
    m->closed = true;
    ASSERT(pthread_mutex_unlock(&m->lock) == 0);
}
