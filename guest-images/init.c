/*
 * init - process 1 of the test bed's guest, and its command channel on ttyS1.
 *
 * The guest speaks first, because bytes sent to a line that is not raw yet are echoed and lost: one HELLO frame as
 * soon as ttyS1 is raw. From then on both sides send frames (little endian):
 *
 *   magic "\1TB1" | type u8 | 0 u8 u16 | id u32 | length u32 | time u64 | crc u32 | payload
 *
 * `time` is CLOCK_MONOTONIC in nanoseconds (0 from the host), `crc` is zlib's CRC-32 over type..time and payload.
 * Bytes that are no frame are skipped, so a stray printk on the line costs nothing.
 *
 *   host -> guest                                      guest -> host
 *   R run     argv, each ending in NUL; or a verb      O, E  output of a command (stdout, stderr)
 *   K kill    signal u8, to the command's group        X     "exit N" or "signal N", after its last output
 *   J job     number of a command u32                  J     its process id; nothing if it has ended
 *   T timer   milliseconds u32                         T     the timer has run out
 *   S steps   milliseconds u32, awake u32              S     a step begins (the first at once): held until G comes;
 *   G go on   milliseconds u32 of this step            T     after the last one
 *   W wait    want u8, milliseconds u32, path          W     "1" or "0": does the path exist at the end of the wait
 *   U upload  mode u32, path; D data; Z close          A     done (after each of U, D, Z)
 *   P ping                                             P     pong
 *   L log                                              L     every kernel message so far has been sent before this
 *   C cancel  forget timer or wait `id`                H     hello: protocol, release, command line, trouble, each with NUL
 *                                                      M     records of /dev/kmsg, as read
 *                                                      !     the request failed: message
 *
 * Verbs, which take no program, are in verbs.c. A person (or reproduce.sh) who sends the line "plain" gets a busybox sh on ttyS1 until it exits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/netlink.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "verbs.h"
#include "whole.h"

#define CHANNEL "/dev/ttyS1"
#define PROTOCOL "1"
/* those of a disk's user space, if there is one, before the test bed's */
#define SEARCH "/sbin:/usr/sbin:/bin:/usr/bin"
#define MAGIC "\1TB1"
#define HEADER 28
#define MAX_PAYLOAD 4096
#define MAX_JOBS 64
#define MAX_WAITS 64
#define WAIT_POLL_MS 10         /* between looks at a path while something happens to devices */
#define WAIT_POLL_QUIET_MS 250  /* while nothing does: each look of an idle guest costs the host more than its time */
#define WAIT_BUSY_NS 500000000u /* for so long after a uevent, or the wait's begin */
#define OUTPUT_HIGH_WATER (128 * 1024)

struct job {
	uint32_t id;
	pid_t pid;     /* 0: the slot is free */
	int out, err;  /* -1: closed */
	int status;
	int reaped;
};

struct wait {
	uint32_t id;
	int used;
	int want;           /* -1: a timer */
	uint64_t begun;     /* ns */
	uint64_t deadline;  /* ns */
	uint64_t next;      /* when the next step begins; 0: no steps */
	int held;           /* the host has not said yet to go on */
	int awake;          /* the guest must not idle while held: its time is warped */
	char path[512];
};

struct upload {
	uint32_t id;
	int fd;             /* -1: none */
	char path[512];
};

static struct job jobs[MAX_JOBS];
static struct wait waits[MAX_WAITS];
static struct upload upload = { .fd = -1 };
static int line = -1, kmsg = -1, children = -1, uevents = -1;
static uint64_t last_uevent;    /* ns */
static unsigned char *queue;
static size_t queue_start, queue_end, queue_size;
static unsigned char input[2 * (HEADER + MAX_PAYLOAD)];
static size_t input_length;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- frames ---- */

