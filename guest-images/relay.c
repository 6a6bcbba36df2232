/*
 * relay - one byte channel out of the guest: from a Unix socket in it to a port of its virtio-serial device.
 *
 *   relay SOCKET PORT   listen on SOCKET, take one peer, and pass bytes both ways until it closes
 *       prints "listening", then "connected"
 *
 * A QEMU that runs in this guest connects to the socket; the host that runs this guest has the port's other end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "verbs.h"

/* milliseconds */
#define REST 8

static int complain(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

/* Open the port of this name; devtmpfs has it under its number only. */
static int open_port(const char *name)
{
	char text[64], path[64], node[32];
	glob_t found = { 0 };

	glob("/sys/class/virtio-ports/*/name", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		int fd = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

		if (fd >= 0)
			close(fd);
		if (n <= 0)
			continue;
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		if (strcmp(text, name) || sscanf(found.gl_pathv[i], "/sys/class/virtio-ports/%31[^/]", node) != 1)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", node);
		return open(path, O_RDWR | O_CLOEXEC);
	}
	errno = ENODEV;
	return -1;
}

static int take_peer(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), peer = -1;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0)
		return -1;
	dprintf(STDOUT_FILENO, "listening\n");
	do
		peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (peer < 0 && errno == EINTR);
	close(listener);
	unlink(path);
	return peer;
}

/* Pass on what is there; return 0 at the end of the bytes. */
static int pass(int from, int to)
{
	char buffer[16384];
	ssize_t n = read(from, buffer, sizeof(buffer));

	for (ssize_t done = 0, m; done < n; done += m)
		if ((m = write(to, buffer + done, (size_t)(n - done))) <= 0)
			return 0;
	return n > 0;
}

/*
 * Pass bytes both ways until one side closes. QEMU hands on each character of a serial port by itself; a relay that woke
 * for each would take as much of this guest's CPU as the machine that prints. So it rests after what came from there, and
 * not after what goes there. A longer rest would fill the socket: at about 270 characters QEMU makes its machine wait.
 */
static void pass_all(int peer, int port)
{
	for (int resting = 0;;) {
		struct pollfd fds[2] = { { .fd = resting ? -1 : peer, .events = POLLIN }, { .fd = port, .events = POLLIN } };

		if (poll(fds, 2, resting ? REST : -1) < 0)
			continue;
		resting = fds[0].revents != 0;
		if (fds[0].revents && !pass(peer, port))
			return;
		/* POLLHUP of a port says that the host is not there; its bytes may still be */
		if (fds[1].revents && !pass(port, peer))
			return;
	}
}

int relay(const char *path, const char *name)
{
	int port = open_port(name), peer;

	if (port < 0)
		return complain(name);
	peer = take_peer(path);
	if (peer < 0)
		return complain(path);
	dprintf(STDOUT_FILENO, "connected\n");
	pass_all(peer, port);
	return 0;
}
