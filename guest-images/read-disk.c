/*
 * read-disk - process 1 of the guest that reads the file systems of a disk image for the test bed.
 *
 * The first disk is the image, under an overlay that is thrown away: a journal is replayed into that. The second takes
 * what is read, as records: kind (1 byte), length of the name (4, little-endian), size of the file (8), length of the
 * content (8), name, content.
 *
 *   T  the disk: its size; its content is the kind of partition table, `gpt`, `mbr` or nothing
 *   V  a volume: its name, and what is known of it as KEY=VALUE lines; what follows is in it
 *   F  a file; its content ends at the limit that was asked for
 *   L  a symbolic link; its content is the target
 *   D  a folder
 *   X  a file that cannot be read; its content says why
 *   E  the end: everything that was asked for has been read
 *
 * /request asks, one a line: VOLUME KIND LIMIT PATTERN. VOLUME is `*` or a volume's name; KIND is `glob` (what matches),
 * `path` (this file, links followed) or `tree` (all regular files below); LIMIT is in bytes of each file. All paths are
 * looked up within the volume: no link leads out of it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device.h"

#define DISK "vda"
#define OUTPUT "/dev/vdb"
#define VOLUME "/volume"
#define MAX_DEVICES 128
#define MAX_WANTS 2048
#define DEPTH 16
#define DISK_SECONDS 20

struct want {
	char volume[128], kind[8], pattern[512];
	uint64_t limit;
};

static struct want wants[MAX_WANTS];
static int want_count;
static int output = -1;

void say(const char *format, ...)
{
	va_list arguments;

	printf("read-disk: ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

static void end(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	_exit(1);
}

static void fail(const char *what)
{
	say("%s: %s", what, strerror(errno));
	end();
}

/* -- records -- */

static void put(const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size) {
		ssize_t n = write(output, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail("writing what was read");
		at += n;
		size -= (size_t)n;
	}
}

static void record(char kind, const char *name, uint64_t size, const void *content, uint64_t length)
{
	unsigned char header[21] = { (unsigned char)kind };
	uint32_t name_length = (uint32_t)strlen(name);

	memcpy(header + 1, &name_length, 4);
	memcpy(header + 5, &size, 8);
	memcpy(header + 13, &length, 8);
	put(header, sizeof(header));
	put(name, name_length);
	put(content, length);
}

/* -- files, seen from within a volume -- */

static void read_regular(const char *path, uint64_t size, uint64_t limit)
{
	uint64_t length = size < limit ? size : limit, done = 0;
	char *content = malloc(length ? length : 1);
	int fd = length ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	while (content && done < length) {
		ssize_t n = fd < 0 ? -1 : read(fd, content + done, length - done);

		if (n == 0)
			errno = EIO;    /* it is shorter than its inode says */
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	if (done == length && content)
		record('F', path, size, content, length);
	else
		record('X', path, size, strerror(errno), strlen(strerror(errno)));
	if (fd >= 0)
		close(fd);
	free(content);
}

static void read_path(const char *path, uint64_t limit, int follow)
{
	char target[4096];
	struct stat st;
	ssize_t n;

	if ((follow ? stat(path, &st) : lstat(path, &st)) < 0) {
		if (follow)
			record('X', path, 0, strerror(errno), strlen(strerror(errno)));
	} else if (S_ISREG(st.st_mode)) {
		read_regular(path, (uint64_t)st.st_size, limit);
	} else if (S_ISDIR(st.st_mode)) {
		record('D', path, 0, "", 0);
	} else if (S_ISLNK(st.st_mode) && (n = readlink(path, target, sizeof(target))) >= 0) {
		record('L', path, 0, target, (uint64_t)n);
	}
}

static void read_tree(const char *folder, uint64_t limit, int depth)
{
	DIR *entries = depth < DEPTH ? opendir(folder) : NULL;
	struct dirent *entry;

	while (entries && (entry = readdir(entries))) {
		char path[4096];
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >= (int)sizeof(path) || lstat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			read_tree(path, limit, depth + 1);
		else if (S_ISREG(st.st_mode))
			read_regular(path, (uint64_t)st.st_size, limit);
	}
	if (entries)
		closedir(entries);
}

static void read_wanted(const struct want *want)
{
	glob_t found = { 0 };

	if (strcmp(want->kind, "path") == 0) {
		read_path(want->pattern, want->limit, 1);
	} else if (strcmp(want->kind, "tree") == 0) {
		read_tree(want->pattern, want->limit, 0);
	} else {
		glob(want->pattern, GLOB_NOSORT, NULL, &found);
		for (size_t i = 0; i < found.gl_pathc; i++)
			read_path(found.gl_pathv[i], want->limit, 0);
		globfree(&found);
	}
}

/* Read what is wanted of a volume whose root is `root`; the caller has written its V record. */
static void read_root(const char *name, const char *root)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		if (chdir(root) < 0 || chroot(".") < 0)
			fail("entering a volume");
		for (int i = 0; i < want_count; i++)
			if (strcmp(wants[i].volume, "*") == 0 || strcmp(wants[i].volume, name) == 0)
				read_wanted(&wants[i]);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) {
		say("reading volume %s: its reader ended with %d", name, status);
		end();
	}
}