static uint32_t crc32(uint32_t crc, const unsigned char *data, size_t length)
{
	static const uint32_t nibble[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};

	crc = ~crc;
	while (length--) {
		crc ^= *data++;
		crc = (crc >> 4) ^ nibble[crc & 15];
		crc = (crc >> 4) ^ nibble[crc & 15];
	}
	return ~crc;
}

static void put32(unsigned char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (unsigned char)(value >> (8 * i));
}

static uint32_t get32(const unsigned char *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void enqueue(const unsigned char *data, size_t length)
{
	if (queue_start == queue_end)
		queue_start = queue_end = 0;
	if (queue_end + length > queue_size) {
		memmove(queue, queue + queue_start, queue_end - queue_start);
		queue_end -= queue_start;
		queue_start = 0;
	}
	if (queue_end + length > queue_size) {
		size_t size = (queue_end + length) * 2;
		unsigned char *bigger = realloc(queue, size);

		if (!bigger)
			return; /* the host misses a frame and says so by its own deadline */
		queue = bigger;
		queue_size = size;
	}
	memcpy(queue + queue_end, data, length);
	queue_end += length;
}

static size_t queued(void)
{
	return queue_end - queue_start;
}

static void send_frame(char type, uint32_t id, const void *payload, size_t length)
{
	unsigned char header[HEADER] = MAGIC;
	uint64_t time = now_ns();
	uint32_t crc;

	header[4] = (unsigned char)type;
	put32(header + 8, id);
	put32(header + 12, (uint32_t)length);
	put32(header + 16, (uint32_t)time);
	put32(header + 20, (uint32_t)(time >> 32));
	crc = crc32(0, header + 4, 20);
	put32(header + 24, crc32(crc, payload, length));
	enqueue(header, HEADER);
	enqueue(payload, length);
}

static void send_text(char type, uint32_t id, const char *text)
{
	send_frame(type, id, text, strlen(text));
}

static void send_failure(uint32_t id, const char *what, const char *name)
{
	char text[700];

	snprintf(text, sizeof(text), "%s %s: %s", what, name, strerror(errno));
	send_text('!', id, text);
}

static void flush_queue(void)
{
	while (queued()) {
		ssize_t n = write(line, queue + queue_start, queued());

		if (n <= 0)
			return;
		queue_start += (size_t)n;
	}
}

/* ---- commands ---- */

static struct job *find_job(uint32_t id)
{
	for (int i = 0; i < MAX_JOBS; i++)
		if (jobs[i].pid && jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

static struct job *free_job(void)
{
	for (int i = 0; i < MAX_JOBS; i++)
		if (!jobs[i].pid)
			return &jobs[i];
	return NULL;
}

static void become_command(char **argv, int in, int out, int err)
{
	sigset_t none;
	int status;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	status = run_verb(argv);
	if (status >= 0)
		_exit(status);
	execvp(argv[0], argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void start_command(struct job *job, uint32_t id, char **argv)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 };
	pid_t pid = -1;

	if (pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0)
		pid = fork();
	if (pid == 0)
		become_command(argv, open("/dev/null", O_RDONLY | O_CLOEXEC), out[1], err[1]);
	if (pid < 0) {
		send_failure(id, "starting", argv[0]);
		close(out[0]);
		close(err[0]);
	} else {
		fcntl(out[0], F_SETFL, O_NONBLOCK);
		fcntl(err[0], F_SETFL, O_NONBLOCK);
		*job = (struct job){ .id = id, .pid = pid, .out = out[0], .err = err[0] };
	}
	close(out[1]);
	close(err[1]);
}

static void on_run(uint32_t id, char *payload, size_t length)
{
	char *argv[64];
	size_t count = 0;
	struct job *job = free_job();

	for (char *at = payload; at < payload + length && count < 63; at += strlen(at) + 1)
		argv[count++] = at;
	argv[count] = NULL;
	errno = job ? EINVAL : EAGAIN;
	if (!job || !count)
		send_failure(id, "starting", count ? argv[0] : "nothing");
	else
		start_command(job, id, argv);
}

/*
 * Return whether a read of a pipe returns at once: even with O_NONBLOCK it waits for the pipe's lock, which `cat` of a file
 * in sysfs holds for as long as that file's reader sleeps in the kernel (splice_file_to_pipe()). poll() takes no lock.
 */
static int is_readable(int fd)
{
	struct pollfd pipe = { .fd = fd, .events = POLLIN };

	return poll(&pipe, 1, 0) > 0;
}

/* Forward what a pipe holds; close it at its end. Return 0 once nothing more is to be had now. */
static int forward(struct job *job, int *fd, char type)
{
	char buffer[MAX_PAYLOAD];
	ssize_t n;

	if (*fd < 0 || queued() > OUTPUT_HIGH_WATER || !is_readable(*fd))
		return 0;
	n = read(*fd, buffer, sizeof(buffer));
	if (n > 0) {
		send_frame(type, job->id, buffer, (size_t)n);
		return 1;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(*fd);
		*fd = -1;
	}
	return 0;
}

/* A command has ended once it is reaped and its pipes are drained; what it left running may keep them open. */
static void finish_command(struct job *job)
{
	char text[32];

	while (forward(job, &job->out, 'O') || forward(job, &job->err, 'E'))
		;
	if (queued() > OUTPUT_HIGH_WATER)
		return;
	if (WIFSIGNALED(job->status))
		snprintf(text, sizeof(text), "signal %d", WTERMSIG(job->status));
	else
		snprintf(text, sizeof(text), "exit %d", WEXITSTATUS(job->status));
	send_text('X', job->id, text);
	if (job->out >= 0)
		close(job->out);
	if (job->err >= 0)
		close(job->err);
	job->pid = 0;
}

static void reap(void)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(children, &info, sizeof(info)) == sizeof(info))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < MAX_JOBS; i++)
			if (jobs[i].pid == pid) {
				jobs[i].reaped = 1;
				jobs[i].status = status;
			}
}

