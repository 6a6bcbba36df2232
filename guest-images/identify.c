/*
 * identify - what is on a block device, by the magic numbers of what the test bed knows.
 */
#include <stdio.h>
#include <string.h>

#include "device.h"

#define START (128 * 1024)      /* btrfs has its superblock at 64 KiB */

static unsigned char start[START];

/* One file system: where its magic number is, where its UUID, and where its label. */
static const struct magic {
	const char *type;
	size_t offset;
	const char *bytes;
	size_t length, uuid, label, label_size;
} magics[] = {
	{ "luks", 0, "LUKS\xba\xbe", 6, 0, 0, 0 },
	{ "bitlocker", 3, "-FVE-FS-", 8, 0, 0, 0 },
	{ "ntfs", 3, "NTFS    ", 8, 0, 0, 0 },
	{ "xfs", 0, "XFSB", 4, 32, 108, 12 },
	{ "btrfs", 0x10040, "_BHRfS_M", 8, 0x10020, 0x1012b, 256 },
	{ "ext4", 0x438, "\x53\xef", 2, 0x468, 0x478, 16 },
	{ "swap", 4086, "SWAPSPACE2", 10, 0, 0, 0 },
	{ "iso9660", 32769, "CD001", 5, 0, 0, 0 },
	{ "squashfs", 0, "hsqs", 4, 0, 0, 0 },
	{ "f2fs", 1024, "\x10\x20\xf5\xf2", 4, 0, 0, 0 },
	{ "erofs", 1024, "\xe2\xe1\xf5\xe0", 4, 0, 0, 0 },
	{ "vfat", 82, "FAT32   ", 8, 0, 71, 11 },
	{ "vfat", 54, "FAT16   ", 8, 0, 43, 11 },
	{ "vfat", 54, "FAT12   ", 8, 0, 43, 11 },
};

static void set_uuid(struct device *device, const unsigned char *u)
{
	snprintf(device->uuid, sizeof(device->uuid),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4],
		 u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

/* The label as text; one that FAT pads ends with its last letter. */
static void set_label(struct device *device, const unsigned char *bytes, size_t size)
{
	snprintf(device->label, sizeof(device->label), "%.*s", (int)size, (const char *)bytes);
	for (size_t end = strlen(device->label); end && device->label[end - 1] == ' '; end--)
		device->label[end - 1] = '\0';
}

/* A member of an array: superblock 1.1, 1.2, 1.0 or 0.90 (drivers/md/md.c). */
static int is_member(const struct device *device)
{
	static const unsigned char md[] = { 0xfc, 0x4e, 0x2b, 0xa9 };
	uint64_t sectors = device->size / SECTOR;
	uint64_t ends[] = { ((sectors - 16) & ~7ULL) * SECTOR, ((sectors & ~127ULL) - 128) * SECTOR };
	unsigned char bytes[4];

	if (memcmp(start, md, 4) == 0 || memcmp(start + 4096, md, 4) == 0)
		return 1;
	for (int i = 0; i < 2 && sectors > 256; i++)
		if (read_at(device->node, ends[i], bytes, 4) == 0 && memcmp(bytes, md, 4) == 0)
			return 1;
	return 0;
}

static int is_physical_volume(void)
{
	for (int sector = 0; sector < 4; sector++)
		if (memcmp(start + sector * SECTOR, "LABELONE", 8) == 0)
			return 1;
	return 0;
}

void identify(struct device *device)
{
	size_t size = device->size < START ? (size_t)device->size : START;

	memset(start, 0, sizeof(start));
	if (read_at(device->node, 0, start, size) < 0)
		return;
	if (is_member(device)) {
		device->type = "md";
		return;
	}
	if (is_physical_volume()) {
		device->type = "lvm";
		return;
	}
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		const struct magic *magic = &magics[i];

		if (memcmp(start + magic->offset, magic->bytes, magic->length) != 0)
			continue;
		device->type = magic->type;
		if (magic->uuid)
			set_uuid(device, start + magic->uuid);
		if (magic->label_size)
			set_label(device, start + magic->label, magic->label_size);
		if (strcmp(magic->type, "vfat") == 0) {
			const unsigned char *u = start + magic->label - 4;

			snprintf(device->uuid, sizeof(device->uuid), "%02X%02X-%02X%02X", u[3], u[2], u[1], u[0]);
		}
		return;
	}
}
