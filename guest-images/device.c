/*
 * device - a disk and its partitions as block devices, for who reads them and for who mounts them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device.h"

int read_at(const char *node, uint64_t offset, void *buffer, size_t size)
{
	int fd = open(node, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, buffer, size, (off_t)offset);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)size ? 0 : -1;
}

void load_module(const char *name)
{
	pid_t child = fork();

	if (child == 0) {
		execl("/bin/busybox", "modprobe", "-q", name, (char *)NULL);
		_exit(127);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
}

uint64_t size_of(const char *name)
{
	char path[128], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/class/block/%s/size", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	if (fd >= 0)
		close(fd);
	return strtoull(text, NULL, 10) * SECTOR;
}

static int add_device(struct device *device, const char *name)
{
	memset(device, 0, sizeof(*device));
	snprintf(device->name, sizeof(device->name), "%s", name);
	snprintf(device->node, sizeof(device->node), "/dev/%s", name);
	device->size = size_of(name);
	identify(device);
	return 1;
}

/* The number of a partition, by which they are sorted: vda10 comes after vda2. */
static int by_number(const void *left, const void *right)
{
	return atoi(((const struct device *)left)->name + 3) - atoi(((const struct device *)right)->name + 3);
}

int find_devices(const char *disk, struct device *devices, int room)
{
	char folder[64];
	DIR *entries;
	struct dirent *entry;
	int count = 0;

	snprintf(folder, sizeof(folder), "/sys/block/%s", disk);
	entries = opendir(folder);
	while (entries && (entry = readdir(entries)) && count < room)
		if (strncmp(entry->d_name, disk, strlen(disk)) == 0)
			count += add_device(&devices[count], entry->d_name);
	if (entries)
		closedir(entries);
	if (!count)
		return add_device(&devices[0], disk);
	qsort(devices, (size_t)count, sizeof(*devices), by_number);
	return count;
}
