/*
 * whole - the switch to the user space of a customer's disk, as an initrd does it.
 *
 * /whole says where the root is: the number of a partition (0: the disk has none), an array (md0) or a logical volume
 * (group/volume); then the type of the file system, and a subvolume or `-`. The disk is known by its serial number. The process that serves the test bed is forked off before the disk's init
 * is executed, so it does not depend on which init that is; what it needs of the test bed's is below /run/testbed:
 *
 *   root   this initramfs, with /dev, /proc and /sys
 *   bin    its programs, last in the PATH: the disk's own come before them
 *
 * systemd leaves a process alone, even when it shuts down, whose name begins with `@` (systemd's ROOT_STORAGE_DAEMONS).
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
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"
#include "whole.h"

#define SERIAL "testbed-system"
#define ROOT "/image"
#define OWN ROOT "/run/testbed"
#define DISK_SECONDS 20
#define MAX_DEVICES 128

static char trouble[700];

static const char *failed(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *failed(const char *format, ...)
{
	va_list arguments;
	int used;

	va_start(arguments, format);
	used = vsnprintf(trouble, sizeof(trouble), format, arguments);
	va_end(arguments);
	if (errno && used < (int)sizeof(trouble))
		snprintf(trouble + used, sizeof(trouble) - (size_t)used, ": %s", strerror(errno));
	return trouble;
}

void say(const char *format, ...)
{
	int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	dprintf(log, "testbed-init: %s\n", text);
	close(log);
}

/* Read a small file; what cannot be read is empty. */
static void read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

/* Return the value of the last `name=value`, or of the last `name`, on the kernel's command line; NULL if there is none. */
static const char *option(const char *name)
{
	static char line[4096];
	const char *found = NULL;
	size_t length = strlen(name);
	char *save, *word;

	read_text("/proc/cmdline", line, sizeof(line));
	for (word = strtok_r(line, " \t\n", &save); word && strcmp(word, "--") != 0; word = strtok_r(NULL, " \t\n", &save))
		if (strncmp(word, name, length) == 0 && (word[length] == '=' || !word[length]))
			found = word + length + (word[length] == '=');
	return found;
}

/* Find the disk by its serial number; its name is put into `name`. */
static int find_disk(char *name, size_t size)
{
	glob_t found = { 0 };
	int there = 0;

	glob("/sys/block/*/serial", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc && !there; i++) {
		char serial[64];

		read_text(found.gl_pathv[i], serial, sizeof(serial));
		there = strncmp(serial, SERIAL, strlen(SERIAL)) == 0;
		if (there)
			snprintf(name, size, "%.*s", (int)strcspn(found.gl_pathv[i] + 11, "/"), found.gl_pathv[i] + 11);
	}
	globfree(&found);
	return there;
}

/* Find the node of the root: a partition, or what is made of partitions. */
static int find_root(const char *disk, const char *root, char *node, size_t size)
{
	static struct device devices[MAX_DEVICES];
	int count;

	if (strspn(root, "0123456789") == strlen(root)) {
		snprintf(node, size, "/dev/%s%s", disk, strcmp(root, "0") == 0 ? "" : root);
		return 1;
	}
	count = find_devices(disk, devices, MAX_DEVICES);
	count += open_arrays(devices, count, devices + count, MAX_DEVICES - count);
	count += open_volume_groups(devices, count, devices + count, MAX_DEVICES - count);
	for (int i = 0; i < count; i++)
		if (strcmp(devices[i].name, root) == 0) {
			snprintf(node, size, "%s", devices[i].node);
			return 1;
		}
	return 0;
}

static const char *mount_root(void)
{
	char text[1024], root[256], type[32], subvolume[256], name[64], node[400], data[300] = "";

	read_text(WHOLE, text, sizeof(text));
	if (sscanf(text, "%255s %31s %255s", root, type, subvolume) != 3) {
		errno = 0;
		return failed("%s makes no sense", WHOLE);
	}
	load_module("virtio_pci");
	load_module("virtio_blk");
	load_module(type);
	for (int i = 0; i < DISK_SECONDS * 20 && !find_disk(name, sizeof(name)); i++)
		usleep(50000);
	errno = 0;
	if (!find_disk(name, sizeof(name)))
		return failed("the kernel has not found its disk within %d s: has it a driver for virtio-blk?", DISK_SECONDS);
	if (!find_root(name, root, node, sizeof(node)))
		return failed("the root, %s, is not on the disk", root);
	if (strcmp(subvolume, "-") != 0)
		snprintf(data, sizeof(data), "subvol=%s", subvolume);
	mkdir(ROOT, 0755);
	/* as initrds do it: its own fstab says what it is to be later */
	if (mount(node, ROOT, type, option("ro") ? MS_RDONLY : 0, data) < 0)
		return failed("mounting %s (%s), the root", node, type);
	return NULL;
}

