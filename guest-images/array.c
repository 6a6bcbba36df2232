/*
 * array - block devices of md arrays whose members are on the disk, degraded ones too.
 *
 * Superblocks of version 1.x are understood (drivers/md/md.c); of an array with metadata 0.90 the members are read.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.h"

#define MAX_ARRAYS 16

/* What of a superblock 1.x is needed: its place says its minor version. */
struct superblock {
	int minor;
	unsigned char bytes[256];
};

static int read_superblock(const struct device *device, struct superblock *super)
{
	static const unsigned char magic[] = { 0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0 };
	uint64_t places[] = { ((device->size / SECTOR - 16) & ~7ULL) * SECTOR, 0, 4096 };

	for (super->minor = 0; super->minor < 3; super->minor++)
		if (read_at(device->node, places[super->minor], super->bytes, sizeof(super->bytes)) == 0 &&
		    memcmp(super->bytes, magic, sizeof(magic)) == 0)
			return 0;
	return -1;
}

/* Add the members of an array and run it; -1 if the kernel refuses. */
static int run_array(int fd, const struct device *devices, int count, const struct superblock *first)
{
	mdu_array_info_t info = { .major_version = 1, .minor_version = first->minor };

	if (ioctl(fd, SET_ARRAY_INFO, &info) < 0)
		return -1;
	for (int i = 0; i < count; i++) {
		mdu_disk_info_t disk = { 0 };
		struct superblock super;
		struct stat st;

		if (!devices[i].type || strcmp(devices[i].type, "md") != 0 || read_superblock(&devices[i], &super) < 0 ||
		    memcmp(super.bytes + 16, first->bytes + 16, 16) != 0 || stat(devices[i].node, &st) < 0)
			continue;
		disk.major = (int)major(st.st_rdev);
		disk.minor = (int)minor(st.st_rdev);
		if (ioctl(fd, ADD_NEW_DISK, &disk) < 0)
			say("%s: its array does not take it: %s", devices[i].name, strerror(errno));
	}
	return ioctl(fd, RUN_ARRAY, NULL);
}

static void load_level(const struct superblock *super)
{
	int32_t level;

	memcpy(&level, super->bytes + 72, 4);
	load_module("md_mod");
	if (level == -1)
		load_module("linear");
	else if (level == 0 || level == 1 || level == 10)
		load_module(level == 0 ? "raid0" : level == 1 ? "raid1" : "raid10");
	else
		load_module("raid456");
}

int open_arrays(const struct device *devices, int count, struct device *found, int room)
{
	struct superblock seen[MAX_ARRAYS];
	int arrays = 0;

	for (int i = 0; i < count && arrays < room && arrays < MAX_ARRAYS; i++) {
		struct superblock *super = &seen[arrays];
		struct device *array = &found[arrays];
		int known = 0, fd;

		if (!devices[i].type || strcmp(devices[i].type, "md") != 0 || read_superblock(&devices[i], super) < 0)
			continue;
		for (int n = 0; n < arrays; n++)
			known |= memcmp(seen[n].bytes + 16, super->bytes + 16, 16) == 0;
		if (known)
			continue;
		load_level(super);
		memset(array, 0, sizeof(*array));
		snprintf(array->name, sizeof(array->name), "md%d", arrays);
		snprintf(array->node, sizeof(array->node), "/dev/read-md%d", arrays);
		snprintf(array->label, sizeof(array->label), "%.32s", (const char *)super->bytes + 32);
		mknod(array->node, S_IFBLK | 0600, makedev(MD_MAJOR, (unsigned)arrays));
		fd = open(array->node, O_RDWR | O_CLOEXEC);
		if (fd < 0 || run_array(fd, devices, count, super) < 0) {
			say("array %s: %s", array->label, strerror(errno));
			array->type = "array";
		} else {
			uint64_t bytes = 0;

			if (ioctl(fd, _IOR(0x12, 114, size_t), &bytes) == 0)    /* BLKGETSIZE64 */
				array->size = bytes;
			array->label[0] = '\0';
			identify(array);
		}
		/* kept open: the kernel stops an array that nobody has open */
		arrays++;
	}
	return arrays;
}
