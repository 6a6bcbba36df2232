/*
 * verbs - what a verdict asks of every guest, without the dozen processes that shell scripts would take.
 *
 *   show GLOB...       what is in the files that match; status 0 even if none does
 *       file PATH SIZE\n CONTENT \n      a file, as far as it could be read
 *       link PATH TARGET\n               a symbolic link
 *   prove-disk SERIAL  write 64 KiB to the disk of this serial number past the page cache, and read them back
 *       prints the disk's name; status 1 with a message on stderr if it cannot, 3 if there is no such disk
 *   await-disk SERIAL SECONDS  wait for the disk of this serial number; prints its name, status 3 if it does not come
 *   write-disk SERIAL FIRST COUNT      keep COUNT blocks of a disk busy from FIRST on: see writer.c
 *   outl PORT VALUE    write 32 bits to an I/O port
 *   prove-nic IFACE [PEER]  send ARP requests for QEMU's gateway until one is answered on IFACE, or is seen on PEER
 *       prints "carrier", then how a frame came back; status 1 with a message on stderr if none does
 *   send-frames IFACE [PEER]           keep a card busy: see nic.c
 *   read-register PATH OFFSET WIDTH    keep a register of a BAR busy: see reader.c; status 2 if it cannot be mapped
 *   hold-vfio GROUP FUNCTION ANSWER [PATH]  have a PCI function through VFIO: see vfio.c
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
#include <time.h>
#include <unistd.h>

#include "verbs.h"

#define SHOWN (1024 * 1024)     /* of one file */
#define PROOF (64 * 1024)
#define ALIGNMENT 4096          /* O_DIRECT: no disk has larger blocks */
#define NO_DISK 3
#define DISK_POLL_MS 50

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

/* One path of an NVMe namespace that has several: it has no node in /dev, the namespace itself has. */
static int is_hidden(const char *name)
{
	char path[96], text[2];

	snprintf(path, sizeof(path), "/sys/block/%s/hidden", name);
	return read_all(path, text, sizeof(text)) > 0 && text[0] == '1';
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
		if (has_serial(found.gl_pathv[i], serial) && sscanf(found.gl_pathv[i], "/sys/block/%63[^/]", name) == 1 &&
		    !is_hidden(name))
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

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static int await_disk(const char *serial, unsigned long seconds)
{
	uint64_t end = now_ms() + seconds * 1000u;
	char name[64];

	while (!find_disk(serial, name)) {
		if (now_ms() >= end)
			return NO_DISK;
		usleep(DISK_POLL_MS * 1000);
	}
	dprintf(STDOUT_FILENO, "%s\n", name);
	return 0;
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
	char name[64];

	if (strcmp(argv[0], "show") == 0)
		return show(argv + 1);
	if (strcmp(argv[0], "prove-disk") == 0 && argv[1])
		return prove_disk(argv[1]);
	if (strcmp(argv[0], "await-disk") == 0 && argv[1] && argv[2])
		return await_disk(argv[1], strtoul(argv[2], NULL, 10));
	if (strcmp(argv[0], "prove-nic") == 0 && argv[1])
		return prove_nic(argv[1], argv[2]);
	if (strcmp(argv[0], "send-frames") == 0 && argv[1])
		return send_frames(argv[1], argv[2]);
	if (strcmp(argv[0], "read-register") == 0 && argv[1] && argv[2] && argv[3])
		return read_register(argv[1], strtoull(argv[2], NULL, 0), (unsigned int)strtoul(argv[3], NULL, 0));
	if (strcmp(argv[0], "hold-vfio") == 0 && argv[1] && argv[2] && argv[3])
		return hold_vfio(argv[1], argv[2], argv[3], argv[4]);
	if (strcmp(argv[0], "relay") == 0 && argv[1] && argv[2])
		return relay(argv[1], argv[2]);
	if (strcmp(argv[0], "write-disk") == 0 && argv[1] && argv[2] && argv[3])
		return find_disk(argv[1], name) ? write_disk(name, strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0)) : NO_DISK;
	if (strcmp(argv[0], "outl") == 0 && argv[1] && argv[2])
		return write_port((unsigned short)strtoul(argv[1], NULL, 0), (unsigned int)strtoul(argv[2], NULL, 0));
	return -1;
}
