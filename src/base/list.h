/* An intrusive doubly linked list. A link not in a list points to itself. */
#ifndef COULOMB_BASE_LIST_H
#define COULOMB_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev;
    struct list *next;
};

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Puts item at the end of the list. */
static inline void list_push(struct list *head, struct list *item)
{
    item->prev = head->prev;
    item->next = head;
    head->prev->next = item;
    head->prev = item;
}

static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* Takes the first item out of a list that is not empty. */
static inline struct list *list_pop(struct list *head)
{
    struct list *first = head->next;

    head->next = first->next;
    first->next->prev = head;
    list_init(first);
    return first;
}

/* The struct that holds this link as `member`. */
#define LIST_ENTRY(link, type, member)                                                   \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))

#endif
