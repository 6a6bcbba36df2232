/* port - a write to an I/O port of the machine's chipset, past every driver. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>

#include "verbs.h"

int write_port(unsigned short port, unsigned int value)
{
	if (ioperm(port, 4, 1) < 0) {
		fprintf(stderr, "I/O port 0x%x: %s\n", port, strerror(errno));
		return 1;
	}
	outl(value, port);
	return 0;
}
