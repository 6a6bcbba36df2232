/*
 * mmio-probe - one access to a device register, once or many times, by the route that is asked for.
 *
 *   mmio-probe addresses
 *       prints where the instructions of the routes user and port stand: NAME ADDRESS PAUSE, a line each; a program
 *       that stands at ADDRESS and is sent to PAUSE comes to ADDRESS again
 *   mmio-probe ROUTE read|write WIDTH COUNT VALUE PATH OFFSET
 *       user    maps PATH (a resourceN of sysfs, or /dev/mem) and accesses it: the privilege is the program's
 *       kernel  maps it too, and has the kernel access the mapping through /proc/self/mem (generic_access_phys)
 *       file    has the kernel access PATH itself: config, a resourceN of ports, /dev/mem
 *       port    in and out at OFFSET; PATH is not looked at
 *
 * It prints one line: the value of the first and the last read, and what the accesses took. On failure it prints what
 * failed and errno, and exits with 1. Without a libc and linked to a place where no other program has its code: a
 * debugger that stops an access instruction stops nobody else.
 */
#include <stdint.h>
#include <linux/time_types.h>
#include <asm/unistd.h>

#define PAGE 4096ul
#define O_RDWR 2
#define O_SYNC 04010000
#define PROT_READ_WRITE 3
#define MAP_SHARED 1
#define CLOCK_MONOTONIC 1
#define CALIBRATION_NS 1000000u

/*
 * Every access is one instruction with a name of its own. For each there is a pause that leads to it, of 2^28 ticks, about
 * 0.1 s of most CPUs: a debugger that has the program begin an access again sends it there. Otherwise it would stop the
 * machine (and flush what QEMU has translated) hundreds of times a second, and nothing else would get on. QEMU runs the
 * page of a breakpoint instruction by instruction, so the pauses have another.
 */
#define TICKS "rdtsc\n" "shlq $32, %rdx\n" "orq %rdx, %rax\n"
#define ACCESS(name, load, instruction) \
	".section .access, \"ax\", @progbits\n" \
	".balign 16\n" ".globl call_" name "\n" "call_" name ": " load \
	".globl " name "\n" name ": " instruction "\n" "ret\n" \
	".section .pauses, \"ax\", @progbits\n" \
	".balign 16\n" ".globl before_" name "\n" "before_" name ": " TICKS "leaq 0x10000000(%rax), %rcx\n" \
	"1: " TICKS "cmpq %rcx, %rax\n" "jb 1b\n" "jmp call_" name "\n"
#define USER(name, instruction) ACCESS(name, "", instruction)
#define PORT(name, instruction) ACCESS(name, "movl %edi, %edx\n" "movl %esi, %eax\n", instruction)

__asm__(
	".section .access, \"ax\", @progbits\n" ".balign 4096\n"
	".section .pauses, \"ax\", @progbits\n" ".balign 4096\n"
	USER("user_read1", "movzbl (%rdi), %eax")
	USER("user_read2", "movzwl (%rdi), %eax")
	USER("user_read4", "movl (%rdi), %eax")
	USER("user_read8", "movq (%rdi), %rax")
	USER("user_write1", "movb %sil, (%rdi)")
	USER("user_write2", "movw %si, (%rdi)")
	USER("user_write4", "movl %esi, (%rdi)")
	USER("user_write8", "movq %rsi, (%rdi)")
	PORT("port_read1", "inb %dx, %al")
	PORT("port_read2", "inw %dx, %ax")
	PORT("port_read4", "inl %dx, %eax")
	PORT("port_write1", "outb %al, %dx")
	PORT("port_write2", "outw %ax, %dx")
	PORT("port_write4", "outl %eax, %dx")
	".text\n"
	".globl _start\n"
	"_start: movq %rsp, %rdi\n"
	"andq $-16, %rsp\n"
	"call begin\n"
);

typedef uint64_t access_function(uint64_t address, uint64_t value);

#define EACH(each) \
	each(user_read1) each(user_read2) each(user_read4) each(user_read8) \
	each(user_write1) each(user_write2) each(user_write4) each(user_write8) \
	each(port_read1) each(port_read2) each(port_read4) \
	each(port_write1) each(port_write2) each(port_write4)

/* call_NAME makes the access, NAME is its instruction, before_NAME pauses and makes it again */
#define DECLARE(name) extern access_function call_##name, name, before_##name;
EACH(DECLARE)

struct access {
	const char *name;
	access_function *run, *instruction, *before;
};

#define ROW(name) { #name, call_##name, name, before_##name },

static const struct access accesses[] = { EACH(ROW) };

struct request {
	char route;             /* its first letter */
	int writes;
	uint64_t width, count, value, offset;
	const char *path;
	const struct access *access;    /* of user and port */
	int fd;                         /* of kernel and file */
	uint64_t target;                /* address, port, or place in the file */
};

/* ---- the kernel ---- */

static long call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
		: "=a"(result)
		: "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return result;
}

