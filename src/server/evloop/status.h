/* Status codes in words. */
#ifndef COULOMB_SERVER_EVLOOP_STATUS_H
#define COULOMB_SERVER_EVLOOP_STATUS_H

/* The reason phrase; a general one for a status that the server has no use for. */
const char *status_reason(int status);

#endif
