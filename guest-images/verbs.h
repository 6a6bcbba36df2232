/* Verbs: what the guest's init can do in a child of its own without starting a program. */
#ifndef VERBS_H
#define VERBS_H

#include <stdint.h>

/* Run a verb and return its exit status, or -1 if argv[0] names none. */
int run_verb(char **argv);

/* relay.c */
int relay(const char *path, const char *name);

/* vfio.c */
int hold_vfio(const char *group, const char *function, const char *answer, const char *path);

/* writer.c, reader.c, nic.c, port.c */
int write_disk(const char *name, uint64_t first, uint64_t count);
int read_register(const char *path, uint64_t offset, unsigned int width);
int prove_nic(const char *name, const char *peer);
int send_frames(const char *name, const char *peer);
int write_port(unsigned short port, unsigned int value);

#endif