static uint64_t now_ns(void)
{
	struct __kernel_timespec t;

	call(__NR_clock_gettime, CLOCK_MONOTONIC, (uint64_t)&t, 0, 0, 0, 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* ---- text ---- */

static char line[1024];
static uint64_t used;

static void put(const char *text)
{
	while (*text && used < sizeof(line))
		line[used++] = *text++;
}

static void put_number(uint64_t number, uint64_t base)
{
	char digits[24];
	int n = 0;

	do
		digits[n++] = "0123456789abcdef"[number % base];
	while (number /= base);
	while (n && used < sizeof(line))
		line[used++] = digits[--n];
}

static void flush(int fd)
{
	call(__NR_write, (uint64_t)fd, (uint64_t)line, used, 0, 0, 0);
	used = 0;
}

static void leave(int status)
{
	for (;;)
		call(__NR_exit_group, (uint64_t)status, 0, 0, 0, 0, 0);
}

static void fail(const char *what, long result)
{
	put(what);
	put(" failed, errno ");
	put_number((uint64_t)-result, 10);
	put("\n");
	flush(2);
	leave(1);
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static uint64_t number(const char *text)
{
	uint64_t base = text[0] == '0' && text[1] == 'x' ? 16 : 10, value = 0;

	for (text += base == 16 ? 2 : 0; *text; text++)
		value = value * base + (uint64_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
	return value;
}

/* ---- the access ---- */

static const struct access *find(const struct request *r)
{
	char name[] = "user_write1";
	const char *from = r->route == 'u' ? (r->writes ? "user_write" : "user_read")
					   : (r->writes ? "port_write" : "port_read");
	int n = 0;

	for (; from[n]; n++)
		name[n] = from[n];
	name[n++] = (char)('0' + r->width);
	name[n] = '\0';
	for (unsigned int i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++)
		if (same(accesses[i].name, name))
			return &accesses[i];
	fail("width", 0);
	return 0;
}

static int opened(const char *path)
{
	long fd = call(__NR_open, (uint64_t)path, O_RDWR | O_SYNC, 0, 0, 0, 0);

	if (fd < 0)
		fail("open", fd);
	return (int)fd;
}

static uint64_t mapped(const struct request *r)
{
	uint64_t from = r->offset & ~(PAGE - 1), length = ((r->offset + r->width - 1) | (PAGE - 1)) + 1 - from;
	long at = call(__NR_mmap, 0, length, PROT_READ_WRITE, MAP_SHARED, (uint64_t)opened(r->path), from);

	if (at < 0 && at > -4096)
		fail("mmap", at);
	return (uint64_t)at + (r->offset - from);
}

static void prepare(struct request *r)
{
	long result;

	r->target = r->offset;
	if (r->route == 'u' || r->route == 'k')
		r->target = mapped(r);
	if (r->route == 'k' || r->route == 'f')
		r->fd = opened(r->route == 'k' ? "/proc/self/mem" : r->path);
	if (r->route == 'u' || r->route == 'p')
		r->access = find(r);
	result = r->route == 'p' ? call(__NR_iopl, 3, 0, 0, 0, 0, 0) : 0;
	if (result < 0)
		fail("iopl", result);
}

static uint64_t by_kernel(const struct request *r)
{
	uint64_t value = r->writes ? r->value : 0;
	long done = call(r->writes ? __NR_pwrite64 : __NR_pread64, (uint64_t)r->fd, (uint64_t)&value, r->width, r->target, 0, 0);

	if (done != (long)r->width)
		fail(r->writes ? "write" : "read", done < 0 ? done : 0);
	return value;
}

static uint64_t mask(uint64_t width)
{
	return width < 8 ? (1ull << 8 * width) - 1 : ~0ull;
}

static uint64_t once(const struct request *r)
{
	uint64_t value;

	if (!r->access)
		return by_kernel(r);
	value = r->access->run(r->target, r->writes ? r->value : 0) & mask(r->width);
	return r->writes ? r->value : value;
}

/* How long a tick of the time stamp counter is, in 1/1024 ns. */
static uint64_t tick_length(void)
{
	uint64_t begun = now_ns(), from = ticks(), until;

	do
		until = now_ns();
	while (until - begun < CALIBRATION_NS);
	from = ticks() - from;
	return from ? (until - begun) * 1024 / from : 0;
}

static void put_time(const char *name, uint64_t count, uint64_t length)
{
	put(name);
	put_number(count * length / 1024, 10);
}

static void run(const struct request *r)
{
	uint64_t length = tick_length(), least = ~0ull, most = 0, sum = 0, first = 0, value = 0;

	for (uint64_t n = 0; n < r->count; n++) {
		uint64_t from = ticks(), took;

		value = once(r);
		took = ticks() - from;
		first = n ? first : value;
		least = took < least ? took : least;
		most = took > most ? took : most;
		sum += took;
	}
	put("first=0x");
	put_number(first, 16);
	put(" last=0x");
	put_number(value, 16);
	put(" count=");
	put_number(r->count, 10);
	put_time(" min_ns=", least, length);
	put_time(" mean_ns=", sum / r->count, length);
	put_time(" max_ns=", most, length);
	put("\n");
	flush(1);
}

static void show_addresses(void)
{
	for (unsigned int i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++) {
		put(accesses[i].name);
		put(" 0x");
		put_number((uint64_t)accesses[i].instruction, 16);
		put(" 0x");
		put_number((uint64_t)accesses[i].before, 16);
		put("\n");
	}
	flush(1);
}

__attribute__((used)) void begin(const uint64_t *stack)
{
	const char *const *argv = (const char *const *)(stack + 1);
	struct request r = { 0 };

	if (stack[0] == 2 && same(argv[1], "addresses")) {
		show_addresses();
		leave(0);
	}
	if (stack[0] != 8)
		fail("usage", 0);
	r.route = argv[1][0];
	r.writes = argv[2][0] == 'w';
	r.width = number(argv[3]);
	r.count = number(argv[4]);
	r.value = number(argv[5]);
	r.path = argv[6];
	r.offset = number(argv[7]);
	prepare(&r);
	run(&r);
	leave(0);
}
