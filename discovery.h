/*
 * discovery.h - finding the first members of a cluster by a meeting point
 * instead of a list: the v2 discovery service (--discovery URL) and DNS SRV
 * records (--discovery-srv DOMAIN). Spec: server, 7.4 and 7.6.
 */
#ifndef DISCOVERY_H
#define DISCOVERY_H

#include "config.h"

enum {
    DISCOVERY_EINVAL = -1,     /* settings or answers that make no sense */
    DISCOVERY_EFULL = -2,      /* others have taken all places */
    DISCOVERY_EDUPLICATE = -3, /* this id, or a name, is there already */
    DISCOVERY_EIO = -4,
};

/*
 * If c asks for it and this member has no log yet, find its cluster and set
 * c->initial_cluster to "n1=u1,n2=u2"; with --discovery also
 * c->initial_cluster_token, to the URL, from which the ids derive. Waits
 * until all members have come, which may take for ever; a service that cannot
 * be reached is tried again after 2, 4, ... 256 seconds. 0, or DISCOVERY_E*
 * and e in etcd's words; hints on what to do have been logged then.
 */
int discovery_resolve(struct config *c, struct err *e);

#endif