/* ---- timers and waits for a path ---- */

static struct wait *add_wait(uint32_t id, int want, uint32_t milliseconds, const char *path, size_t length)
{
	for (int i = 0; i < MAX_WAITS; i++) {
		struct wait *w = &waits[i];

		if (w->used)
			continue;
		*w = (struct wait){ .id = id, .used = 1, .want = want };
		w->begun = now_ns();
		w->deadline = w->begun + (uint64_t)milliseconds * 1000000u;
		memcpy(w->path, path, length < sizeof(w->path) ? length : sizeof(w->path) - 1);
		return w;
	}
	errno = EAGAIN;
	send_failure(id, "waiting for", "a path or a time");
	return NULL;
}

static void begin_step(struct wait *w)
{
	w->held = 1;
	send_text('S', w->id, "");
}

static void add_steps(uint32_t id, uint32_t milliseconds, uint32_t awake)
{
	struct wait *w = add_wait(id, -1, milliseconds, "", 0);

	if (!w)
		return;
	w->awake = awake != 0;
	begin_step(w);
}

static void go_on(uint32_t id, uint32_t milliseconds)
{
	for (int i = 0; i < MAX_WAITS; i++)
		if (waits[i].used && waits[i].id == id) {
			waits[i].held = 0;
			waits[i].next = now_ns() + (uint64_t)milliseconds * 1000000u;
		}
}

static void cancel_wait(uint32_t id)
{
	for (int i = 0; i < MAX_WAITS; i++)
		if (waits[i].used && waits[i].id == id)
			waits[i].used = 0;
}

/* A path may be a pattern, where a part of it is known only once it is there. */
static int is_there(const char *path)
{
	glob_t found = { 0 };
	struct stat st;
	int there;

	if (!strpbrk(path, "*?["))
		return lstat(path, &st) == 0;
	there = glob(path, GLOB_NOSORT, NULL, &found) == 0;
	globfree(&found);
	return there;
}

