/*
 * bootsecure.h - from settings to struct secure: certificates that are made,
 * and what is wrong with those that are given, in etcd's words.
 */
#ifndef BOOTSECURE_H
#define BOOTSECURE_H

#include "config.h"

/*
 * Fill c->secure_client and c->secure_peer as far as settings ask for TLS. May
 * write DATA/fixtures. 0, or -1 and e. Either way bootsecure_end().
 */
int bootsecure_begin(struct config *c, struct err *e);
void bootsecure_end(struct config *c);          /* all connections are closed */
void bootsecure_reload(const struct config *c); /* at a SIGHUP */

#endif
