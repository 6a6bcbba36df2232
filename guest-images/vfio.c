/*
 * vfio - a process that has a PCI function through VFIO, as a VM's QEMU does, and that says what it is asked.
 *
 * It opens container and group, takes the function and prints "held". When the kernel wants the function back it signals
 * the request interrupt (VFIO_PCI_REQ_IRQ_INDEX); the holder is deaf if it has not asked to be told.
 * Source: Documentation/driver-api/vfio.rst, include/uapi/linux/vfio.h
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "verbs.h"

static int complain(const char *doing)
{
	fprintf(stderr, "%s: %s\n", doing, strerror(errno));
	return 1;
}

static int say(const char *word)
{
	puts(word);
	return fflush(stdout);
}

/* Return an eventfd that the kernel signals when it wants the function back, or -1. */
static int listen_for_request(int device)
{
	struct {
		struct vfio_irq_set set;
		int32_t signal;
	} request = {
		.set = {
			.argsz = sizeof(request),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_REQ_IRQ_INDEX,
			.count = 1,
		},
		.signal = eventfd(0, EFD_CLOEXEC),
	};

	if (request.signal < 0 || ioctl(device, VFIO_DEVICE_SET_IRQS, &request) < 0)
		return -1;
	return request.signal;
}

/* Wait until the function is wanted; read `path` then, if there is one, before letting go. */
static int answer_request(int device, const char *path)
{
	int signal = listen_for_request(device), file;
	char content[64];
	uint64_t count;

	if (signal < 0)
		return complain("asking to be told of requests");
	say("held");
	if (read(signal, &count, sizeof(count)) != sizeof(count))
		return complain("waiting for a request");
	say("asked");
	if (!path)
		return 0;
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || read(file, content, sizeof(content)) < 0)
		return complain(path);
	return say("read");
}

int hold_vfio(const char *group_path, const char *function, const char *answer, const char *path)
{
	int container, group, device;

	prctl(PR_SET_NAME, "hold-vfio");
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	group = open(group_path, O_RDWR | O_CLOEXEC);
	if (container < 0 || group < 0)
		return complain(group < 0 ? group_path : "/dev/vfio/vfio");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0 || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) < 0)
		return complain("setting up the container");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, function);
	if (device < 0)
		return complain(function);
	if (strcmp(answer, "deaf") != 0)
		return answer_request(device, path);
	say("held");
	for (;;)
		pause();
}
