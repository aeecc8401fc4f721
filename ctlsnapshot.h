/*
 * ctlsnapshot.h - snapshot status and restore, and the defragmentation of a
 * directory that no server uses: commands of etcdctl and etcdutl.
 */
#ifndef CTLSNAPSHOT_H
#define CTLSNAPSHOT_H

#include "ctlv3.h"

extern const struct ctl_option ctlv3_restore_options[];

ctlv3_command ctlv3_snapshot_status, ctlv3_snapshot_restore;
/* Prints nothing if all is well. The exit code. */
int ctlv3_defrag_dir(const char *data_dir);

#endif