static void check_waits(void)
{
	for (int i = 0; i < MAX_WAITS; i++) {
		struct wait *w = &waits[i];
		int exists = w->used && w->want >= 0 && is_there(w->path);

		if (!w->used || w->held)
			continue;
		if (w->next && now_ns() >= w->next && now_ns() < w->deadline) {
			begin_step(w);
			continue;
		}
		if (exists != w->want && now_ns() < w->deadline)
			continue;
		w->used = 0;
		if (w->want < 0)
			send_text('T', w->id, "");
		else
			send_text('W', w->id, exists ? "1" : "0");
	}
}

/*
 * An idle guest whose time is warped would run away while the host thinks, so it stays awake until the host answers; and
 * since warped time passes with every instruction, it reads a port meanwhile: few instructions that take long. 0x80 is the
 * diagnostics port, which has no side effects.
 */
static void hold(void)
{
	static int allowed = -1;

	if (allowed < 0)
		allowed = ioperm(0x80, 1, 1) == 0;
	for (int i = 0; allowed && i < 200; i++)
		inb(0x80);
}

static int is_busy(const struct wait *w, uint64_t now)
{
	uint64_t since = w->begun > last_uevent ? w->begun : last_uevent;

	return uevents < 0 || now - since < WAIT_BUSY_NS;
}

static int poll_timeout(void)
{
	uint64_t now = now_ns();
	int timeout = -1;

	for (int i = 0; i < MAX_WAITS; i++) {
		uint64_t until;
		int left, poll_ms;

		if (!waits[i].used)
			continue;
		if (waits[i].held && waits[i].awake) {
			hold();
			return 0;
		}
		if (waits[i].held)
			continue;
		until = waits[i].next && waits[i].next < waits[i].deadline ? waits[i].next : waits[i].deadline;
		left = until > now ? (int)((until - now) / 1000000u) + 1 : 0;
		poll_ms = is_busy(&waits[i], now) ? WAIT_POLL_MS : WAIT_POLL_QUIET_MS;
		if (waits[i].want >= 0 && left > poll_ms)
			left = poll_ms;
		if (timeout < 0 || left < timeout)
			timeout = left;
	}
	return timeout;
}

/* ---- files from the host ---- */

