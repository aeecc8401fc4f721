/*
 * v3metrics.h - what /metrics tells of the v3 state.
 */
#ifndef V3METRICS_H
#define V3METRICS_H

#include "metrics.h"
#include "server.h"

void v3_metrics_add(struct server *s, struct metrics_page *p);

#endif
