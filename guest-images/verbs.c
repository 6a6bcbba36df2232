/*
 * verbs - what a verdict asks of every guest, without the dozen processes that shell scripts would take.
 *
 *   show GLOB...       what is in the files that match; status 0 even if none does
 *       file PATH SIZE\n CONTENT \n      a file, as far as it could be read
 *       link PATH TARGET\n               a symbolic link
 *   prove-disk SERIAL  write 64 KiB to the disk of this serial number past the page cache, and read them back
 *       prints the disk's name; status 1 with a message on stderr if it cannot, 3 if there is no such disk
 *
 * Each runs in a child that init forks and that does not exec: under TCG a fresh program is mostly translation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verbs.h"

#define SHOWN (1024 * 1024)     /* of one file */
#define PROOF (64 * 1024)
#define ALIGNMENT 4096          /* O_DIRECT: no disk has larger blocks */
#define NO_DISK 3

static ssize_t read_all(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n = fd < 0 ? -1 : 0;

	while (fd >= 0 && used < size && (n = read(fd, buffer + used, size - used)) > 0)
		used += (size_t)n;
	if (fd >= 0)
		close(fd);
	return n < 0 && !used ? -1 : (ssize_t)used;
}

static void show_path(const char *path, char *buffer)
{
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) < 0)
		return;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, buffer, SHOWN);
		if (n >= 0)
			printf("link %s %.*s\n", path, (int)n, buffer);
	} else if (S_ISREG(st.st_mode)) {
		n = read_all(path, buffer, SHOWN);
		if (n < 0)
			return;
		printf("file %s %zd\n", path, n);
		fwrite(buffer, 1, (size_t)n, stdout);
		putchar('\n');
	}
}

static int show(char **patterns)
{
	char *buffer = malloc(SHOWN);
	glob_t found = { 0 };

	if (!buffer)
		return 1;
	for (int i = 0; patterns[i]; i++)
		glob(patterns[i], i ? GLOB_APPEND : 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++)
		show_path(found.gl_pathv[i], buffer);
	return fflush(stdout) == 0 ? 0 : 1;
}

/* The serial number a driver gives: virtio's and NVMe's as text, a SCSI disk's as its vital product data. */
static int has_serial(const char *path, const char *serial)
{
	char text[256];
	ssize_t n = read_all(path, text, sizeof(text) - 1);
	const char *vpd = strstr(path, "vpd_pg80");
	size_t skip = vpd ? 4 : 0;

	if (n <= (ssize_t)skip)
		return 0;
	text[n] = '\0';
	text[skip + strcspn(text + skip, " \n")] = '\0';
	return strcmp(text + skip, serial) == 0;
}

/* Find the block device of a serial number; `name` has room for 64 bytes. */
static int find_disk(const char *serial, char *name)
{
	static const char *const places[] = {
		"/sys/block/*/serial", "/sys/block/*/device/serial", "/sys/block/*/device/vpd_pg80",
	};
	glob_t found = { 0 };

	for (int i = 0; i < 3; i++)
		glob(places[i], i ? GLOB_APPEND : 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (has_serial(found.gl_pathv[i], serial) && sscanf(found.gl_pathv[i], "/sys/block/%63[^/]", name) == 1)
			return 1;
	return 0;
}

static int complain(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

static void fill(unsigned char *bytes, size_t size)
{
	uint64_t state = 1;

	/* the pool may not be ready so soon after the boot: any seed does that differs from what is on the disk */
	if (getrandom(&state, sizeof(state), GRND_NONBLOCK) < 0)
		state = (uint64_t)getpid() << 32 | 1;
	for (size_t i = 0; i < size; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		bytes[i] = (unsigned char)(state >> 56);
	}
}

static int write_and_read(int fd)
{
	unsigned char *written = NULL, *read_back = NULL;

	if (posix_memalign((void **)&written, ALIGNMENT, PROOF) || posix_memalign((void **)&read_back, ALIGNMENT, PROOF))
		return complain("memory");
	fill(written, PROOF);
	if (pwrite(fd, written, PROOF, 0) != PROOF || fdatasync(fd) < 0)
		return complain("writing");
	if (pread(fd, read_back, PROOF, 0) != PROOF)
		return complain("reading back");
	if (memcmp(written, read_back, PROOF) == 0)
		return 0;
	fprintf(stderr, "data differ\n");
	return 1;
}

static int prove_disk(const char *serial)
{
	char name[64], path[80];
	int fd;

	if (!find_disk(serial, name))
		return NO_DISK;
	dprintf(STDOUT_FILENO, "%s\n", name);
	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	return fd < 0 ? complain("opening") : write_and_read(fd);
}

int run_verb(char **argv)
{
	if (strcmp(argv[0], "show") == 0)
		return show(argv + 1);
	if (strcmp(argv[0], "prove-disk") == 0 && argv[1])
		return prove_disk(argv[1]);
	return -1;
}
