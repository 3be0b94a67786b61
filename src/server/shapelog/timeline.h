/* A log that follows its cluster to another timeline. */
#ifndef COULOMB_SERVER_SHAPELOG_TIMELINE_H
#define COULOMB_SERVER_SHAPELOG_TIMELINE_H

#include "server/shapelog/shapelog.h"

/* The highest commit LSN of any entry ever made visible, also by an earlier process; 0
 * without any. Sequencer. */
uint64_t shapelog_visible_lsn(struct shapelog *log);
/* The same origin, on a new timeline: shapes and LSNs stay. Durable when it returns. */
int shapelog_origin_follow(struct shapelog *log, uint32_t timeline, struct err *err);

#endif
