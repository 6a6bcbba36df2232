/*
 * nic - a network card proven, or kept busy, by ARP requests for QEMU's gateway.
 *
 * Where nothing answers, on a hub, another card on it (the peer) must see the request itself. A request is told from
 * others by the address it says it comes from.
 *
 * send-frames numbers that address and sends a hundred requests a second, until the interface is gone or SIGTERM comes;
 * then it waits a moment for what is on its way. Prints how many were sent, how many of them the kernel refused (an
 * interface that is down), how many were lost before the mark, and what is in load.c; done is what was answered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"
#include "verbs.h"

#define CARRIER_MS 10000        /* link negotiation takes up to three seconds in the emulated Intel cards */
#define CARRIER_POLL_MS 20
#define ANSWER_MS 8000
#define RESEND_MS 100
#define GATEWAY 0x0a000202u     /* 10.0.2.2: QEMU's user network, unless told otherwise */
#define ASKER 0x0a000280u       /* of the gateway's network, and the lowest bits are the asker's own */
#define NUMBERED 0x0a800000u    /* 10.128.0.0/9: 23 bits of number */
#define MOST_FRAMES (1u << 23)
#define PERIOD_NS 10000000u
#define GRACE_NS 500000000u
#define ON_THEIR_WAY 20         /* frames that the mark may catch: 0.2 s of them */

struct exchange {
	int fd, self, peer;     /* peer: -1 where the gateway answers */
	unsigned char frame[ETH_ZLEN];
};

static uint64_t now_ms(void)
{
	return load_now() / 1000000u;
}

static int complain(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

static int set_up(int fd, const char *name)
{
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return complain(name);
	request.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? complain(name) : 0;
}

static int await_carrier(int fd, const char *name)
{
	struct ifreq request = { 0 };
	uint64_t end = now_ms() + CARRIER_MS;

	snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
	do {
		if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
			return complain(name);
		if (request.ifr_flags & IFF_RUNNING)
			return 0;
		usleep(CARRIER_POLL_MS * 1000);
	} while (now_ms() < end);
	fprintf(stderr, "no carrier after %d s\n", CARRIER_MS / 1000);
	return 1;
}

static struct ether_arp *arp_of(unsigned char *frame)
{
	return (struct ether_arp *)(frame + sizeof(struct ether_header));
}

/* Fill a broadcast frame that asks for the gateway. */
static int make_request(struct exchange *e, const char *name)
{
	struct ifreq request = { 0 };
	struct ether_header *header = (struct ether_header *)e->frame;
	struct ether_arp *arp = arp_of(e->frame);
	uint32_t gateway = htonl(GATEWAY);

	snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
	if (ioctl(e->fd, SIOCGIFHWADDR, &request) < 0)
		return complain(name);
	*arp = (struct ether_arp){
		.ea_hdr = { htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), ETH_ALEN, 4, htons(ARPOP_REQUEST) },
	};
	memcpy(arp->arp_sha, request.ifr_hwaddr.sa_data, ETH_ALEN);
	memcpy(arp->arp_tpa, &gateway, 4);
	memset(header->ether_dhost, 0xff, ETH_ALEN);
	memcpy(header->ether_shost, arp->arp_sha, ETH_ALEN);
	header->ether_type = htons(ETHERTYPE_ARP);
	return 0;
}

static int send_as(struct exchange *e, uint32_t asker)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = e->self };

	asker = htonl(asker);
	memcpy(arp_of(e->frame)->arp_spa, &asker, 4);
	return sendto(e->fd, e->frame, sizeof(e->frame), MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) < 0 ? -1 : 0;
}

/* Take one frame; return who had asked if it is an answer to us on `self`, or a request of ours on `peer`, else 0. */
static uint32_t take(struct exchange *e, uint8_t answerer[ETH_ALEN])
{
	struct { struct ether_header header; struct ether_arp arp; } __attribute__((packed)) frame;
	struct sockaddr_ll from;
	socklen_t size = sizeof(from);
	const uint8_t *own = arp_of(e->frame)->arp_sha;
	uint32_t asker = 0;

	if (recvfrom(e->fd, &frame, sizeof(frame), MSG_DONTWAIT, (struct sockaddr *)&from, &size) < (ssize_t)sizeof(frame))
		return 0;
	memcpy(answerer, frame.arp.arp_sha, ETH_ALEN);
	if (from.sll_ifindex == e->self && frame.arp.ea_hdr.ar_op == htons(ARPOP_REPLY) &&
	    memcmp(frame.arp.arp_tha, own, ETH_ALEN) == 0)
		memcpy(&asker, frame.arp.arp_tpa, 4);
	else if (from.sll_ifindex == e->peer && from.sll_pkttype != PACKET_OUTGOING &&
		 frame.arp.ea_hdr.ar_op == htons(ARPOP_REQUEST) && memcmp(frame.arp.arp_sha, own, ETH_ALEN) == 0)
		memcpy(&asker, frame.arp.arp_spa, 4);
	return ntohl(asker);
}

