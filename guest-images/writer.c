/*
 * writer - a disk kept busy, so that what became of each acknowledged write can be looked up afterwards.
 *
 * Writes numbered blocks of 4 KiB past the page cache, over and over a range of its own, until a write fails or SIGTERM
 * comes. A block holds its number again and again, each time behind MARK. What it prints is in load.c, ten times a
 * second: a machine that is reset does not let it say its last words.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"
#include "verbs.h"

#define BLOCK 4096
#define MARK "TBWRITER"
#define PROGRESS_NS 100000000u

static void number_block(unsigned char *block, uint64_t number)
{
	for (size_t at = 0; at < BLOCK; at += 16) {
		memcpy(block + at, MARK, 8);
		memcpy(block + at + 8, &number, 8);
	}
}

int write_disk(const char *name, uint64_t first, uint64_t count)
{
	char path[80];
	unsigned char *block;
	struct load load;
	uint64_t printed = 0;
	int fd, failed = 0;

	load_begin(&load);
	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || posix_memalign((void **)&block, BLOCK, BLOCK)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	while (!load_ended && !failed) {
		off_t at = (off_t)(first + load.done % count) * BLOCK;

		number_block(block, load.done + 1);
		failed = pwrite(fd, block, BLOCK, at) != BLOCK;
		if (failed)
			fprintf(stderr, "%s\n", strerror(errno));
		else
			load_count(&load);
		if (load.last - printed > PROGRESS_NS) {
			printed = load.last;
			load_print(&load);
			fflush(stdout);
		}
	}
	if (!failed)
		load_stop(&load);
	load_print(&load);
	return fflush(stdout) == 0 ? failed : 1;
}
