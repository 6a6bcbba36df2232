/* What a verb that keeps a device busy counts: see load.c. */
#ifndef LOAD_H
#define LOAD_H

#include <signal.h>
#include <stdint.h>

struct load {
	uint64_t done;          /* what the device has answered */
	uint64_t last;          /* ns, at the latest of them */
	uint64_t gap[2];        /* ns, the longest between two of them: before the mark, and after it */
};

extern volatile sig_atomic_t load_ended, load_marked;

uint64_t load_now(void);
void load_begin(struct load *load);
void load_count(struct load *load);
void load_stop(struct load *load);
void load_print(const struct load *load);

#endif