static void on_upload(uint32_t id, uint32_t mode, const char *path, size_t length)
{
	if (upload.fd >= 0)
		close(upload.fd);
	upload = (struct upload){ .id = id };
	memcpy(upload.path, path, length < sizeof(upload.path) ? length : sizeof(upload.path) - 1);
	upload.fd = open(upload.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (upload.fd < 0)
		send_failure(id, "creating", upload.path);
	else
		send_text('A', id, "");
}

static void on_data(uint32_t id, const char *data, size_t length)
{
	errno = EBADF;
	if (upload.fd < 0 || upload.id != id || write(upload.fd, data, length) != (ssize_t)length)
		send_failure(id, "writing", upload.path);
	else
		send_text('A', id, "");
}

static void on_close(uint32_t id)
{
	if (upload.fd >= 0)
		close(upload.fd);
	upload.fd = -1;
	send_text('A', id, "");
}

/* ---- the kernel log ---- */

static int send_kernel_log(void)
{
	char buffer[MAX_PAYLOAD];
	size_t used = 0;

	/* one record a read; a record is at most 1 KiB of text plus its dictionary, so a quarter stays free for it */
	while (used < MAX_PAYLOAD / 4 * 3) {
		ssize_t n = read(kmsg, buffer + used, sizeof(buffer) - used);

		if (n < 0 && errno == EPIPE)
			continue; /* overwritten before it was read: the sequence numbers show the gap */
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	if (used)
		send_frame('M', 0, buffer, used);
	return used > 0;
}

/* Bounded: a driver that floods the log must not keep the answer for ever. */
static void on_log(uint32_t id)
{
	for (int i = 0; i < 1000 && send_kernel_log(); i++)
		;
	send_text('L', id, "");
}

/* ---- the line ---- */

static void on_kill(uint32_t id, int number)
{
	struct job *job = find_job(id);

	/* a command that has not made its own session yet is still in init's group */
	if (job && kill(-job->pid, number) < 0)
		kill(job->pid, number);
}

static void on_job(uint32_t id, uint32_t command)
{
	char text[16] = "";
	struct job *job = find_job(command);

	if (job)
		snprintf(text, sizeof(text), "%d", (int)job->pid);
	send_text('J', id, text);
}

static void on_frame(char type, uint32_t id, unsigned char *payload, size_t length)
{
	char *text = (char *)payload;

	text[length] = '\0'; /* the buffer has room: see on_input() */
	if (type == 'R')
		on_run(id, text, length);
	else if (type == 'K' && length == 1)
		on_kill(id, payload[0]);
	else if (type == 'J' && length == 4)
		on_job(id, get32(payload));
	else if (type == 'T' && length == 4)
		add_wait(id, -1, get32(payload), "", 0);
	else if (type == 'S' && length == 8)
		add_steps(id, get32(payload), get32(payload + 4));
	else if (type == 'G' && length == 4)
		go_on(id, get32(payload));
	else if (type == 'W' && length > 5)
		add_wait(id, payload[0] != 0, get32(payload + 1), text + 5, length - 5);
	else if (type == 'C')
		cancel_wait(id);
	else if (type == 'U' && length > 4)
		on_upload(id, get32(payload), text + 4, length - 4);
	else if (type == 'D')
		on_data(id, text, length);
	else if (type == 'Z')
		on_close(id);
	else if (type == 'P')
		send_text('P', id, "");
	else if (type == 'L')
		on_log(id);
	else
		send_text('!', id, "unknown request");
}

/* Give ttyS1 to a plain shell, for people and for reproduce.sh. */
static void plain_shell(void)
{
	static char *argv[] = { "sh", NULL };
	int tty = open(CHANNEL, O_RDWR | O_NOCTTY | O_CLOEXEC);
	pid_t pid = fork();

	if (pid == 0) {
		dprintf(tty, "\nplain\n"); /* whoever asked waits for this: what he sends before it is lost */
		become_command(argv, tty, tty, tty);
	}
	close(tty);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void drop_input(size_t count)
{
	input_length -= count;
	memmove(input, input + count, input_length);
}

/* Take one frame, the word "plain" or one stray byte from the input; return 0 when more bytes are needed. */
static int take_input(void)
{
	static const char plain[] = "plain\n";
	size_t length, known = input_length < 4 ? input_length : 4;
	uint32_t crc;
	unsigned char after;

	if (!input_length)
		return 0;
	if (memcmp(input, plain, input_length < 6 ? input_length : 6) == 0) {
		if (input_length < 6)
			return 0;
		drop_input(6);
		plain_shell();
		return 1;
	}
	if (memcmp(input, MAGIC, known) != 0) {
		drop_input(1);
		return 1;
	}
	if (input_length < HEADER)
		return 0;
	length = get32(input + 12);
	if (length > MAX_PAYLOAD) {
		drop_input(1);
		return 1;
	}
	if (input_length < HEADER + length)
		return 0;
	crc = crc32(crc32(0, input + 4, 20), input + HEADER, length);
	if (crc != get32(input + 24)) {
		drop_input(1);
		return 1;
	}
	after = input[HEADER + length];
	on_frame((char)input[4], get32(input + 8), input + HEADER, length);
	input[HEADER + length] = after;
	drop_input(HEADER + length);
	return 1;
}

static void on_input(void)
{
	/* one byte is kept free: on_frame() ends each payload with a NUL */
	ssize_t n = read(line, input + input_length, sizeof(input) - 1 - input_length);

	if (n > 0)
		input_length += (size_t)n;
	while (take_input())
		;
}

/* ---- start ---- */

static void mount_all(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/tmp", 01777);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
}

static void say_hello(const char *trouble)
{
	struct utsname name;
	char text[MAX_PAYLOAD + 1024];
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC), used;
	ssize_t n;

	uname(&name);
	used = snprintf(text, sizeof(text), "%s%c%s%c", PROTOCOL, 0, name.release, 0);
	n = read(fd, text + used, MAX_PAYLOAD - 1024 - (size_t)used);
	close(fd);
	if (n > 0 && text[used + n - 1] == '\n')
		n--;
	used += n > 0 ? (int)n : 0;
	used += snprintf(text + used, sizeof(text) - (size_t)used, "%c%s%c", 0, trouble, 0);
	send_frame('H', 0, text, (size_t)used);
}

static void no_channel(const char *what)
{
	int fd = open("/dev/kmsg", O_WRONLY);

	/* level 0, so that it is seen on the console whatever the loglevel */
	dprintf(fd, "<0>testbed-init: no command channel: %s: %s\n", what, strerror(errno));
	for (;;)
		pause();
}

static void open_channel(void)
{
	struct termios mode;

	line = open(CHANNEL, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (line < 0)
		no_channel("opening " CHANNEL);
	if (tcgetattr(line, &mode) < 0)
		no_channel("reading the mode of " CHANNEL);
	cfmakeraw(&mode);
	mode.c_cflag |= CLOCAL;
	cfsetspeed(&mode, B115200);
	if (tcsetattr(line, TCSANOW, &mode) < 0)
		no_channel("making " CHANNEL " raw");
}

/* The kernel tells of devices that come and go before sysfs shows it: so an event says when to look, not what is there. */
static void open_uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };

	uevents = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (uevents >= 0 && bind(uevents, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(uevents);
		uevents = -1;
	}
}

static void note_uevents(void)
{
	char event[8192];

	/* ENOBUFS says that some were lost: they were events all the same */
	while (recv(uevents, event, sizeof(event), 0) > 0 || errno == ENOBUFS)
		;
	last_uevent = now_ns();
}

static void watch_children(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	children = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void turn(void)
{
	struct pollfd fds[4 + 2 * MAX_JOBS] = {
		{ .fd = line, .events = (short)(POLLIN | (queued() ? POLLOUT : 0)) },
		{ .fd = children, .events = POLLIN },
		/* the log waits for the answers: a flood of records must not delay a verdict */
		{ .fd = queued() ? -1 : kmsg, .events = POLLIN },
		{ .fd = uevents, .events = POLLIN },
	};
	nfds_t count = 4;

	for (int i = 0; i < MAX_JOBS && queued() < OUTPUT_HIGH_WATER; i++) {
		if (!jobs[i].pid || jobs[i].reaped)
			continue;
		fds[count++] = (struct pollfd){ .fd = jobs[i].out, .events = POLLIN };
		fds[count++] = (struct pollfd){ .fd = jobs[i].err, .events = POLLIN };
	}
	poll(fds, count, poll_timeout());
	if (fds[0].revents & POLLIN)
		on_input();
	if (fds[1].revents)
		reap();
	for (int i = 0; i < MAX_JOBS; i++) {
		if (!jobs[i].pid)
			continue;
		forward(&jobs[i], &jobs[i].out, 'O');
		forward(&jobs[i], &jobs[i].err, 'E');
		if (jobs[i].reaped)
			finish_command(&jobs[i]);
	}
	if (fds[3].revents)
		note_uevents();
	check_waits();
	if (fds[2].revents && !queued())
		send_kernel_log();
	flush_queue();
}

int main(int argc, char **argv)
{
	const char *trouble = NULL;
	int whole;

	(void)argc;
	mount_all();
	whole = access(WHOLE, F_OK) == 0;
	if (whole)
		trouble = enter_whole(argv);
	setenv("PATH", whole && !trouble ? SEARCH ":/run/testbed/bin" : SEARCH, 1);
	setenv("HOME", "/", 1);
	setenv("TERM", "dumb", 1);
	open_channel();
	watch_children();
	open_uevents();
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	say_hello(trouble ? trouble : "");
	for (;;)
		turn();
}
