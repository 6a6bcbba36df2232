/*
 * volume-group - block devices of LVM's logical volumes, made from the metadata on the physical ones.
 *
 * Physical volumes carry a label (sector 0 to 3), which points to metadata areas; the newest text there describes the
 * group (lvm2, lib/format_text/layout.h). Linear and striped segments become device-mapper targets; of a mirror the
 * first leg is read. Thin pools, caches and the like are said to be what they are, and not opened.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.h"

#define MAX_TEXT (4 << 20)
#define MAX_VOLUMES 64
#define MAX_TARGETS 256
#define MAX_DEPTH 16
#define ID 32

/* A node of the metadata's text: `name = value`, or `name { … }`. */
struct node {
	char *name, *value;
	struct node *children, *next;
};

/* -- the text -- */

static char *skip_blanks(char *at)
{
	for (;;) {
		while (*at && (isspace((unsigned char)*at) || *at == ','))
			at++;
		if (*at != '#')
			return at;
		at += strcspn(at, "\n");
	}
}

/* Parse up to the closing brace; the text is cut into strings where it stands. NULL if it makes no sense. */
static char *parse(char *at, struct node **list, int depth)
{
	while (*(at = skip_blanks(at)) && *at != '}') {
		struct node *node = calloc(1, sizeof(*node));
		size_t length = strcspn(at, " \t\n={}");
		char *end = skip_blanks(at + length);
		char kind = *end;

		if (!node || !length || depth > MAX_DEPTH || (kind != '{' && kind != '='))
			return NULL;
		at[length] = '\0';
		node->name = at;
		*list = node;
		list = &node->next;
		at = skip_blanks(end + 1);
		if (kind == '{') {
			at = parse(at, &node->children, depth + 1);
			if (!at || *at != '}')
				return NULL;
			at++;
			continue;
		}
		node->value = at;
		if (*at == '[')
			at += strcspn(at, "]");
		else if (*at == '"')
			at += 1 + strcspn(at + 1, "\"");
		else
			at += strcspn(at, "\n");
		if (!*at)
			return NULL;
		*at++ = '\0';
		node->value += *node->value == '"' || *node->value == '[';
	}
	return at;
}

static struct node *find(struct node *list, const char *name)
{
	while (list && strcmp(list->name, name) != 0)
		list = list->next;
	return list;
}

static const char *text_of(struct node *list, const char *name)
{
	struct node *node = find(list, name);

	return node && node->value ? node->value : "";
}

static uint64_t number_of(struct node *list, const char *name)
{
	return strtoull(text_of(list, name), NULL, 10);
}

static struct node *children_of(struct node *list, const char *name)
{
	struct node *node = find(list, name);

	return node ? node->children : NULL;
}

/* -- the label and the metadata area -- */

static uint64_t little64(const unsigned char *at)
{
	uint64_t value;

	memcpy(&value, at, 8);
	return value;
}

/* Return the metadata's text in the area at `offset`, to be freed; NULL if there is none. */
static char *read_text(const struct device *device, uint64_t offset, uint64_t size)
{
	unsigned char header[SECTOR];
	uint64_t at, length, first;
	char *text;

	if (read_at(device->node, offset, header, sizeof(header)) < 0 || memcmp(header + 4, " LVM2 x[5A%r0N*>", 16) != 0)
		return NULL;
	at = little64(header + 40);
	length = little64(header + 48);
	if (!at || !length || length > MAX_TEXT || at >= size || length > size - SECTOR)
		return NULL;
	text = calloc(1, length + 1);
	if (!text)
		return NULL;
	/* the area is a ring: a text may go on behind its header */
	first = at + length > size ? size - at : length;
	if (read_at(device->node, offset + at, text, first) == 0 &&
	    (first == length || read_at(device->node, offset + SECTOR, text + first, length - first) == 0))
		return text;
	free(text);
	return NULL;
}

/* Return the metadata's text on a physical volume, and the volume's id. */
static char *read_label(const struct device *device, char *id)
{
	unsigned char sector[SECTOR];

	for (int n = 0; n < 4; n++) {
		uint32_t at;
		unsigned char *area;

		if (read_at(device->node, (uint64_t)n * SECTOR, sector, SECTOR) < 0 || memcmp(sector, "LABELONE", 8) != 0)
			continue;
		memcpy(&at, sector + 20, 4);
		if (at > SECTOR - 40 - 16)
			return NULL;
		memcpy(id, sector + at, ID);
		/* areas of data up to one that is zero, then those of metadata */
		for (area = sector + at + 40; area + 32 <= sector + SECTOR && little64(area); area += 16)
			;
		area += 16;
		return area + 16 <= sector + SECTOR ? read_text(device, little64(area), little64(area + 8)) : NULL;
	}
	return NULL;
}

