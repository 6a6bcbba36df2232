/*
 * reader - a device's register kept busy: a process maps a BAR and reads one register about a thousand times a second.
 *
 * Where no device is, a read gives all ones on hardware and 0 in QEMU; a mapping that the kernel has taken back gives
 * SIGBUS, which ends it. Prints how many reads gave all ones and how many another value than the first, the first and
 * the latest value, then what is in load.c; what counts there as done is a read that gave the first value.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "load.h"
#include "verbs.h"

#define PAGE 4096ul
#define PERIOD_US 1000

static sigjmp_buf taken_back;

static void on_bus_error(int number)
{
	siglongjmp(taken_back, number);
}

static uint32_t read_once(const volatile unsigned char *at, unsigned int width)
{
	if (width == 1)
		return *at;
	return width == 2 ? *(const volatile uint16_t *)at : *(const volatile uint32_t *)at;
}

static const volatile unsigned char *map_register(const char *path, uint64_t offset)
{
	int fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	unsigned char *page;

	if (fd < 0)
		return NULL;
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset & ~(PAGE - 1)));
	close(fd);
	return page == MAP_FAILED ? NULL : page + offset % PAGE;
}

int read_register(const char *path, uint64_t offset, unsigned int width)
{
	static volatile unsigned long long ones, changed;
	static struct load load;
	static uint32_t first, value;
	const uint32_t absent = width == 4 ? ~0u : (1u << 8 * width) - 1;
	const volatile unsigned char *at;
	volatile int fault = 0;

	load_begin(&load);
	at = map_register(path, offset);
	if (!at) {
		fprintf(stderr, "mapping %s: %s\n", path, strerror(errno));
		return 2;
	}
	signal(SIGBUS, on_bus_error);
	if (sigsetjmp(taken_back, 1))
		fault = 1;
	else
		first = read_once(at, width);
	while (!load_ended && !fault) {
		value = read_once(at, width);
		if (value == first && value != absent)
			load_count(&load);
		else if (value == absent)
			ones++;
		else
			changed++;
		usleep(PERIOD_US);
	}
	if (fault)
		fprintf(stderr, "bus error: the kernel has taken the mapping back\n");
	else
		load_stop(&load);
	printf("ones=%llu changed=%llu first=%u value=%u", ones, changed, first, value);
	load_print(&load);
	return fflush(stdout) == 0 ? fault : 1;
}