/* Put the test bed's programs where the disk's processes find them: applets as links, what needs its libraries by chroot. */
static void offer_program(const char *folder, const char *name)
{
	char path[512], place[512], script[1024], target[64];
	int fd;

	snprintf(path, sizeof(path), "/%s/%s", folder, name);
	snprintf(place, sizeof(place), OWN "/bin/%s", name);
	if (readlink(path, target, sizeof(target)) > 0 || strcmp(name, "busybox") == 0) {
		symlink("../root/bin/busybox", place);
		return;
	}
	fd = open(place, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	snprintf(script, sizeof(script), "#!/run/testbed/bin/sh\nexec /run/testbed/bin/chroot /run/testbed/root %s \"$@\"\n", path);
	if (fd >= 0 && write(fd, script, strlen(script)) < 0)
		unlink(place);
	if (fd >= 0)
		close(fd);
}

static void offer_programs(void)
{
	static const char *const folders[] = { "bin", "sbin", "usr/bin", "usr/sbin" };

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		char path[32];
		struct dirent *entry;
		DIR *entries;

		snprintf(path, sizeof(path), "/%s", folders[i]);
		entries = opendir(path);
		while (entries && (entry = readdir(entries)))
			if (entry->d_name[0] != '.')
				offer_program(folders[i], entry->d_name);
		if (entries)
			closedir(entries);
	}
}

static const char *make_own(void)
{
	mkdir(ROOT "/run", 0755);
	if (mount("tmpfs", ROOT "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0)
		return failed("mounting /run of the disk's system");
	mkdir(OWN, 0755);
	mkdir(OWN "/bin", 0755);
	mkdir(OWN "/root", 0755);
	if (mount("/", OWN "/root", NULL, MS_BIND, NULL) < 0)
		return failed("showing the initramfs to the disk's system");
	mount("proc", OWN "/root/proc", "proc", 0, NULL);
	mount("sysfs", OWN "/root/sys", "sysfs", 0, NULL);
	mount("devtmpfs", OWN "/root/dev", "devtmpfs", 0, NULL);
	offer_programs();
	return NULL;
}

static const char *switch_root(void)
{
	static const char *const moved[] = { "/dev", "/proc", "/sys" };

	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		char place[64];

		snprintf(place, sizeof(place), ROOT "%s", moved[i]);
		mkdir(place, 0755);
		if (mount(moved[i], place, NULL, MS_MOVE, NULL) < 0)
			return failed("moving %s to the disk's system", moved[i]);
	}
	if (chdir(ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return failed("making the disk's file system the root");
	return NULL;
}

/* Become the disk's init, with the arguments and the environment that the kernel has given to this one. */
static void become_init(const char *asked, char **argv)
{
	const char *const inits[] = { asked ? asked : "/sbin/init", "/etc/init", "/bin/init", "/bin/sh" };
	int log;

	for (size_t i = 0; i < (asked ? 1 : sizeof(inits) / sizeof(inits[0])); i++) {
		argv[0] = (char *)inits[i];
		execv(inits[i], argv);
	}
	log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	dprintf(log, "<0>testbed-init: the disk's init cannot be executed: %s: %s\n", inits[0], strerror(errno));
	_exit(1);
}

const char *enter_whole(char **argv)
{
	const char *asked = option("init"), *why;
	char *init = asked ? strdup(asked) : NULL, *name = argv[0];
	int score;
	pid_t server;

	if ((why = mount_root()) || (why = make_own()) || (why = switch_root()))
		return why;
	server = fork();
	if (server < 0)
		return failed("starting the test bed's process");
	if (server > 0)
		become_init(init, argv);
	setsid();
	name[0] = '@';
	score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	dprintf(score, "-1000");
	close(score);
	return NULL;
}