/* -- device mapper -- */

static int control(unsigned long request, void *buffer, size_t size, const char *name)
{
	static int fd = -1;
	struct dm_ioctl *head = buffer;

	if (fd < 0) {
		load_module("dm_mod");
		fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	}
	head->version[0] = DM_VERSION_MAJOR;
	head->data_size = (uint32_t)size;
	head->data_start = sizeof(*head);
	snprintf(head->name, sizeof(head->name), "%s", name);
	return fd < 0 ? -1 : ioctl(fd, request, buffer);
}

/* Make a device of targets, each a `struct dm_target_spec` with its parameters behind it; -1 if the kernel refuses. */
static int make_device(const char *name, const char *id, const char *targets, size_t size, uint32_t count,
		       struct device *found)
{
	size_t whole = sizeof(struct dm_ioctl) + size + 4096;
	struct dm_ioctl *buffer = calloc(1, whole);
	uint64_t device;
	int made;

	if (!buffer)
		return -1;
	snprintf(((struct dm_ioctl *)buffer)->uuid, DM_UUID_LEN, "%s", id);
	if (control(DM_DEV_CREATE, buffer, whole, name) < 0)
		return -1;
	device = buffer->dev;
	memset(buffer, 0, whole);
	buffer->target_count = count;
	memcpy((char *)buffer + sizeof(*buffer), targets, size);
	made = control(DM_TABLE_LOAD, buffer, whole, name);
	memset(buffer, 0, whole);
	if (made == 0)
		made = control(DM_DEV_SUSPEND, buffer, whole, name);
	free(buffer);
	snprintf(found->node, sizeof(found->node), "/dev/dm-%u", minor(device));
	return made;
}

/* -- logical volumes -- */

/* A group while its volumes are opened. */
struct group {
	const char *name;
	struct node *root;
	uint64_t extent;        /* sectors */
	const struct device *devices;
	char (*ids)[ID + 1];
	int count;
};

/* Where a physical volume is: its device and the sector of its first extent. */
static const struct device *find_physical(const struct group *group, const char *name, uint64_t *start)
{
	struct node *physical = children_of(children_of(group->root, "physical_volumes"), name);
	const char *text = text_of(physical, "id");
	char id[ID + 1] = "";
	size_t used = 0;

	for (; *text && used < ID; text++)
		if (*text != '-')
			id[used++] = *text;
	*start = number_of(physical, "pe_start");
	for (int i = 0; i < group->count; i++)
		if (strcmp(group->ids[i], id) == 0)
			return &group->devices[i];
	return NULL;
}

static int add_segment(const struct group *group, struct node *segment, char *targets, size_t *used, size_t room)
{
	int stripes = (int)number_of(segment, "stripe_count");
	char *list = strdup(text_of(segment, "stripes")), *next = list;
	struct dm_target_spec *target = (void *)(targets + *used);
	char *parameters = (char *)(target + 1), *at = parameters, *end = targets + room;

	if (strcmp(text_of(segment, "type"), "striped") != 0 || stripes < 1 || *used + sizeof(*target) + 4096 > room || !list)
		return -1;
	target->sector_start = number_of(segment, "start_extent") * group->extent;
	target->length = number_of(segment, "extent_count") * group->extent;
	snprintf(target->target_type, sizeof(target->target_type), "%s", stripes > 1 ? "striped" : "linear");
	if (stripes > 1)
		at += snprintf(at, (size_t)(end - at), "%d %llu", stripes, (unsigned long long)number_of(segment, "stripe_size"));
	for (int i = 0; i < stripes; i++) {
		char *name = strsep(&next, ","), *offset = strsep(&next, ",");
		const struct device *device;
		uint64_t start;

		if (!name || !offset || end - at < 256)
			return -1;
		name += strspn(name, " \t\n\"");
		name[strcspn(name, "\"")] = '\0';
		device = find_physical(group, name, &start);
		if (!device)
			return -1;
		start += strtoull(offset, NULL, 10) * group->extent;
		at += snprintf(at, (size_t)(end - at), "%s%s %llu", at == parameters ? "" : " ", device->node,
			       (unsigned long long)start);
	}
	free(list);
	target->next = (uint32_t)((sizeof(*target) + (size_t)(at - parameters) + 1 + 7) & ~7UL);
	*used += target->next;
	return 0;
}