/* -- volumes -- */

static void describe(const struct device *device, const char *name, const char *root, const char *why)
{
	char text[2048];
	int n = snprintf(text, sizeof(text), "device=%s\ntype=%s\nuuid=%s\nlabel=%s\nroot=%s\nerror=%s\n", device->name,
			 device->type ? device->type : "", device->uuid, device->label, root, why);

	record('V', name, device->size, text, n < (int)sizeof(text) ? (uint64_t)n : sizeof(text) - 1);
}

/* The kernel's last words since the log was last read; an error number alone says little of a file system. */
static void kernel_words(char *words, size_t size)
{
	static int log = -1;
	char line[2048];
	ssize_t n;

	if (log < 0)
		log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	words[0] = '\0';
	while ((n = read(log, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		char *text = n > 0 ? memchr(line, ';', (size_t)n) : NULL;

		if (text) {
			line[n] = '\0';
			snprintf(words, size, "%s", text + 1);
			words[strcspn(words, "\n")] = '\0';
		}
	}
}

/* Mount a file system read-only: its journal is replayed; if that fails, it is read as it stands. */
static int mount_volume(const struct device *device)
{
	static const struct {
		const char *type, *first, *last;
	} options[] = {
		{ "ext4", "", "noload" },
		{ "xfs", "nouuid", "nouuid,norecovery" },
		{ "btrfs", "", "rescue=all" },
		{ "vfat", "", "" },
	};
	unsigned long flags = MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (strcmp(device->type, options[i].type) != 0)
			continue;
		load_module(device->type);
		if (mount(device->node, VOLUME, device->type, flags, options[i].first) == 0 ||
		    mount(device->node, VOLUME, device->type, flags, options[i].last) == 0)
			return 0;
		return -1;
	}
	errno = 0;      /* known, and no file system that is read */
	return -1;
}

/* Of btrfs, read each subvolume at the top that holds a system: Fedora has its root in `root`, Ubuntu in `@`. */
static void read_subvolumes(const struct device *device)
{
	glob_t found = { 0 };
	struct stat st;

	glob(VOLUME "/*/etc", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char *path = found.gl_pathv[i], *root = path + strlen(VOLUME) + 1, name[512];

		path[strlen(path) - strlen("/etc")] = '\0';
		if (strcspn(root, "\n:") != strlen(root) || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			continue;
		snprintf(name, sizeof(name), "%s:%s", device->name, root);
		describe(device, name, root, "");
		read_root(name, path);
	}
	globfree(&found);
}

static void read_volume(const struct device *device)
{
	char why[512], words[400];

	kernel_words(words, sizeof(words));
	if (!device->type || mount_volume(device) < 0) {
		int error = device->type ? errno : 0;

		kernel_words(words, sizeof(words));
		snprintf(why, sizeof(why), "%s%s%s", error ? strerror(error) : "", error && *words ? ": " : "", error ? words : "");
		describe(device, device->name, "", why);
		return;
	}
	describe(device, device->name, "", "");
	read_root(device->name, VOLUME);
	if (strcmp(device->type, "btrfs") == 0)
		read_subvolumes(device);
	umount2(VOLUME, MNT_DETACH);
}

/* -- the disk -- */

static const char *partition_table(int count, const struct device *devices)
{
	char signature[8];

	if (count == 1 && strcmp(devices[0].name, DISK) == 0)
		return "";
	return read_at("/dev/" DISK, SECTOR, signature, 8) == 0 && memcmp(signature, "EFI PART", 8) == 0 ? "gpt" : "mbr";
}

static void read_request(void)
{
	FILE *request = fopen("/request", "re");
	unsigned long long limit;

	while (request && want_count < MAX_WANTS) {
		struct want *want = &wants[want_count];

		if (fscanf(request, "%127s %7s %llu %511[^\n]", want->volume, want->kind, &limit, want->pattern) != 4)
			break;
		want->limit = limit;
		want_count++;
	}
	if (request)
		fclose(request);
}

static void set_up(void)
{
	mkdir("/dev", 0755);
	mkdir(VOLUME, 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	load_module("virtio_pci");
	load_module("virtio_blk");
	for (int i = 0; i < DISK_SECONDS * 20 && access(OUTPUT, F_OK) < 0; i++)
		usleep(50000);
	output = open(OUTPUT, O_WRONLY | O_CLOEXEC);
	if (output < 0)
		fail("opening the disk that takes what is read");
}

int main(void)
{
	static struct device devices[MAX_DEVICES];
	const char *table;
	int count;

	set_up();
	read_request();
	count = find_devices(DISK, devices, MAX_DEVICES);
	table = partition_table(count, devices);
	record('T', DISK, size_of(DISK), table, strlen(table));
	/* arrays first: they may hold physical volumes */
	count += open_arrays(devices, count, devices + count, MAX_DEVICES - count);
	count += open_volume_groups(devices, count, devices + count, MAX_DEVICES - count);
	for (int i = 0; i < count; i++)
		read_volume(&devices[i]);
	record('E', "", 0, "", 0);
	if (fsync(output) < 0)
		fail("writing what was read");
	end();
}
