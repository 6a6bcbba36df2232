/*
 * writer - a disk kept busy, so that what became of each acknowledged write can be looked up afterwards.
 *
 * Writes numbered blocks of 4 KiB past the page cache, over and over a range of its own, until a write fails or SIGTERM
 * comes. A block holds its number again and again, each time behind MARK. Prints how many writes were acknowledged and
 * the guest's time at the last of them: `acknowledged COUNT SECONDS`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "verbs.h"

#define BLOCK 4096
#define MARK "TBWRITER"

static volatile sig_atomic_t ended;

static void on_term(int number)
{
	(void)number;
	ended = 1;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

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
	uint64_t done = 0;
	double last = 0;
	int fd, failed = 0;

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || posix_memalign((void **)&block, BLOCK, BLOCK)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	signal(SIGTERM, on_term);
	while (!ended && !failed) {
		off_t at = (off_t)(first + done % count) * BLOCK;

		number_block(block, done + 1);
		failed = pwrite(fd, block, BLOCK, at) != BLOCK;
		if (failed)
			fprintf(stderr, "%s\n", strerror(errno));
		else
			done++;
		last = failed ? last : seconds();
	}
	printf("acknowledged %llu %.6f\n", (unsigned long long)done, last);
	return fflush(stdout) == 0 ? failed : 1;
}