/* Append a name of the group's or of a volume as LVM has it in device mapper: with its hyphens doubled. */
static size_t append_name(char *text, size_t used, size_t room, const char *name)
{
	for (; *name && used + 3 < room; name++) {
		text[used++] = *name;
		if (*name == '-')
			text[used++] = '-';
	}
	text[used] = '\0';
	return used;
}

/* Append an id without its hyphens. */
static size_t append_id(char *text, size_t used, size_t room, const char *id)
{
	for (; *id && used + 1 < room; id++)
		if (*id != '-')
			text[used++] = *id;
	text[used] = '\0';
	return used;
}

/* Return what a volume consists of; of a mirror, what its first leg does: that is a volume of its own. */
static struct node *segments_of(const struct group *group, struct node *volume)
{
	struct node *segment = volume->children;
	char name[128] = "";

	while (segment && !segment->children)
		segment = segment->next;
	if (segment && strcmp(text_of(segment->children, "type"), "raid1") == 0)
		/* pairs of metadata and image */
		sscanf(text_of(segment->children, "raids"), " \"%*[^\"]\", \"%127[^\"]\"", name);
	else if (segment && strcmp(text_of(segment->children, "type"), "mirror") == 0)
		sscanf(text_of(segment->children, "mirrors"), " \"%127[^\"]\"", name);
	if (*name)
		return children_of(children_of(group->root, "logical_volumes"), name);
	return volume->children;
}

/* Open one volume: 1 if it is one that people see; what cannot be opened is found, without a node. */
static int open_volume(const struct group *group, struct node *volume, struct device *found)
{
	static char targets[MAX_TARGETS * 512] __attribute__((aligned(8)));
	struct node *segment = segments_of(group, volume);
	uint64_t sectors = 0;
	uint32_t count = 0;
	size_t used = 0, length;
	char name[DM_NAME_LEN], id[DM_UUID_LEN] = "LVM-";
	int fine = 1;

	if (!strstr(text_of(volume->children, "status"), "VISIBLE"))
		return 0;
	memset(targets, 0, sizeof(targets));
	memset(found, 0, sizeof(*found));
	snprintf(found->name, sizeof(found->name), "%s/%s", group->name, volume->name);
	for (; segment; segment = segment->next) {
		if (!segment->children)
			continue;
		sectors += number_of(segment->children, "extent_count") * group->extent;
		if (fine && add_segment(group, segment->children, targets, &used, sizeof(targets)) < 0) {
			snprintf(found->label, sizeof(found->label), "%s", text_of(segment->children, "type"));
			fine = 0;
		}
		count++;
	}
	found->size = sectors * SECTOR;
	/* as LVM itself would activate it: what runs on the disk later takes it for its own */
	length = append_name(name, 0, sizeof(name) - 1, group->name);
	name[length++] = '-';
	append_name(name, length, sizeof(name), volume->name);
	append_id(id, append_id(id, strlen(id), sizeof(id), text_of(group->root, "id")), sizeof(id),
		  text_of(volume->children, "id"));
	if (fine && count && make_device(name, id, targets, used, count, found) == 0)
		identify(found);
	else
		found->type = "logical";
	return 1;
}

int open_volume_groups(const struct device *devices, int count, struct device *found, int room)
{
	static struct device physical[MAX_VOLUMES];
	static char ids[MAX_VOLUMES][ID + 1];
	char *texts[MAX_VOLUMES], seen[MAX_VOLUMES][128];
	int volumes = 0, groups = 0, opened = 0;

	for (int i = 0; i < count && volumes < MAX_VOLUMES; i++) {
		if (!devices[i].type || strcmp(devices[i].type, "lvm") != 0)
			continue;
		physical[volumes] = devices[i];
		texts[volumes] = read_label(&devices[i], ids[volumes]);
		volumes++;
	}
	for (int i = 0; i < volumes; i++) {
		struct node *root = NULL, *volume;
		struct group group = { .devices = physical, .ids = ids, .count = volumes };
		int known = 0;

		if (!texts[i] || !parse(texts[i], &root, 0) || !root || !root->children) {
			say("%s: its LVM metadata makes no sense", physical[i].name);
			continue;
		}
		for (int n = 0; n < groups; n++)
			known |= strcmp(seen[n], text_of(root->children, "id")) == 0;
		if (known)
			continue;
		snprintf(seen[groups++], sizeof(seen[0]), "%s", text_of(root->children, "id"));
		group.name = root->name;
		group.root = root->children;
		group.extent = number_of(root->children, "extent_size");
		volume = children_of(root->children, "logical_volumes");
		for (; volume && opened < room; volume = volume->next)
			opened += open_volume(&group, volume, &found[opened]);
	}
	return opened;
}