static int open_exchange(struct exchange *e, const char *name, const char *peer)
{
	e->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ARP));
	if (e->fd < 0)
		return complain("packet socket");
	if (set_up(e->fd, name) || (peer && (set_up(e->fd, peer) || await_carrier(e->fd, peer))) || await_carrier(e->fd, name))
		return 1;
	e->self = (int)if_nametoindex(name);
	e->peer = peer ? (int)if_nametoindex(peer) : -1;
	return make_request(e, name);
}

/* Send until a frame comes back. The guest stays awake: where its time is warped, an idle one would outrun its peer. */
static int exchange(struct exchange *e)
{
	uint64_t end = now_ms() + ANSWER_MS, next = 0;
	uint32_t asker = ASKER;
	uint8_t own = 0, mac[ETH_ALEN];

	if (getrandom(&own, 1, GRND_NONBLOCK) < 0)
		own = (uint8_t)getpid();
	asker |= own;
	for (uint64_t now; (now = now_ms()) < end;) {
		if (now >= next && send_as(e, asker) < 0)
			return complain("sending a frame");
		if (now >= next)
			next = now + RESEND_MS;
		if (take(e, mac) != asker)
			continue;
		if (e->peer >= 0)
			dprintf(STDOUT_FILENO, "frame seen on its peer\n");
		else
			dprintf(STDOUT_FILENO, "ARP answered by %02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2],
				mac[3], mac[4], mac[5]);
		return 0;
	}
	fprintf(stderr, "no frame came back within %d s\n", ANSWER_MS / 1000);
	return 1;
}

int prove_nic(const char *name, const char *peer)
{
	struct exchange e = { 0 };

	if (open_exchange(&e, name, peer))
		return 1;
	dprintf(STDOUT_FILENO, "carrier\n");
	return exchange(&e);
}

/* ---- kept busy ---- */

struct sender {
	struct exchange exchange;
	struct load load;
	uint32_t sent, refused, mark;   /* mark: frames sent before it */
};

static uint8_t answered[MOST_FRAMES / 8];

static void hear(struct sender *s)
{
	uint8_t mac[ETH_ALEN];
	struct pollfd readable = { .fd = s->exchange.fd, .events = POLLIN };

	poll(&readable, 1, (int)(PERIOD_NS / 1000000u / 2));
	for (uint32_t asker; poll(&readable, 1, 0) > 0 && readable.revents & POLLIN;) {
		asker = take(&s->exchange, mac) - NUMBERED;
		if (asker >= s->sent || answered[asker / 8] & 1u << asker % 8)
			continue;
		answered[asker / 8] |= (uint8_t)(1u << asker % 8);
		load_count(&s->load);
	}
}

/* Send the next frame; return an errno if the interface is gone. */
static int send_next(struct sender *s)
{
	if (load_marked && !s->mark)
		s->mark = s->sent;
	if (send_as(&s->exchange, NUMBERED + s->sent++) == 0)
		return 0;
	if (errno == ENXIO || errno == ENODEV)
		return errno;
	s->refused++;
	return 0;
}

static uint32_t lost_before_mark(const struct sender *s)
{
	uint32_t lost = 0, until = s->mark > ON_THEIR_WAY ? s->mark - ON_THEIR_WAY : 0;

	for (uint32_t number = 0; number < until; number++)
		lost += !(answered[number / 8] & 1u << number % 8);
	return lost;
}

int send_frames(const char *name, const char *peer)
{
	static struct sender s;
	uint64_t next = 0, end = 0;
	int failed = 0;

	load_begin(&s.load);
	if (open_exchange(&s.exchange, name, peer))
		return 1;
	s.load.last = load_now();
	while (!failed && (!end || load_now() < end)) {
		if (!load_ended && s.sent < MOST_FRAMES && load_now() >= next) {
			next = load_now() + PERIOD_NS;
			failed = send_next(&s);
		}
		if (load_ended && !end) {
			load_stop(&s.load);
			end = load_now() + GRACE_NS;
		}
		hear(&s);
	}
	if (failed)
		fprintf(stderr, "%s\n", strerror(failed));
	printf("sent=%u refused=%u lost_before=%u", s.sent, s.refused, lost_before_mark(&s));
	load_print(&s.load);
	return fflush(stdout) == 0 ? failed != 0 : 1;
}
