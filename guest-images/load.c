/*
 * load - what the verbs that keep a device busy have in common.
 *
 * SIGUSR1 is the mark: what comes next is asked of the machine now. SIGTERM ends the verb after what it is about. The
 * longest time between two answers is kept for each side of the mark; a gap that spans it belongs to the later side. A
 * verb prints, in one line of NAME=NUMBER, what was done, the guest's seconds at the last of it, and both gaps in ms.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "load.h"

volatile sig_atomic_t load_ended, load_marked;

static void on_signal(int number)
{
	if (number == SIGUSR1)
		load_marked = 1;
	else
		load_ended = 1;
}

uint64_t load_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note_gap(struct load *load, uint64_t now)
{
	uint64_t *gap = &load->gap[load_marked != 0];

	if (now - load->last > *gap)
		*gap = now - load->last;
}

void load_begin(struct load *load)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	memset(load, 0, sizeof(*load));
	load->last = load_now();
}

void load_count(struct load *load)
{
	uint64_t now = load_now();

	note_gap(load, now);
	load->last = now;
	load->done++;
}

/* The verb was told to end: that nothing had come for a while counts too. */
void load_stop(struct load *load)
{
	note_gap(load, load_now());
}

void load_print(const struct load *load)
{
	printf(" done=%llu last=%.6f before_ms=%.3f after_ms=%.3f\n", (unsigned long long)load->done,
	       (double)load->last / 1e9, (double)load->gap[0] / 1e6, (double)load->gap[1] / 1e6);
}
