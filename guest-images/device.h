/* Block devices: partitions, arrays, logical volumes. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stddef.h>
#include <stdint.h>

#define SECTOR 512

/* What is known of a block device. */
struct device {
	char name[128];         /* as the test bed calls it: vda1, vg0/root, md:… */
	char node[160];         /* below /dev */
	const char *type;       /* ext4, xfs, btrfs, vfat, lvm, md, luks …; NULL: nothing known */
	char uuid[64];
	char label[300];
	uint64_t size;          /* bytes */
};

/* Read from a block device; 0 if all of it could be. */
int read_at(const char *node, uint64_t offset, void *buffer, size_t size);
/* Load a kernel module with what it depends on. */
void load_module(const char *name);
/* Find out what is on a block device; type, uuid and label. */
void identify(struct device *device);
/* The size of a block device in bytes. */
uint64_t size_of(const char *name);
/* Find the partitions of a disk, by their number, or the disk itself if it has none; return how many. */
int find_devices(const char *disk, struct device *devices, int room);
/* Write a line for the test bed on the console: each program has its own. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Make block devices of the logical volumes on physical ones; return how many, up to `room`. */
int open_volume_groups(const struct device *devices, int count, struct device *found, int room);
/* Make block devices of the arrays whose members are there; return how many, up to `room`. */
int open_arrays(const struct device *devices, int count, struct device *found, int room);

#endif
